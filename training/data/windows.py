"""Windows of images, `(top, left, height, width)` in pixels, int32: which part is seen."""

import math
from collections.abc import Callable

import tensorflow as tf

Window = tuple[tf.Tensor, ...]
Choose = Callable[[tf.Tensor, tf.Tensor], Window]
"""From an image's height and width to a window of it."""

_TRIES = 10


def random_window(
    height: tf.Tensor,
    width: tf.Tensor,
    key: tf.Tensor,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Window:
    """A window of random size at a random place, as the Inception paper crops images.

    The share of the image is uniform in `area`, the logarithm of width by height in that of
    `aspect`; sizes that do not fit are drawn anew, up to ten times, then the largest part of the
    image of an allowed aspect is taken. Szegedy et al., "Going deeper with convolutions", section
    6; the logarithm and the number of tries are torchvision's `RandomResizedCrop`.

    Args:
        height, width: of the image, int32.
        key: int32 or int64 `[2]`; the window depends on it alone.
    """
    draws = tf.random.stateless_uniform([2 * _TRIES + 2], key)
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    # All tries at once: a loop would cost more than the draws that are not needed.
    side = tf.sqrt(rows * columns * (area[0] + (area[1] - area[0]) * draws[:_TRIES]))
    stretch = tf.exp((low + (high - low) * draws[_TRIES:-2]) / 2)
    heights, widths = tf.round(side / stretch), tf.round(side * stretch)
    fits = (heights >= 1) & (heights <= rows) & (widths >= 1) & (widths <= columns)
    first = tf.argmax(tf.cast(fits, tf.int32))
    h = tf.where(fits[first], heights[first], tf.minimum(rows, tf.round(columns / aspect[0])))
    w = tf.where(fits[first], widths[first], tf.minimum(columns, tf.round(rows * aspect[1])))
    top, left = (rows - h + 1) * draws[-2], (columns - w + 1) * draws[-1]
    return tuple(tf.cast(number, tf.int32) for number in (top, left, h, w))


def centre_window(height: tf.Tensor, width: tf.Tensor, share: float) -> Window:
    """The square in the middle whose side is that share of the image's shorter side."""
    side = tf.minimum(height, width)
    side = tf.maximum(1, tf.cast(tf.round(share * tf.cast(side, tf.float32)), tf.int32))
    return (height - side) // 2, (width - side) // 2, side, side
