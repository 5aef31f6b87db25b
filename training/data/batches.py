"""From single images of any size to the batches that a network takes."""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from keras_archs.errors import InputError

from .augmentation import Augmentation
from .image_data import Examples
from .order import in_order
from .windows import Choose

AUTOTUNE = tf.data.AUTOTUNE

MEMORY_LIMIT = 2 * 2**30
"""Bytes of resized images that are cached, or of encoded ones that are put in order at once."""


def make_batches(
    examples: Examples,
    *,
    image_size: int | tuple[int, int],
    channels: int,
    classes: int,
    batch_size: int,
    preprocess: Callable[[tf.Tensor], tf.Tensor],
    training: bool,
    seed: int,
    augmentation: Augmentation,
    repeats: int = 1,
    epoch: int = 0,
    step: int = 0,
    epochs: int = 1,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Crop, resize, shuffle, vary, batch, mix and preprocess images.

    These are plain `tf.data` operations rather than Keras preprocessing layers: those follow the
    global dtype policy, labels included, and hold state that a second run would start from.

    A batch for training depends on the arguments, its epoch and its step alone: every draw is
    seeded by the image's place. So a run can go on anywhere, in another process as well.

    Args:
        examples: images of 1 or 3 channels with their labels.
        image_size: height and width of the batches' images: one number, or one for each.
        channels: 1 or 3; gray is repeated to 3, colour becomes its luminance.
        classes: length of the one-hot labels.
        preprocess: takes and returns float32 `[b, height, width, channels]`; it gets values from 0
            to 255.
        training: shuffle anew in each epoch, and drop a last batch that is not full unless it is
            the only one. The order is random among all examples whose `encoded` elements have room
            in half of `MEMORY_LIMIT`; where not all have, within blocks of so many, which follow
            each other as they are stored. Otherwise images come in their own order, all of them,
            not varied.
        seed: of order and augmentation, for training only, as all that follow but for `shard`.
        augmentation: how images are varied, and which part of them is evaluated.
        repeats: how many places of a batch show the same image, each varied by draws of its own
            (Hoffer et al. 2020). An epoch has as many batches as without, of other images each
            time; if the batch does not divide by it, some images have one place less.
        epoch: the one to begin with.
        step: the one of that epoch to begin with; nothing before it is decoded for it.
        epochs: how many follow each other, the first one included.
        shard: `(i, n)`, worker i of n. For training it gets the places from `i * b / n` on of each
            batch, `b / n` of them: what all workers get in a step is the batch of one process.
            Otherwise it gets every nth image, from the ith on. Each worker reads all of `encoded`,
            so all shards of records, and decodes its own images, or all once if they are cached.

    Returns:
        float32 images `[b, height, width, channels]` and float32 labels `[b, classes]`,
        of known cardinality; b is the worker's share of the batch size.

    Raises:
        InputError: a number is out of range, or a batch does not divide by the workers.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    for name, value in (
        ("image_size", min(height, width)),
        ("classes", classes),
        ("batch_size", batch_size),
        ("repeats", repeats),
    ):
        if value < 1:
            raise InputError(f"{name}: {value} given; allowed is 1 or more")
    if channels not in (1, 3):
        raise InputError(f"channels: {channels} given; allowed are 1 and 3")
    worker, workers = shard
    if not 0 <= worker < workers:
        raise InputError(f"shard: {shard} given; allowed is (0, n) to (n - 1, n)")

    def load(*example: tf.Tensor, choose: Choose | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = examples.decode(*example, choose=choose)
        fast = training and choose is not None
        return _resize(image, (height, width), channels, fast=fast), label

    def vary(key: tf.Tensor, *example: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image, label = example if cached else load(*example, choose=augmentation.window(key))
        return augmentation.vary(image, key), label, key

    def finish(
        images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.cast(images, tf.float32), tf.one_hot(labels, classes, dtype=tf.float32)
        if keys is not None:
            key = keys[0] - [0, keys[0, 1] % batch_size]  # of the first place of all workers
            images, labels = augmentation.mix(images, labels, key)
        return preprocess(images), labels

    count = len(examples)
    if training:
        steps = steps_in_epoch(count, batch_size)
        batch_size = min(batch_size, count)
    if batch_size % workers:
        raise InputError(
            f"batch_size: {batch_size} given; allowed for {workers} workers are its multiples"
        )
    cached = count * height * width * channels <= MEMORY_LIMIT
    if training:
        cached &= augmentation.sees_whole_images
        if cached:
            blocks, block_size = examples.encoded.map(load, AUTOTUNE).batch(count).cache(), count
        else:
            # Half of the limit, for the next block is read while the one before is worked off.
            fit = MEMORY_LIMIT // 2 // examples.encoded_bytes
            block_size = min(count, max(1, fit // batch_size) * batch_size)
            blocks = examples.encoded.batch(block_size).prefetch(1)
        batches = (
            tf.data.Dataset.range(epoch, epoch + epochs)
            .flat_map(
                lambda now: in_order(
                    blocks,
                    block_size,
                    seed=seed,
                    epoch=now,
                    start=tf.cast(now == epoch, tf.int64) * (step * batch_size),
                    stop=steps * batch_size,
                    batch_size=batch_size,
                    repeats=repeats,
                    shard=shard,
                )
            )
            .map(vary, AUTOTUNE)
            .batch(batch_size // workers, drop_remainder=True)
            .apply(tf.data.experimental.assert_cardinality(epochs * steps - step))
        )
    else:
        seen = partial(load, choose=augmentation.test_window)
        images = examples.encoded.shard(workers, worker).map(seen, AUTOTUNE)
        batches = (images.cache() if cached else images).batch(batch_size // workers)
    return batches.map(finish, AUTOTUNE).prefetch(AUTOTUNE)


def steps_in_epoch(count: int, batch_size: int) -> int:
    """Batches for training that so many images make."""
    return max(1, count // batch_size)


def _resize(image: tf.Tensor, size: tuple[int, int], channels: int, *, fast: bool) -> tf.Tensor:
    """Bilinear; the fast way is without antialiasing where each side shrinks to a half at most.

    Down to there every pixel still counts, and TensorFlow's antialiasing takes longer than the
    decoding does.
    """

    def antialiased() -> tf.Tensor:
        resized = tf.image.resize(image, size, antialias=True)
        return tf.saturate_cast(tf.round(resized), tf.uint8)

    def plain() -> tf.Tensor:
        # No weights below 0: rounding needs no bounds.
        return tf.cast(tf.image.resize(image, size) + 0.5, tf.uint8)

    if fast:
        near = tf.reduce_all(tf.shape(image)[:2] <= 2 * tf.constant(size))
        resized = tf.cond(near, plain, antialiased)
    else:
        resized = antialiased()
    resized.set_shape((*size, image.shape[-1]))
    if image.shape[-1] == channels:
        return resized
    return (tf.image.grayscale_to_rgb if channels == 3 else tf.image.rgb_to_grayscale)(resized)
