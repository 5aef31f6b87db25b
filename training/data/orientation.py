"""EXIF orientation: how a stored image becomes the upright one that a viewer shows."""

import tensorflow as tf

from .windows import Choose

# From 5 on, rows and columns are exchanged first. Then rows or columns are reversed.
_REVERSED = [[False, False], [False, True], [True, True], [True, False]]


def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The upright image.

    Args:
        image: `[height, width, channels]`, as it is stored.
        orientation: 1 to 8, int64; 1 is upright.
    """
    exchanged, backwards = _steps(orientation)
    image = tf.cond(exchanged, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    return tf.reverse(image, tf.boolean_mask([0, 1], backwards))


def stored_window(choose: Choose, orientation: tf.Tensor) -> Choose:
    """Where the stored image has the window that `choose` takes of the upright one."""

    def chosen(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        exchanged, backwards = _steps(orientation)
        stored = tf.stack([height, width])
        upright = tf.cond(exchanged, lambda: stored[::-1], lambda: stored)
        window = choose(upright[0], upright[1])
        corner, size = window[:2], window[2:]
        corner = tf.where(backwards, upright - corner - size, corner)
        return tf.cond(
            exchanged,
            lambda: tf.concat([corner[::-1], size[::-1]], 0),
            lambda: tf.concat([corner, size], 0),
        )

    return chosen


def _steps(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether rows and columns are exchanged, and bool `[2]`: which of them are then reversed."""
    return orientation > 4, tf.gather(_REVERSED, (orientation - 1) % 4)
