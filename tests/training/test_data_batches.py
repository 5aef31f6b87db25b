"""make_batches: what it yields, in which order, and what one seed settles."""

import dataclasses
import math
import re
from collections import Counter
from itertools import chain, pairwise
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_archs.errors import InputError
from training.data import Augmentation, Examples, batches, make_batches


def numbered(count: int, channels: int = 3, size: int = 4) -> tf.data.Dataset:
    """Image i has the gray value i, but for a left column of 255, and the label i % 3."""
    images = np.zeros((count, size, size, channels), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[:, :, 0] = 255
    return tf.data.Dataset.from_tensor_slices((images, np.arange(count, dtype=np.int64) % 3))


def batch(decoded, **changes) -> tf.data.Dataset:
    defaults: dict[str, Any] = {
        "image_size": 4,
        "channels": 3,
        "classes": 3,
        "batch_size": 8,
        "preprocess": lambda images: images,
        "training": True,
        "seed": 0,
        "augmentation": Augmentation(flip=True),
    }
    return make_batches(stored(decoded), **(defaults | changes))


def stored(decoded: tf.data.Dataset) -> Examples:
    """Images as PNG files, of which a block has 16 bytes each."""
    files = decoded.map(lambda image, label: (tf.io.encode_png(image), label))
    channels = decoded.element_spec[0].shape[-1]
    return Examples(files, lambda file, label: (file, label), channels, encoded_bytes=16)


def read(dataset) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def order(images: np.ndarray) -> list[int]:
    return images[:, 1, 1, 0].astype(int).tolist()


def mirrored(images: np.ndarray) -> list[bool]:
    return (images[:, 0, -1, 0] == 255).tolist()


@pytest.mark.full
@given(
    count=st.integers(1, 20),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    image_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    from_channels=st.sampled_from([1, 3]),
    channels=st.sampled_from([1, 3]),
    batch_size=st.integers(1, 8),
    training=st.booleans(),
    flip=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_shapes_types_and_cardinality(
    count, sizes, image_size, from_channels, channels, batch_size, training, flip
):
    images = np.full((count, *sizes, from_channels), 200, np.uint8)
    labels = np.arange(count, dtype=np.int64) % 5
    dataset = batch(
        tf.data.Dataset.from_tensor_slices((images, labels)),
        image_size=image_size,
        channels=channels,
        classes=5,
        batch_size=batch_size,
        training=training,
        augmentation=Augmentation(flip=flip),
    )
    whole = training and count >= batch_size
    assert int(dataset.cardinality()) == (count // batch_size if whole else -(-count // batch_size))
    found, one_hot = read(dataset)
    kept = count - count % batch_size if whole else count
    assert found.shape == (kept, *image_size, channels)
    assert one_hot.shape == (kept, 5)
    assert found.dtype == one_hot.dtype == np.float32
    assert (found == 200).all()
    assert (one_hot.sum(axis=1) == 1).all()
    if not training:
        assert one_hot.argmax(axis=1).tolist() == labels.tolist()


def test_evaluation_keeps_order_images_and_last_batch():
    images, labels = read(batch(numbered(20), training=False))
    assert order(images) == list(range(20))
    assert not any(mirrored(images))
    assert labels.argmax(axis=1).tolist() == [i % 3 for i in range(20)]


def test_training_epochs_differ_in_order_and_mirroring():
    images, labels = read(batch(numbered(200), batch_size=20, epochs=3))
    epochs = list(zip(np.split(images, 3), np.split(labels, 3), strict=True))
    for images, labels in epochs:
        assert sorted(order(images)) == list(range(200))
        assert labels.argmax(axis=1).tolist() == [i % 3 for i in order(images)]
        # 200 tosses of a coin miss 60 to 140 heads with a probability of 1e-8.
        assert 60 <= sum(mirrored(images)) <= 140
    assert len({tuple(order(images)) for images, _ in epochs}) == 3
    # By place in the epoch, for by image the new order alone would make a difference.
    assert len({tuple(mirrored(images)) for images, _ in epochs}) == 3


def test_one_seed_gives_one_run():
    def run(seed):
        return read(batch(numbered(50), seed=seed, epochs=3))[0]

    first = run(5)
    keras.utils.set_random_seed(7)
    np.testing.assert_array_equal(run(5), first)
    assert (run(6) != first).any()


@pytest.mark.full
@settings(deadline=None, max_examples=12)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 16),
    limit=st.sampled_from([2**30, 32 * 7]),
    repeats=st.integers(1, 3),
    begin=st.data(),
)
def test_batches_from_any_place_are_those_of_the_whole_run(
    count, batch_size, limit, repeats, begin
):
    steps = count // min(count, batch_size)
    epoch, step = begin.draw(st.integers(0, 2)), begin.draw(st.integers(0, steps))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MEMORY_LIMIT", limit)
        images = numbered(count, channels=1, size=32)
        options = {"channels": 1, "image_size": 32, "batch_size": batch_size, "repeats": repeats}
        options["augmentation"] = Augmentation(flip=True, crop="shift")
        whole = list(batch(images, epochs=3, **options))
        rest = list(batch(images, epoch=epoch, step=step, epochs=3 - epoch, **options))
    assert len(rest) == 3 * steps - (epoch * steps + step)
    for one, other in zip(whole[epoch * steps + step :], rest, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.full
@settings(deadline=None, max_examples=5)
@given(
    workers=st.integers(1, 4),
    share=st.integers(1, 4),
    extra=st.integers(0, 30),
    limit=st.sampled_from([2**30, 16 * 7]),
    repeats=st.integers(1, 3),
    begin=st.integers(0, 1),
)
def test_workers_share_each_batch_of_one_process(workers, share, extra, limit, repeats, begin):
    size = workers * share
    images = numbered(size + extra, channels=1)
    options = {"channels": 1, "batch_size": size, "step": begin, "epochs": 2, "repeats": repeats}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MEMORY_LIMIT", limit)
        whole = list(batch(images, **options).as_numpy_iterator())
        parts = [batch(images, **options, shard=(i, workers)) for i in range(workers)]
        assert {int(part.cardinality()) for part in parts} == {len(whole)}
        steps = list(zip(*(part.as_numpy_iterator() for part in parts), strict=True))
    for one, found in zip(whole, steps, strict=True):
        assert {len(labels) for _, labels in found} == {share}
        for all_of_it, of_workers in zip(one, zip(*found, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(of_workers), all_of_it)


@pytest.mark.full
@settings(deadline=None, max_examples=15)
@given(
    batch_size=st.integers(2, 16),
    extra=st.integers(0, 40),
    repeats=st.integers(1, 5),
    limit=st.sampled_from([2**30, 2 * 16 * 10]),
)
def test_repeated_images_share_a_batch_and_have_other_neighbours(batch_size, extra, repeats, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MEMORY_LIMIT", limit)
        images = numbered(batch_size + extra, channels=1)
        found = batch(images, channels=1, batch_size=batch_size, repeats=repeats)
        numbers = [order(images) for images, _ in found.as_numpy_iterator()]
    assert len(numbers) == (batch_size + extra) // batch_size
    seen = [number for of_batch in numbers for number in set(of_batch)]
    assert len(seen) == len(set(seen)), "no image is in two batches"
    for of_batch in numbers:
        times = sorted(Counter(of_batch).values())
        assert sum(times) == batch_size
        assert max(times) <= repeats
        assert len(times) == math.ceil(batch_size / repeats)
        if repeats < batch_size:
            assert all(one != other for one, other in pairwise(of_batch))


@pytest.mark.full
@pytest.mark.parametrize("limit", [2**30, 2 * 16 * 40])
def test_repeated_images_vary_and_are_others_in_each_epoch(monkeypatch, limit):
    monkeypatch.setattr(batches, "MEMORY_LIMIT", limit)
    images, labels = read(batch(numbered(240), batch_size=24, repeats=3, epochs=6))
    assert labels.argmax(axis=1).tolist() == [number % 3 for number in order(images)]
    seen = [set(order(epoch)) for epoch in np.split(images, 6)]
    assert {len(numbers) for numbers in seen} == {80}
    # By chance, 6 epochs of a third leave (2/3)^6 of the images out: 21 of 240.
    assert 200 <= len(set().union(*seen)) <= 235
    copies = np.array(mirrored(images)).reshape(-1, 3, 8).sum(1)
    # Of three tosses, a quarter has one outcome alone.
    assert 0.15 < np.isin(copies, [0, 3]).mean() < 0.35


@pytest.mark.parametrize("count", [2, 23, 24])
def test_workers_evaluate_every_image_once(count):
    parts = [batch(numbered(count), training=False, shard=(i, 4)) for i in range(4)]
    found = [
        order(np.concatenate([x for x, _ in part] or [np.empty((0, 4, 4, 3))])) for part in parts
    ]
    assert sorted(chain(*found)) == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_what_a_run_has_behind_it_is_not_decoded_again(monkeypatch):
    decoded = []

    def content(file, label):
        image = tf.io.decode_png(file)
        tf.numpy_function(lambda number: decoded.append(int(number)), [image[1, 1, 0]], [])
        return file, label

    monkeypatch.setattr(batches, "MEMORY_LIMIT", 2 * 16 * 10)
    examples = dataclasses.replace(stored(numbered(64, channels=1)), content=content)
    options = {"image_size": 4, "channels": 1, "classes": 3, "batch_size": 8}
    options |= {"preprocess": lambda x: x, "training": True, "seed": 0}
    rest = make_batches(examples, **options, augmentation=Augmentation(), step=6)
    images, _ = read(rest)
    assert sorted(decoded) == sorted(order(images))
    assert len(decoded) == 16


def test_no_flip_when_told_so():
    images, _ = read(batch(numbered(50), augmentation=Augmentation()))
    assert not any(mirrored(images))


def test_crop_moves_each_image_by_up_to_a_sixteenth():
    image = np.arange(1, 32 * 32 + 1).reshape(32, 32, 1) % 251 + 1
    images = np.repeat(image[None].astype(np.uint8), 60, axis=0)
    examples = tf.data.Dataset.from_tensor_slices((images, np.zeros(60, np.int64)))
    shift = Augmentation(crop="shift")
    options = {"image_size": 32, "channels": 1, "batch_size": 20, "epochs": 2}
    dataset = batch(examples, augmentation=shift, **options)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = {
        padded[top : top + 32, left : left + 32].astype(np.float32).tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    moves = [windows[found.tobytes()] for found in read(dataset)[0]]
    epochs = moves[:60], moves[60:]
    assert epochs[0] != epochs[1]
    # 60 of 25 equally likely moves: fewer than 15 different ones are out of the question.
    assert len(set(epochs[0])) >= 15


@pytest.mark.full
def test_images_beyond_the_memory_limit(monkeypatch):
    """They come from the source anew in each epoch, a few put in order at a time."""
    reads = []

    def source():
        reads.append(1)
        for i in range(64):
            yield np.full((4, 4, 1), i, np.uint8), i % 3

    spec = tf.TensorSpec((4, 4, 1), tf.uint8), tf.TensorSpec((), tf.int64)
    examples = tf.data.Dataset.from_generator(source, output_signature=spec).apply(
        tf.data.experimental.assert_cardinality(64)
    )
    for limit, expected in ((2**30, 1), (2 * 16 * 10, 2)):
        reads.clear()
        monkeypatch.setattr(batches, "MEMORY_LIMIT", limit)
        numbers = order(read(batch(examples, channels=1, epochs=2))[0])
        assert sorted(numbers[:64]) == sorted(numbers[64:]) == list(range(64))
        assert len(reads) == expected
    assert all(number < place + 10 for place, number in enumerate(numbers[:64]))
    assert numbers[:64] != numbers[64:] != list(range(64))


@pytest.mark.parametrize("size", [11, 40, (20, 97)])
def test_resize_is_antialiased_bilinear(size):
    """Pillow's, an implementation of its own, agrees to a gray level or two."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    dataset = tf.data.Dataset.from_tensors((image, np.int64(0)))
    ours, _ = read(batch(dataset, image_size=size, training=False))
    height, width = np.broadcast_to(size, 2).tolist()
    theirs = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    assert np.abs(ours[0] - np.asarray(theirs, np.float32)).max() <= 2


def test_gray_is_repeated_and_colour_becomes_luminance():
    gray, _ = read(batch(numbered(4, channels=1), training=False))
    assert (gray == gray[..., :1]).all()
    colour = np.zeros((1, 4, 4, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices((colour, np.zeros(1, np.int64)))
    luminance, _ = read(batch(dataset, channels=1, training=False))
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B
    assert np.abs(luminance - 124.2).max() <= 1


def test_preprocess_gets_float32_from_0_to_255_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_float16")
    dataset = batch(numbered(300), training=False, preprocess=lambda x: x / 127.5 - 1)
    images, labels = read(dataset)
    assert images.dtype == labels.dtype == np.float32
    assert images.min() == -1
    assert images.max() == 1
    assert math.isclose(images[100, 1, 1, 0], 100 / 127.5 - 1, rel_tol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 0},
        {"batch_size": -1},
        {"repeats": 0},
        {"classes": 0},
        {"channels": 4},
        {"shard": (2, 2)},
        {"batch_size": 3, "shard": (0, 2)},
        {"batch_size": 3, "shard": (0, 2), "training": False},
    ],
)
def test_refused(change):
    (name, value), *_ = change.items()
    with pytest.raises(InputError, match=rf"^{name} must be .*got {re.escape(str(value))}\."):
        batch(numbered(4), **change)
