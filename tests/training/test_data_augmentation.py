"""Windows, erasing and mixing beside NumPy, and the whole pipeline with all of them."""

import io
import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_archs.errors import InputError
from training import TrainConfig
from training.data import Augmentation, Examples, make_batches
from training.data.crop_windows import centre_window, random_window
from training.data.decode.decode import decode


def keys(count: int) -> tf.data.Dataset:
    return tf.data.Dataset.range(count).map(lambda i: tf.stack([tf.constant(1, tf.int64), i]))


def windows(height, width, count, area, aspect):
    def draw(key):
        sides = tf.constant(height), tf.constant(width)
        return random_window(*sides, key, area=area, aspect=aspect)

    return np.stack(list(keys(count).map(draw).as_numpy_iterator()))


@pytest.mark.parametrize(("height", "width"), [(300, 400), (64, 64)])
def test_random_windows_have_the_published_sizes(height, width):
    top, left, h, w = windows(height, width, 600, (0.08, 1), (3 / 4, 4 / 3)).T
    assert (np.stack([top, left]) >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    area, aspect = h * w / (height * width), w / h
    assert area.min() >= 0.08 * 0.95  # whole pixels
    assert (aspect >= 3 / 4 * 0.93).all()
    assert (aspect <= 4 / 3 * 1.07).all()
    # Simulated: the same draws of another generator, with the sizes that do not fit drawn anew.
    generator = np.random.default_rng(0)
    share = generator.uniform(0.08, 1, 20000)
    stretch = np.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3), 20000))
    fits = np.sqrt(height * width * share * stretch) <= width
    fits &= np.sqrt(height * width * share / stretch) <= height
    assert abs(area.mean() - share[fits].mean()) < 5 * 0.25 / math.sqrt(600)
    assert abs(np.log(aspect).mean() - np.log(stretch[fits]).mean()) < 5 * 0.17 / math.sqrt(600)
    # Places: from one border to the other.
    assert top[h < height].min() == 0
    assert (top + h).max() == height
    assert len(set(left)) > 20


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(10, 100, (10, 13)), (90, 10, (13, 10)), (1, 1, (1, 1))]
)
def test_images_too_long_for_any_draw_give_their_largest_part(height, width, expected):
    found = windows(height, width, 5, (0.9, 1), (3 / 4, 4 / 3))
    assert {tuple(size) for size in found[:, 2:]} == {expected}


@given(height=st.integers(1, 400), width=st.integers(1, 400), share=st.floats(0.01, 1))
def test_centre_window_is_a_square_in_the_middle(height, width, share):
    sides = tf.constant(height), tf.constant(width)
    top, left, h, w = (int(n) for n in centre_window(*sides, share))
    assert h == w
    assert abs(h - max(1, share * min(height, width))) <= 0.5 + 1e-4
    assert abs(2 * top + h - height) <= 1
    assert abs(2 * left + w - width) <= 1


def noise(height: int, width: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("kind", "channels"),
    [("JPEG", 1), ("JPEG", 3), ("PNG", 1), ("PNG", 3), ("GIF", 3), ("BMP", 3)],
)
def test_a_window_is_decoded_as_the_whole_image_is(kind, channels):
    file = io.BytesIO()
    noise(61, 83).save(file, kind)
    content = tf.constant(file.getvalue())
    whole = decode(content, channels=channels).numpy()
    part = decode(
        content,
        lambda height, width: tf.stack([height - 50, width - 66, 37, 40]),
        channels=channels,
    )
    expected = whole[11:48, 17:57]
    assert part.shape == expected.shape
    # libjpeg smooths the colours of a window's outermost columns without what lies beside them.
    inner = np.abs(part.numpy().astype(int) - expected)[:, 2:-2]
    assert inner.max() == 0


def encoded(count: int, kind: str = "PNG") -> Examples:
    """Image i, 40 x 60, is i, but for a left half of 255; its label is i % 5."""
    contents = []
    for i in range(count):
        pixels = np.full((40, 60, 3), i, np.uint8)
        pixels[:, :30] = 255
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        contents.append(file.getvalue())
    labels = np.arange(count, dtype=np.int64) % 5
    return Examples(
        tf.data.Dataset.from_tensor_slices((contents, labels)),
        lambda content, label: (content, label),
        channels=3,
        encoded_bytes=500,
    )


def batches(examples: Examples, augmentation: Augmentation, **changes) -> tf.data.Dataset:
    options: dict[str, Any] = {
        "image_size": 32,
        "channels": 3,
        "classes": 5,
        "batch_size": 8,
        "seed": 0,
    }
    options |= {"preprocess": lambda images: images, "training": True}
    return make_batches(examples, augmentation=augmentation, **(options | changes))


@pytest.mark.full
@pytest.mark.parametrize(
    "augment", ["randaugment", pytest.param("trivialaugment", marks=pytest.mark.slow)]
)
def test_all_of_it_is_a_function_of_epoch_and_step(augment):
    """In one process, resumed, and shared by two workers; float32 whatever the global policy."""
    augmentation = Augmentation(
        flip=True, crop="resized", augment=augment, random_erasing=0.5, mixup=0.2, cutmix=1.0
    )
    keras.config.set_dtype_policy("mixed_float16")
    examples = encoded(24)
    whole = list(batches(examples, augmentation, epochs=2).as_numpy_iterator())
    again = list(batches(examples, augmentation, epochs=2).as_numpy_iterator())
    rest = list(batches(examples, augmentation, epoch=1, step=1).as_numpy_iterator())
    parts = [
        list(batches(examples, augmentation, epochs=2, shard=(i, 2)).as_numpy_iterator())
        for i in range(2)
    ]
    shared = [
        tuple(np.concatenate(half) for half in zip(*pair, strict=True))
        for pair in zip(*parts, strict=True)
    ]
    for runs in ((whole, again), (whole, shared), (whole[4:], rest)):
        for one, other in zip(*runs, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
    for images, labels in whole:
        assert images.dtype == labels.dtype == np.float32
        assert images.shape == (8, 32, 32, 3)
        assert images.min() >= 0
        assert images.max() <= 255
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert not np.array_equal(whole[0][0], whole[3][0])


@pytest.mark.full
def test_settings_leave_each_others_draws_as_they_are():
    plain = next(iter(batches(encoded(8), Augmentation(flip=True, crop="resized"))))[0].numpy()
    erased = Augmentation(flip=True, crop="resized", random_erasing=1.0)
    found = next(iter(batches(encoded(8), erased)))[0].numpy()
    changed = (found != plain).any(axis=-1).mean(axis=(1, 2))
    # A rectangle of 0.02 to 1/3 of the image, noise equal to what it covers being rare.
    assert (changed > 0.01).all()
    assert (changed < 0.36).all()


@pytest.mark.parametrize("size", [32, 33])
def test_erasing_covers_one_rectangle_with_noise(size):
    augmentation = Augmentation(random_erasing=0.5)
    image = tf.zeros([size, size, 3], tf.uint8)
    found = np.stack(
        list(keys(400).map(lambda key: augmentation.apply(image, key)).as_numpy_iterator())
    )
    touched = found.any(axis=-1)
    erased = touched.any(axis=(1, 2))
    assert 150 <= erased.sum() <= 250  # 200, and five deviations of 10
    values = []
    for pixels, mask in zip(found[erased], touched[erased], strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        area, aspect = box[..., 0].size / size**2, box.shape[1] / box.shape[0]
        assert 0.01 <= area <= 0.36  # 0.02 to 1/3 in whole pixels
        assert 0.3 * 0.75 <= aspect <= 1 / 0.3 / 0.75
        values.append(box.ravel())
    values = np.concatenate(values)
    assert abs(values.mean() - 127.5) < 2
    assert {values.min(), values.max()} == {0, 255}


def mixed(count: int, size: int, batch: int, **alphas: Any):
    """Batches of one-coloured images, image i of the colour i, whose labels are their numbers."""
    images = tf.broadcast_to(tf.range(float(batch))[:, None, None, None], [batch, size, size, 1])
    labels = tf.one_hot(tf.range(batch), batch)
    augmentation = Augmentation(**alphas)
    draws = keys(count).map(lambda key: augmentation.mix(images, labels, key))
    return [(x[..., 0], y) for x, y in draws.as_numpy_iterator()]


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
def test_labels_are_mixed_as_the_pixels_are(batch):
    kinds = set()
    for images, labels in mixed(60, 16, batch, mixup=0.5, cutmix=1.0):
        numbers = np.arange(batch)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        # The mean of an image is that of the numbers its label names, weighted by it.
        np.testing.assert_allclose(images.mean(axis=(1, 2)), labels @ numbers, rtol=1e-5, atol=1e-5)
        kinds.add((images.std(axis=(1, 2)) > 1e-3).any())
        partners = labels.copy()
        partners[numbers, numbers] = 0
        assert (np.count_nonzero(partners > 1e-6, axis=1) <= 1).all()
    assert kinds == ({False, True} if batch > 1 else {False})


def test_cutmix_pastes_one_rectangle_of_the_neighbour():
    for images, labels in mixed(100, 16, 4, cutmix=1.0):
        pasted = images != np.arange(4)[:, None, None]
        assert (pasted == pasted[0]).all()
        assert (images[pasted] == np.repeat([1, 0, 3, 2], pasted[0].sum())).all()
        rows, columns = pasted[0].any(1).sum(), pasted[0].any(0).sum()
        assert rows * columns == pasted[0].sum()
        np.testing.assert_allclose(labels[0, 1], pasted[0].mean(), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha):
    shares = np.array([labels[0, 0] for _, labels in mixed(1500, 2, 2, mixup=alpha)])
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha); its mean is 1/2
    assert abs(shares.mean() - 0.5) < 5 * math.sqrt(variance / 1500)
    assert abs(shares.var() / variance - 1) < 0.2


@pytest.mark.full
@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_areas_of_cutmix_are_those_of_beta_distributed_shares(alpha):
    """Beside the paper's algorithm in NumPy, with the draws of another generator."""
    size, count = 32, 1500
    areas = [(x[0] != 0).mean() for x, _ in mixed(count, size, 2, cutmix=alpha)]
    generator = np.random.default_rng(0)
    share = generator.beta(alpha, alpha, 20000)
    side = np.floor(size * np.sqrt(1 - share)).astype(int)
    row, column = generator.integers(0, size, (2, 20000))
    height, width = (
        np.minimum(at + side // 2, size) - np.maximum(at - side // 2, 0) for at in (row, column)
    )
    expected = height * width / size**2
    for quantity in (lambda x: x, lambda x: (x - expected.mean()) ** 2):
        wanted = quantity(expected)
        error = wanted.std() / math.sqrt(count)
        assert abs(quantity(np.array(areas)).mean() - wanted.mean()) < 5 * error


def test_one_of_both_mixings_for_each_batch():
    pasted = [(x.std(axis=(1, 2)) > 1e-3).any() for x, _ in mixed(400, 16, 2, mixup=1, cutmix=1)]
    # Half of them, less the one in 20 whose rectangle is empty: 190, and five deviations of 10.
    assert 140 <= sum(pasted) <= 240


@settings(deadline=None, max_examples=4)
@given(share=st.floats(0.3, 1))
def test_evaluation_sees_the_centred_square(share):
    augmentation = Augmentation(crop="resized", test_crop=share)
    images, _ = next(iter(batches(encoded(3), augmentation, training=False)))
    # Of the 60 columns the left 30 are white: so is the left half of each centred square.
    found = images.numpy()[..., 0]
    np.testing.assert_array_equal(found[:, :, :14], np.full((3, 32, 14), 255))
    np.testing.assert_array_equal(found[:, 5, 18:], np.arange(3)[:, None] * np.ones((3, 14)))


def test_evaluation_crops_only_where_training_does():
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (60, 60, 3))
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    examples = Examples(
        tf.data.Dataset.from_tensors((file.getvalue(), np.int64(0))),
        lambda content, label: (content, label),
        channels=3,
        encoded_bytes=500,
    )
    for augmentation, seen in (
        (Augmentation(crop="shift"), 60),
        (Augmentation(crop="resized"), 52),  # 0.875 of 60
        (Augmentation(crop="resized", test_crop=1.0), 60),
        (Augmentation(crop="none", test_crop=0.5), 30),
    ):
        options = {"training": False, "image_size": seen}
        images, _ = next(iter(batches(examples, augmentation, **options)))
        margin = (60 - seen) // 2
        np.testing.assert_array_equal(images[0], ramp[margin : 60 - margin, margin : 60 - margin])


def settings_of(**changes: Any) -> TrainConfig:
    return TrainConfig(model="mobilenet", dataset="fashion_mnist_small", **changes)


def test_settings_of_a_run_are_those_of_its_batches():
    assert settings_of().augmentation == Augmentation(flip=True, crop="shift")
    changes = {
        "crop": "resized",
        "crop_scale": 0.35,
        "test_crop": 0.95,
        "mixup": 0.2,
    }
    changes |= {"augment": "randaugment", "randaugment_magnitude": 7.0, "random_erasing": 0.25}
    assert settings_of(**changes).augmentation == Augmentation(flip=True, **changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop", "zoom"),
        ("crop_scale", 0),
        ("test_crop", 1.5),
        ("augment", "autoaugment"),
        ("randaugment_layers", 0),
        ("randaugment_magnitude", 11),
        ("random_erasing", -0.1),
        ("mixup", -1),
        ("cutmix", -1),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(InputError, match=f"^{name} .* got {value!r}"):
        settings_of(**{name: value})
