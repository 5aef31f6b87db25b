"""Reading of image files beside TensorFlow's, which training and evaluation use."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_archs.errors import InputError
from tflite_export.images import read_image
from training.data.windows import centre_window


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
