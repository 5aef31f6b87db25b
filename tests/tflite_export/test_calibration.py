"""Calibration images: of which classes, how they look, and what is refused."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import training
from keras_archs.analysis.real_images import check_real, neighbour_correlation
from keras_archs.errors import InputError
from keras_archs.preprocessing import CAFFE, TF, TORCH
from tests.tflite_export.networks import stripes
from tests.training.tiny_net import registered
from tflite_export import calibration_set, convert
from tflite_export.calibration import balanced, evaluation_set
from training.data import Examples, ImageData, open_dataset
from training.data.image_data import SPLITS
from training.data.prepare import prepare
from training.runs.run import new_run
from training.runs.run_folder import RunFolder

SIZES = {"black": 40, "gray": 11, "white": 70}
SHADES = {"black": 20, "gray": 120, "white": 220}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of very different sizes, which the brightness of an image gives away."""
    place = tmp_path_factory.mktemp("shades")
    for name, size in SIZES.items():
        (place / name).mkdir()
        for number in range(size):
            # One pixel is the image's own.
            pixels = np.full((32, 32, 3), SHADES[name], np.uint8)
            pixels[0, 0] = number
            Image.fromarray(pixels).save(place / name / f"{number}.png")
    return f"image_folder:{place}"


def counts(images):
    """Images of each class, by the brightness of pixels of 0..255."""
    shades = np.array(list(SHADES.values()))
    nearest = abs(images[:, 9, 9, :1] - shades).argmin(axis=1)
    return np.bincount(nearest, minlength=3).tolist()


def spec(folder, kind, tmp_path):
    if kind == "image_folder":
        return folder
    return prepare(folder, tmp_path / kind, format=kind)


@pytest.mark.parametrize("kind", ["image_folder", "tfrecord", "array_record"])
def test_classes_are_balanced_in_datasets_of_every_kind(folder, kind, tmp_path):
    data = open_dataset(spec(folder, kind, tmp_path))
    draw = {"image_shape": (32, 32, 3)}
    images = calibration_set(data, 24, **draw)
    assert (images.shape, images.dtype) == ((24, 32, 32, 3), np.float32)
    assert counts(images) == [8, 8, 8]
    assert sorted(counts(calibration_set(data, 25, **draw))) == [8, 8, 9]
    # Of the eleven gray ones a tenth each is held out for validation and test.
    assert counts(calibration_set(data, 40, **draw))[1] == len(data.splits["train"]) - 32 - 56


@pytest.mark.full
def test_a_seed_draws_the_same_images_and_another_one_others(folder):
    data = open_dataset(folder)
    first, again, other = (
        calibration_set(data, 30, seed=seed, image_shape=(32, 32, 3)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first.reshape(30, -1), axis=0)) == 30


def test_a_run_gives_its_images_preprocessed_but_not_augmented(folder, tmp_path):
    with registered():
        config = training.TrainConfig(
            model="tinynet", dataset=folder, image_size=48, augment="randaugment", flip=True
        )
        run = new_run(config, RunFolder(tmp_path))
        found = calibration_set(run, 24)
        every = run.arrays("train", 1000)[0]
        tested, labels = evaluation_set(run, 5)
        all_tested, all_labels = run.arrays("test", 1000)
    assert found.shape == (24, 48, 48, 3)
    rows = {image.tobytes() for image in every}
    assert all(image.tobytes() in rows for image in found)
    assert counts(found * 127.5 + 127.5) == [8, 8, 8]
    pairs = {(i.tobytes(), k) for i, k in zip(all_tested, all_labels, strict=True)}
    assert {(i.tobytes(), k) for i, k in zip(tested, labels, strict=True)} < pairs


@pytest.mark.full
def test_shipped_images_of_a_colour_network():
    data = open_dataset("fashion_mnist_small")
    images = calibration_set(data, 50, image_shape=(40, 40, 3), preprocessing=TORCH)
    np.testing.assert_allclose(images.min((0, 1, 2)), TORCH(np.zeros((1, 1, 3)))[0, 0], atol=1e-5)
    check_real("images", images, TORCH)
    test, labels = evaluation_set(data, 10_000, image_shape=(28, 28, 1))
    assert len(test) == len(labels) == len(data.splits["test"])


def test_only_what_is_drawn_is_read():
    """Labels tell who is drawn; no other image's bytes are asked for."""
    asked = []
    png = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy()

    def read(index):
        asked.append(int(index))
        return png

    def content(index):
        file = tf.numpy_function(read, [index], tf.string, stateful=False)
        return tf.ensure_shape(file, []), index % 2

    examples = Examples(tf.data.Dataset.range(1000), content, 3, encoded_bytes=8)
    data = ImageData("two", ("a", "b"), (8, 8, 3), dict.fromkeys(SPLITS, examples))
    calibration_set(data, 10, image_shape=(8, 8, 3))
    assert len(asked) == len(set(asked)) == 10
    assert sum(index % 2 for index in asked) == 5


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8), st.integers(1, 200), st.integers(0, 9))
def test_no_class_has_two_more_than_one_that_has_any_left(sizes, count, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    chosen = balanced(labels, count, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, len(labels))
    taken = np.bincount(labels[chosen], minlength=len(sizes))
    not_used_up = taken[taken < np.array(sizes)]
    if len(not_used_up):
        assert taken.max() - not_used_up.min() <= 1


def noise(kind, count=60, shape=(24, 24, 3)):
    numbers = np.random.default_rng(3)
    images = {
        "uniform": lambda: numbers.uniform(-1, 1, (count, *shape)),
        "normal": lambda: numbers.normal(0, 1, (count, *shape)),
        "binary": lambda: numbers.integers(0, 2, (count, *shape)) * 2 - 1,
    }
    return images[kind]().astype(np.float32)


@pytest.mark.parametrize("kind", ["uniform", "normal", "binary"])
@pytest.mark.parametrize("shape", [(16, 16, 1), (24, 24, 3), (224, 224, 3)])
def test_noise_is_refused(kind, shape):
    with pytest.raises(InputError, match="representative must be real images, got noise"):
        check_real("representative", noise(kind, 50, shape))


@pytest.mark.full
def test_noise_is_refused_by_convert(trained):
    with pytest.raises(InputError, match="representative must be real images, got noise"):
        convert(trained, "int8", representative=noise("uniform"))


def photographs(roughness):
    """Random images with a spectrum of 1 / frequency**roughness; of photographs it is about 1."""
    spectrum = np.fft.fft2(np.random.default_rng(0).normal(size=(50, 48, 48)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(48), np.fft.fftfreq(48)))
    frequency[0, 0] = 1 / 48
    return np.fft.ifft2(spectrum / frequency**roughness).real[..., None].astype(np.float32)


def shirts():
    return open_dataset("fashion_mnist_small").train.take(50).batch(50).get_single_element()[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: photographs(0.5),
        lambda: photographs(1),
        lambda: photographs(2),
        lambda: stripes(50)[0],
        lambda: shirts().numpy().astype(np.float32),
        # Black drawings with lines of one pixel, and cards of one colour each.
        lambda: (np.indices((50, 32, 32, 1))[1] % 8 == 0).astype(np.float32),
        lambda: np.random.default_rng(0).normal(size=(50, 1, 1, 3)).repeat(32, 1).repeat(32, 2),
    ],
    ids=["rough", "photographs", "smooth", "stripes", "shirts", "lines", "cards"],
)
def test_no_real_images_are_refused(make):
    check_real("images", make())


def test_correlation_of_neighbours_is_that_of_numpy():
    images = photographs(1)[:1] - photographs(1)[:1].mean()
    x = images[0, :, :, 0]
    across = np.sum(x[:, 1:] * x[:, :-1]) / x[:, 1:].size
    down = np.sum(x[1:] * x[:-1]) / x[1:].size
    expected = (across + down) / 2 / x.var()
    assert neighbour_correlation(images) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("preprocessing", "change"),
    [
        (TF, lambda pixels: pixels),
        (TORCH, lambda pixels: pixels),
        (CAFFE, lambda pixels: pixels),
        (CAFFE, lambda pixels: pixels / 255),
        (TORCH, lambda pixels: pixels / 12),
    ],
)
def test_pixels_where_preprocessed_ones_belong_are_refused(preprocessing, change):
    pixels = shirts().numpy().astype(np.float32).repeat(3, axis=-1)
    check_real("images", preprocessing(pixels), preprocessing)
    with pytest.raises(InputError, match=r"must be preprocessed images.*from 0 to 255"):
        check_real("images", change(pixels), preprocessing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be a positive integer, got 0"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({}, r"image_shape must be \(height, width, channels\)"),
    ],
)
def test_bad_arguments_are_refused(folder, arguments, message):
    with warnings.catch_warnings(), pytest.raises(InputError, match=message):
        calibration_set(open_dataset(folder), **arguments)
