"""RandAugment's and TrivialAugment's operations beside Pillow's, their strengths and draws."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from training.data.augment import operations
from training.data.augment.operations import OPERATIONS, randaugment, trivialaugment

SIDE = 48


def picture(channels: int = 3) -> np.ndarray:
    """Smooth, so that pixels half way between others have their mean; 10 to 240."""
    generator = np.random.default_rng(1)
    coarse = generator.integers(10, 240, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image if channels == 3 else image.convert("L")).reshape(SIDE, SIDE, channels)


def affine(*inverse):
    def apply(image):
        size, bilinear = image.size, Image.Resampling.BILINEAR
        return image.transform(
            size, Image.Transform.AFFINE, inverse, bilinear, fillcolor=(128, 128, 128)
        )

    return apply


def rotated(degrees):
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))


# Strength and what Pillow has for it; its enhancers count from 1, where nothing changes.
PILLOW = [
    ("Identity", 0, lambda image: image),
    ("AutoContrast", 0, ImageOps.autocontrast),
    ("Equalize", 0, ImageOps.equalize),
    *[("Rotate", degrees, rotated(degrees)) for degrees in (-30, 10, 135)],
    *[("Solarize", t, lambda image, t=t: ImageOps.solarize(image, t)) for t in (0, 100, 256)],
    *[("Posterize", bits, lambda image, b=bits: ImageOps.posterize(image, b)) for bits in (2, 8)],
    *[
        (name, change, lambda image, e=enhancer, c=change: e(image).enhance(1 + c))
        for name, enhancer in {
            "Color": ImageEnhance.Color,
            "Contrast": ImageEnhance.Contrast,
            "Brightness": ImageEnhance.Brightness,
            "Sharpness": ImageEnhance.Sharpness,
        }.items()
        for change in (-0.9, 0.5, 0.99)
    ],
    *[("ShearX", slope, affine(1, slope, 0, 0, 1, 0)) for slope in (-0.3, 0.99)],
    *[("ShearY", slope, affine(1, 0, 0, slope, 1, 0)) for slope in (-0.3, 0.99)],
    *[("TranslateX", pixels, affine(1, 0, pixels, 0, 1, 0)) for pixels in (-7, 20)],
    *[("TranslateY", pixels, affine(1, 0, 0, 0, 1, pixels)) for pixels in (-7, 20)],
]


@pytest.mark.parametrize(("name", "strength", "of_pillow"), PILLOW)
def test_operations_are_pillows(name, strength, of_pillow):
    image = picture()
    ours = OPERATIONS[name].apply(tf.constant(image), tf.constant(strength, tf.float32)).numpy()
    theirs = np.asarray(of_pillow(Image.fromarray(image)))
    assert ours.dtype == np.uint8
    difference = np.abs(ours.astype(int) - theirs)
    # Where the image's border passes, ours fades into the gray outside and Pillow's does not.
    border = 4 * SIDE if name in {"Rotate", "ShearX", "ShearY"} else 0
    assert np.count_nonzero((difference > 2).any(axis=-1)) <= border
    assert (ours != image).any() == (theirs != image).any()


@pytest.mark.parametrize("name", OPERATIONS)
def test_gray_images_are_changed_as_their_channels_would_be(name):
    gray = picture(1)
    strength = tf.constant(OPERATIONS[name].randaugment.at(0.9, SIDE), tf.float32)
    one = OPERATIONS[name].apply(tf.constant(gray), strength).numpy()
    three = OPERATIONS[name].apply(tf.constant(np.repeat(gray, 3, axis=2)), strength).numpy()
    assert one.shape == gray.shape
    assert np.abs(three.astype(int) - one).max() <= 1


# Cubuk et al. 2019, table 6, as torchvision's RandAugment has it at magnitude 30 of 0 to 30;
# torchvision's TrivialAugmentWide; both for images of 331 pixels.
STRONGEST = {
    "Rotate": (30, 135),
    "Solarize": (0, 0),
    "Posterize": (4, 2),
    "Color": (0.9, 0.99),
    "Contrast": (0.9, 0.99),
    "Brightness": (0.9, 0.99),
    "Sharpness": (0.9, 0.99),
    "ShearX": (0.3, 0.99),
    "ShearY": (0.3, 0.99),
    "TranslateX": (150, 32),
    "TranslateY": (150, 32),
}
UNSIGNED = {"Identity", "AutoContrast", "Equalize", "Solarize", "Posterize"}


def test_strengths_are_the_published_ones():
    assert len(OPERATIONS) == 14  # Cubuk et al. 2020, section 3
    for name, operation in OPERATIONS.items():
        strongest = operation.randaugment.at(1, 331), operation.trivialaugment.at(1, 331)
        assert strongest == pytest.approx(STRONGEST.get(name, (0, 0)))
        assert operation.signed == (name not in UNSIGNED)


@pytest.mark.parametrize("name", [*STRONGEST, "Identity"])
def test_without_strength_nothing_changes(name):
    operation, image = OPERATIONS[name], picture()
    strength = tf.constant(operation.randaugment.at(0, SIDE), tf.float32)
    np.testing.assert_array_equal(operation.apply(tf.constant(image), strength), image)


@pytest.fixture
def counted(monkeypatch):
    """Operations that note their name and strength instead of changing the image."""
    calls = []

    def noting(name):
        def apply(image, strength):
            tf.numpy_function(lambda s: calls.append((name, float(s))), [strength], [])
            return image

        return apply

    for name, operation in list(OPERATIONS.items()):
        monkeypatch.setitem(operations.OPERATIONS, name, operation._replace(apply=noting(name)))
    return calls


def run(augment, count):
    keys = tf.data.Dataset.range(count).map(lambda i: tf.stack([tf.constant(3, tf.int64), i]))
    image = tf.constant(picture())
    return list(keys.map(lambda key: augment(image, key)).as_numpy_iterator())


def test_randaugment_runs_the_operations_it_draws_and_no_other(counted):
    run(lambda image, key: randaugment(image, key, 2, 5), 400)
    assert len(counted) == 800
    names = [name for name, _ in counted]
    for name, operation in OPERATIONS.items():
        # 800 / 14 = 57 are expected; 25 and 95 are five deviations away.
        assert 25 <= names.count(name) <= 95
        found = {strength for other, strength in counted if other == name}
        half = operation.randaugment.at(0.5, SIDE)
        assert sorted(found) == pytest.approx([-half, half] if operation.signed else [half])


def test_trivialaugment_draws_one_operation_of_31_strengths(counted):
    run(trivialaugment, 600)
    assert len(counted) == 600
    degrees = {round(abs(s) / 4.5) for name, s in counted if name == "Rotate"}
    assert all(
        abs(s) / 4.5 == pytest.approx(round(abs(s) / 4.5)) for n, s in counted if n == "Rotate"
    )
    assert degrees <= set(range(31))
    assert len(degrees) >= 15


@settings(deadline=None, max_examples=5)
@given(side=st.integers(3, 40), channels=st.sampled_from([1, 3]), magnitude=st.floats(0, 10))
def test_any_size_and_strength(side, channels, magnitude):
    images = np.random.default_rng(side).integers(0, 256, (side, side, channels), np.uint8)
    for operation in OPERATIONS.values():
        strength = tf.constant(operation.randaugment.at(magnitude / 10, side), tf.float32)
        found = operation.apply(tf.constant(images), strength)
        assert found.shape == images.shape
        assert found.dtype == tf.uint8


@pytest.mark.full
def test_draws_follow_from_the_key():
    def augment(image, key):
        return trivialaugment(randaugment(image, key, 2, 9), key)

    one, other = run(augment, 12), run(augment, 12)
    np.testing.assert_array_equal(one, other)
    assert len({image.tobytes() for image in one}) > 8
