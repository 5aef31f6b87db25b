"""Reading of image files beside TensorFlow's, which training and evaluation use."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_archs.errors import InputError
from keras_archs.preprocessing import TF
from tests.tflite_export.files import file_of, metadata
from tests.tflite_export.networks import as_pixels, stripes
from tflite_export import Classifier, Source, attach, convert, debug, quantize_aware
from tflite_export.runtime.images import read_image
from training.data.crop_windows import centre_window


@pytest.fixture
def picture(tmp_path):
    """A smooth picture with edges, 97 x 61, as a file without loss."""
    rows, columns = np.mgrid[:61, :97]
    waves = np.stack([np.sin(rows / 7), np.cos(columns / 5), np.sin((rows + columns) / 11)], -1)
    array = np.uint8(127 + 100 * waves)
    array[20:40, 30:60] = (250, 3, 40)
    path = tmp_path / "picture.png"
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("shape", [(24, 24, 3), (32, 48, 3), (24, 24, 1), (128, 128, 3)])
@pytest.mark.parametrize("crop", [None, 0.875])
def test_pixels_are_those_of_evaluation(picture, shape, crop):
    decoded = tf.io.decode_png(picture.read_bytes(), channels=3)
    if crop:
        top, left, height, width = centre_window(61, 97, crop).numpy()
        decoded = decoded[top : top + height, left : left + width]
    expected = tf.image.resize(decoded, shape[:2], antialias=True)
    if shape[-1] == 1:
        expected = tf.image.rgb_to_grayscale(expected)
    actual = read_image(picture, shape, crop)
    assert (actual.shape, actual.dtype) == (shape, np.uint8)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1.5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_gray_or_rgb(mode, tmp_path):
    path = tmp_path / "image.tif"
    Image.new(mode, (40, 30)).save(path)
    for channels in (1, 3):
        assert read_image(path, (24, 24, channels)).shape == (24, 24, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_of_16_bits_keeps_its_high_byte(channels, tmp_path):
    values = np.array([[0, 255, 256], [0x1280, 0x80FF, 0xFFFF]], np.uint16)
    path = tmp_path / "image.png"
    Image.fromarray(values).save(path)
    actual = read_image(path, (2, 3, channels))
    np.testing.assert_array_equal(actual, tf.io.decode_png(path.read_bytes(), channels))
    np.testing.assert_array_equal(actual[..., 0], [[0, 0, 1], [0x12, 0x80, 0xFF]])


def test_an_image_is_turned_as_its_exif_data_say(tmp_path):
    upright = np.zeros((24, 24, 3), np.uint8)
    upright[:12] = 255
    path = tmp_path / "image.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned, the picture lies on its left side
    Image.fromarray(np.rot90(upright)).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path, (24, 24, 3)), upright)


def test_files_that_are_no_images_are_refused_in_one_line(tmp_path, picture):
    whole = picture.read_bytes()
    for name, content, message in [
        ("empty.png", b"", "not an image"),
        ("text.jpg", b"no image at all", "not an image"),
        ("half.png", whole[: len(whole) // 2], r"half\.png' cannot be read: "),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            read_image(tmp_path / name, (24, 24, 3))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"missing\.png' cannot be read: No such file"):
        read_image(tmp_path / "missing.png", (24, 24, 3))
    with pytest.raises(InputError, match="1 or 3 channels; the network takes 4"):
        read_image(picture, (24, 24, 4))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_image(tmp_path, (24, 24, 3))


PIXELS = as_pixels(stripes(60, seed=3)[0])
IMAGES = (PIXELS.astype(np.float32) - 127.5) / np.float32(127.5)
LABELS = stripes(60, seed=3)[1]


@pytest.mark.parametrize(
    "hold",
    [
        list,
        tf.constant,
        keras.ops.convert_to_tensor,
        lambda images: images.astype(np.float64),
        lambda images: [tf.constant(image) for image in images],
        lambda images: images.tolist(),
        np.asfortranarray,
        lambda _: PIXELS,
        lambda _: tf.constant(PIXELS),
        lambda _: [Image.fromarray(image) for image in PIXELS],
        lambda _: [turned(image) for image in PIXELS],
    ],
)
def test_convert_takes_images_in_whatever_holds_them(trained, hold):
    source = Source(trained, None, TF)
    given = {"representative": hold(IMAGES), "test": hold(IMAGES), "labels": LABELS.tolist()}
    report = convert(source, "int8", **given).report
    expected = convert(source, "int8", representative=IMAGES, test=IMAGES, labels=LABELS).report
    assert report.max_abs_difference == pytest.approx(expected.max_abs_difference, abs=1e-6)
    assert report.keras_top1 == expected.keras_top1 > 0.8
    assert report.images == 60


def turned(pixels):
    """A picture that a phone has stored on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it by 90 degrees clockwise
    file = io.BytesIO()
    Image.fromarray(np.rot90(pixels)).save(file, "png", exif=exif)
    return Image.open(file)


@pytest.mark.full
def test_one_image_is_a_batch_of_one(trained):
    assert convert(trained, test=IMAGES[0], labels=LABELS[0]).report.images == 1
    classifier = Classifier(file_of("none"))
    np.testing.assert_array_equal(classifier.predict(IMAGES[0]), classifier.predict(IMAGES[:1]))
    latency = {"repeats": 1, "warmup": 0}
    assert classifier.latency(tf.constant(IMAGES[:1]), **latency).repeats == 1
    assert debug(trained, "dynamic", convert(trained, "dynamic").content, IMAGES[0])


def test_a_file_preprocesses_pixels_if_it_says_how():
    facts = metadata(mean=(127.5,), scale=127.5)
    classifier = Classifier(attach(file_of("none"), facts))
    np.testing.assert_array_equal(classifier.predict(PIXELS), classifier.predict(IMAGES))
    np.testing.assert_array_equal(classifier.predict(PIXELS[0]), classifier.predict(IMAGES[:1]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS, "must be preprocessed as in training, got uint8 pixels"),
        (PIXELS.astype(int), "must be preprocessed images, floats of shape .*got int64"),
        (IMAGES > 0, "got bool"),
        ([IMAGES[0], IMAGES[0, 1:]], r"of shape \[n, 24, 24, 3\], got list"),
        (tf.data.Dataset.range(3), "got .*Dataset"),
        (keras.Input((24, 24, 3)), "got KerasTensor"),
        ("images.npy", "got str"),
        (IMAGES[..., :1], r"must be of shape \[n, 24, 24, 3\].*got \(60, 24, 24, 1\)"),
        (tf.constant(IMAGES[:0]), r"n >= 1, got \(0, 24, 24, 3\)"),
        (tf.constant(np.nan) * IMAGES, "holds NaN or infinity"),
    ],
)
def test_other_images_are_refused_by_the_name_of_their_argument(trained, images, message):
    classifier = Classifier(file_of("none"))
    plain = keras.Model(trained.inputs, trained.outputs)  # nothing says how it wants its images
    for name, call in {
        "test": lambda: convert(plain, test=images),
        "representative": lambda: convert(plain, "int8", representative=images),
        "images": lambda: classifier.predict(images),
        "image": lambda: classifier.latency(images),
    }.items():
        with pytest.raises(InputError, match=rf"^{name} .*{message}") as caught:
            call()
        assert "\n" not in str(caught.value)
    for name, call in {
        "representative": lambda: quantize_aware(plain, images),
        "images": lambda: debug(plain, "dynamic", b"", images),
    }.items():
        with pytest.raises(InputError, match=rf"^{name} .*{message}"):
            call()
