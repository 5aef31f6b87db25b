"""Makes batches for a network from single images of any size."""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from keras_archs.errors import InputError

from .augment.augmentation import Augmentation
from .crop_windows import Choose
from .image_data import Examples
from .order import shuffled

AUTOTUNE = tf.data.AUTOTUNE

MEMORY_LIMIT = 2 * 2**30
"""Largest cache of resized images, and largest shuffle blocks of encoded images, in bytes."""


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
    """Crops, resizes, shuffles, augments, batches, mixes and preprocesses images.

    The function uses plain `tf.data` operations. Keras preprocessing layers follow the global
    dtype policy, which also affects the labels, and hold state that a second run would start from.

    A training batch depends only on the arguments, its epoch and its step. Every random draw is
    seeded by the image's position. A run can therefore resume at any step, in another process too.

    Args:
        examples: images of 1 or 3 channels with their labels.
        image_size: height and width of the output images: one number for both, or a pair.
        channels: 1 or 3. Gray images are repeated to 3 channels. Colour images are reduced to
            their luminance.
        classes: length of the one-hot labels.
        preprocess: takes and returns float32 `[b, height, width, channels]`. The input values are
            0 to 255.
        training: whether to shuffle in each epoch, augment, and drop an incomplete last batch
            (unless it is the only batch). The order is random among all examples if their
            `encoded` elements fit into half of `MEMORY_LIMIT`. Otherwise, the order is random
            within blocks of that size, and the blocks keep their stored order. If `training` is
            false, all images come in their stored order, without augmentation.
        seed: seeds order and augmentation. This and all following arguments except `shard` apply
            to training only.
        augmentation: augmentation for training, and the crop for evaluation.
        repeats: number of copies of an image in a batch, each augmented by its own draws (Hoffer
            et al. 2020). The number of batches in an epoch does not change. Each epoch shows other
            images. If the batch size is not a multiple of `repeats`, some images have one copy
            less.
        epoch: first epoch.
        step: first step in that epoch. Images of earlier steps are not decoded.
        epochs: number of epochs, including the first.
        shard: `(i, n)`, worker i of n. In training, worker i gets `b / n` images of each batch,
            from position `i * b / n`. All workers together get the batch of a single process. In
            evaluation, worker i gets every nth image, starting at image i. Each worker reads all
            of `encoded` (all shards of records). It decodes only its own images, or all images
            once if they are cached.

    Returns:
        float32 images `[b, height, width, channels]` and float32 labels `[b, classes]`. The
        cardinality is known. b is the worker's share of the batch size.

    Raises:
        InputError: a number is out of range, or the batch size is not a multiple of the number of
            workers.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    for name, value in (
        ("image_size", min(height, width)),
        ("classes", classes),
        ("batch_size", batch_size),
        ("repeats", repeats),
    ):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    if channels not in (1, 3):
        raise InputError(f"channels must be 1 or 3, got {channels}.")
    worker, workers = shard
    if not 0 <= worker < workers:
        raise InputError(
            f"shard must be (worker, workers) with 0 <= worker < workers, got {shard}."
        )

    def load(*example: tf.Tensor, choose: Choose | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = examples.decode(*example, choose=choose)
        fast = training and choose is not None
        return _resize(image, (height, width), channels, fast=fast), label

    def augment(key: tf.Tensor, *example: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image, label = example if cached else load(*example, choose=augmentation.window(key))
        return augmentation.apply(image, key), label, key

    def finish(
        images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.cast(images, tf.float32), tf.one_hot(labels, classes, dtype=tf.float32)
        if keys is not None:
            key = keys[0] - [0, keys[0, 1] % batch_size]  # first position in the global batch
            images, labels = augmentation.mix(images, labels, key)
        return preprocess(images), labels

    count = len(examples)
    if training:
        steps = steps_in_epoch(count, batch_size)
        batch_size = min(batch_size, count)
    if batch_size % workers:
        raise InputError(
            f"batch_size must be a multiple of {workers}, the number of workers, got {batch_size}."
        )
    cached = count * height * width * channels <= MEMORY_LIMIT
    if training:
        cached &= augmentation.sees_whole_images
        if cached:
            blocks, block_size = examples.encoded.map(load, AUTOTUNE).batch(count).cache(), count
        else:
            # Two blocks are in memory at once: the next block is prefetched.
            capacity = MEMORY_LIMIT // 2 // examples.encoded_bytes
            block_size = min(count, max(1, capacity // batch_size) * batch_size)
            blocks = examples.encoded.batch(block_size).prefetch(1)
        batches = (
            tf.data.Dataset.range(epoch, epoch + epochs)
            .flat_map(
                lambda number: shuffled(
                    blocks,
                    block_size,
                    seed=seed,
                    epoch=number,
                    start=tf.cast(number == epoch, tf.int64) * (step * batch_size),
                    stop=steps * batch_size,
                    batch_size=batch_size,
                    repeats=repeats,
                    shard=shard,
                )
            )
            .map(augment, AUTOTUNE)
            .batch(batch_size // workers, drop_remainder=True)
            .apply(tf.data.experimental.assert_cardinality(epochs * steps - step))
        )
    else:
        load_cropped = partial(load, choose=augmentation.test_window)
        images = examples.encoded.shard(workers, worker).map(load_cropped, AUTOTUNE)
        batches = (images.cache() if cached else images).batch(batch_size // workers)
    return batches.map(finish, AUTOTUNE).prefetch(AUTOTUNE)


def steps_in_epoch(count: int, batch_size: int) -> int:
    """Number of training batches in an epoch of `count` images."""
    return max(1, count // batch_size)


def _resize(image: tf.Tensor, size: tuple[int, int], channels: int, *, fast: bool) -> tf.Tensor:
    """Resizes an image with bilinear interpolation and converts it to `channels`.

    `fast` skips antialiasing if neither side shrinks below half its size. Every pixel still
    contributes then. TensorFlow's antialiasing takes longer than decoding.
    """

    def antialiased() -> tf.Tensor:
        resized = tf.image.resize(image, size, antialias=True)
        return tf.saturate_cast(tf.round(resized), tf.uint8)

    def plain() -> tf.Tensor:
        # Bilinear weights are not negative, so the values stay within uint8.
        return tf.cast(tf.image.resize(image, size) + 0.5, tf.uint8)

    if fast:
        at_most_halved = tf.reduce_all(tf.shape(image)[:2] <= 2 * tf.constant(size))
        resized = tf.cond(at_most_halved, plain, antialiased)
    else:
        resized = antialiased()
    resized.set_shape((*size, image.shape[-1]))
    if image.shape[-1] == channels:
        return resized
    return (tf.image.grayscale_to_rgb if channels == 3 else tf.image.rgb_to_grayscale)(resized)
