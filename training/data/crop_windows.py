"""Crop windows of images: int32 `[top, left, height, width]` in pixels."""

import math
from collections.abc import Callable

import tensorflow as tf

Choose = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""A function from an image's height and width to a crop window."""

_TRIES = 10


def random_window(
    height: tf.Tensor,
    width: tf.Tensor,
    key: tf.Tensor,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tf.Tensor:
    """Draws a window of random size and position (the crop of the Inception paper).

    The share of the image's area is uniform within `area`. The logarithm of width / height is
    uniform within the logarithms of `aspect`. A size that does not fit is drawn again, up to ten
    times. After that, the window is the largest one with an allowed aspect.

    Source: Szegedy et al., "Going deeper with convolutions", section 6. The logarithm and the
    number of tries follow torchvision's `RandomResizedCrop`.

    Args:
        height, width: size of the image, int32.
        key: int32 or int64 `[2]`. The window depends on nothing else.
    """
    # All tries are drawn at once, rows and columns together: a loop would cost more.
    draws = tf.random.stateless_uniform([2 * _TRIES + 2], key)
    image = tf.cast(tf.stack([height, width]), tf.float32)
    share = area[0] + (area[1] - area[0]) * draws[:_TRIES]
    low, high = math.log(aspect[0]) / 2, math.log(aspect[1]) / 2
    stretch = low + (high - low) * draws[_TRIES:-2]
    side = tf.sqrt(image[0] * image[1] * share)
    sizes = tf.round(side[:, None] * tf.exp(tf.stack([-stretch, stretch], 1)))
    fits = tf.reduce_all((sizes >= 1) & (sizes <= image), 1)
    first = tf.argmax(tf.cast(fits, tf.int32))
    longest = tf.minimum(image, tf.round(image[::-1] * [1 / aspect[0], aspect[1]]))
    size = tf.where(fits[first], sizes[first], longest)
    corner = (image - size + 1) * draws[-2:]
    return tf.cast(tf.concat([corner, size], 0), tf.int32)


def centre_window(height: tf.Tensor, width: tf.Tensor, share: float) -> tf.Tensor:
    """The centred square whose side is `share` of the image's shorter side."""
    side = tf.minimum(height, width)
    side = tf.maximum(1, tf.cast(tf.round(share * tf.cast(side, tf.float32)), tf.int32))
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])
