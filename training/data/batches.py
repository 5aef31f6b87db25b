"""From single images of any size to the batches that a network takes."""

from collections.abc import Callable

import tensorflow as tf

from keras_archs.errors import InputError

MEMORY_LIMIT = 2 * 2**30
"""Bytes of resized images that are cached or held in a shuffle buffer."""


def make_batches(
    examples: tf.data.Dataset,
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
) -> tf.data.Dataset:
    """Resize, shuffle, flip and crop, batch and preprocess images.

    These are plain `tf.data` operations rather than Keras preprocessing layers: those follow the
    global dtype policy, labels included, and hold state that a second run would start from.

    Args:
        examples: `(image, label)`, uint8 `[height, width, 1 or 3]` and int64 scalar, of known
            cardinality.
        image_size: height and width of the batches' images.
        channels: 1 or 3; gray is repeated to 3, colour becomes its luminance.
        classes: length of the one-hot labels.
        preprocess: takes and returns float32 `[b, image_size, image_size, channels]`; it gets
            values from 0 to 255.
        training: shuffle anew in each epoch, and drop a last batch that is not full unless it is
            the only one. Otherwise images come in their own order, all of them, unchanged.
        seed: the same seed, beside the same `tf.random.set_seed`, gives the same batches, epoch
            by epoch.
        flip: mirror each image, left to right, with probability 1/2; for training only.
        crop: pad each image by a sixteenth of its side with zeros and cut it out again at a
            random place; for training only.

    Returns:
        float32 images `[b, image_size, image_size, channels]` and float32 labels `[b, classes]`,
        of known cardinality.

    Raises:
        InputError: a number is out of range.
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

    count = int(examples.cardinality())
    images_in_memory = max(1, MEMORY_LIMIT // (image_size * image_size * channels))
    batches = examples.map(
        lambda image, label: (_resize(image, image_size, channels), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    if count <= images_in_memory:
        batches = batches.cache()
    if training:
        batches = batches.shuffle(min(count, images_in_memory), seed=seed)
        if flip or crop:
            batches = _augment(batches, seed, flip, crop)
    batches = batches.batch(batch_size, drop_remainder=training and count >= batch_size)
    return batches.map(
        lambda images, labels: (
            preprocess(tf.cast(images, tf.float32)),
            tf.one_hot(labels, classes, dtype=tf.float32),
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


def _resize(image: tf.Tensor, size: int, channels: int) -> tf.Tensor:
    resized = tf.image.resize(image, (size, size), antialias=True)
    resized = tf.saturate_cast(tf.round(resized), tf.uint8)
    resized.set_shape((size, size, image.shape[-1]))
    if image.shape[-1] == channels:
        return resized
    return (tf.image.grayscale_to_rgb if channels == 3 else tf.image.rgb_to_grayscale)(resized)


def _augment(examples: tf.data.Dataset, seed: int, flip: bool, crop: bool) -> tf.data.Dataset:
    """Flip and crop each image by a draw of its own, another one in the next epoch."""
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)

    def augment(example: tuple[tf.Tensor, tf.Tensor], pair: tf.Tensor) -> tuple:
        image, label = example
        if flip:
            image = tf.image.stateless_random_flip_left_right(image, pair)
        if crop:
            size, margin = image.shape, image.shape[0] // 16
            padded = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]])
            image = tf.image.stateless_random_crop(padded, size, pair + 1)
        return image, label

    return tf.data.Dataset.zip((examples, seeds)).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
