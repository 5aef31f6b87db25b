"""From single images of any size to the batches that a network takes."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_archs.errors import InputError
from training.data.image_data import Examples

MEMORY_LIMIT = 2 * 2**30
"""Bytes of resized images that are cached, or of encoded ones that are put in order at once."""


def make_batches(
    examples: Examples,
    *,
    image_size: int,
    channels: int,
    classes: int,
    batch_size: int,
    preprocess: Callable[[tf.Tensor], tf.Tensor],
    training: bool,
    seed: int,
    flip: bool,
    crop: bool,
    epoch: int = 0,
    step: int = 0,
    epochs: int = 1,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Resize, shuffle, flip and crop, batch and preprocess images.

    These are plain `tf.data` operations rather than Keras preprocessing layers: those follow the
    global dtype policy, labels included, and hold state that a second run would start from.

    A batch for training depends on the arguments, its epoch and its step alone: every draw is
    seeded by the image's place. So a run can go on anywhere, in another process as well.

    Args:
        examples: images of 1 or 3 channels with their labels.
        image_size: height and width of the batches' images.
        channels: 1 or 3; gray is repeated to 3, colour becomes its luminance.
        classes: length of the one-hot labels.
        preprocess: takes and returns float32 `[b, image_size, image_size, channels]`; it gets
            values from 0 to 255.
        training: shuffle anew in each epoch, and drop a last batch that is not full unless it is
            the only one. Otherwise images come in their own order, all of them, unchanged.
        seed: of order, mirroring and cropping; for training only, as all that follow.
        flip: mirror each image, left to right, with probability 1/2.
        crop: pad each image by a sixteenth of its side with zeros and cut it out again at a
            random place.
        epoch: the one to begin with.
        step: the one of that epoch to begin with; nothing before it is decoded for it.
        epochs: how many follow each other, the first one included.
        shard: `(i, n)`, worker i of n. For training it gets the places from `i * b / n` on of each
            batch, `b / n` of them: what all workers get in a step is the batch of one process.
            Otherwise it gets every nth image, from the ith on.

    Returns:
        float32 images `[b, image_size, image_size, channels]` and float32 labels `[b, classes]`,
        of known cardinality; b is the worker's share of the batch size.

    Raises:
        InputError: a number is out of range, or a batch does not divide by the workers.
    """
    for name, value in (
        ("image_size", image_size),
        ("classes", classes),
        ("batch_size", batch_size),
    ):
        if value < 1:
            raise InputError(f"{name}: {value} given; allowed is 1 or more")
    if channels not in (1, 3):
        raise InputError(f"channels: {channels} given; allowed are 1 and 3")
    worker, workers = shard
    if not 0 <= worker < workers:
        raise InputError(f"shard: {shard} given; allowed is (0, n) to (n - 1, n)")

    def load(*example: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = examples.decode(*example)
        return _resize(image, image_size, channels), label

    count = len(examples)
    cached = count * image_size * image_size * channels <= MEMORY_LIMIT
    if not training:
        _require_whole_shares(batch_size, workers)
        images = examples.encoded.shard(workers, worker).map(load, tf.data.AUTOTUNE)
        batches = (images.cache() if cached else images).batch(batch_size // workers)
    else:
        images = examples.encoded.map(load, tf.data.AUTOTUNE)
        steps = steps_in_epoch(count, batch_size)
        batch_size = min(batch_size, count)
        _require_whole_shares(batch_size, workers)
        if cached:
            blocks, block_size = images.batch(count).cache(), count
        else:
            # Half of the limit, for the next block is read while the one before is worked off.
            block_size = min(count, max(1, MEMORY_LIMIT // 2 // examples.encoded_bytes))
            blocks = examples.encoded.batch(block_size).prefetch(1)

        def finish(place: tf.Tensor, *example: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, label = example if cached else load(*example)
            key = tf.random.fold_in([seed, place[0]], place[1])
            return _augment(image, key, flip, crop), label

        batches = (
            tf.data.Dataset.range(epoch, epoch + epochs)
            .flat_map(
                lambda now: _in_order(
                    blocks,
                    block_size,
                    seed=seed,
                    epoch=now,
                    start=tf.cast(now == epoch, tf.int64) * (step * batch_size),
                    stop=steps * batch_size,
                    batch_size=batch_size,
                    shard=shard,
                )
            )
            .map(finish, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size // workers, drop_remainder=True)
            .apply(tf.data.experimental.assert_cardinality(epochs * steps - step))
        )
    return batches.map(
        lambda images, labels: (
            preprocess(tf.cast(images, tf.float32)),
            tf.one_hot(labels, classes, dtype=tf.float32),
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


def steps_in_epoch(count: int, batch_size: int) -> int:
    """Batches for training that so many images make."""
    return max(1, count // batch_size)


def _require_whole_shares(batch_size: int, workers: int) -> None:
    if batch_size % workers:
        raise InputError(
            f"batch_size: {batch_size} given; allowed for {workers} workers are its multiples"
        )


def _resize(image: tf.Tensor, size: int, channels: int) -> tf.Tensor:
    resized = tf.image.resize(image, (size, size), antialias=True)
    resized = tf.saturate_cast(tf.round(resized), tf.uint8)
    resized.set_shape((size, size, image.shape[-1]))
    if image.shape[-1] == channels:
        return resized
    return (tf.image.grayscale_to_rgb if channels == 3 else tf.image.rgb_to_grayscale)(resized)


def _in_order(
    blocks: tf.data.Dataset,
    block_size: int,
    *,
    seed: int,
    epoch: tf.Tensor,
    start: tf.Tensor,
    stop: int,
    batch_size: int,
    shard: tuple[int, int],
) -> tf.data.Dataset:
    """The examples at a worker's places from `start` to `stop` of an epoch's order.

    The order is random within a block. Unlike `Dataset.shuffle`, whose state is a buffer and
    whatever it drew before, a permutation by index can be entered anywhere.

    Returns:
        `(epoch, place)`, int64 `[2]`, in front of each example's components.
    """

    def of_block(number: tf.Tensor, block: Any) -> tf.data.Dataset:
        parts = tf.nest.flatten(block)
        first = number * block_size
        size = tf.shape(parts[0], tf.int64)[0]
        key = tf.random.fold_in([seed, epoch], number)

        def pick(place: tf.Tensor) -> tuple[tf.Tensor, ...]:
            index = tf.random.experimental.index_shuffle(place - first, key, size - 1)
            return tf.stack([epoch, place]), *(part[index] for part in parts)

        places = tf.data.Dataset.range(tf.maximum(first, start), tf.minimum(first + size, stop))
        return places.filter(is_own).map(pick)

    worker, workers = shard

    def is_own(place: tf.Tensor) -> tf.Tensor:
        return place % batch_size * workers // batch_size == worker

    return blocks.enumerate().skip(start // block_size).flat_map(of_block)


def _augment(image: tf.Tensor, key: tf.Tensor, flip: bool, crop: bool) -> tf.Tensor:
    """Flip and crop an image by the random numbers of its key."""
    toss, *offset = tf.unstack(tf.random.stateless_uniform([3], key))
    if flip:
        image = tf.where(toss < 0.5, image[:, ::-1], image)
    if crop:
        size, margin = image.shape, image.shape[0] // 16
        padded = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]])
        top, left = (tf.cast(draw * (2 * margin + 1), tf.int32) for draw in offset)
        image = tf.slice(padded, [top, left, 0], size)
    return image
