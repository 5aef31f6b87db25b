"""EXIF orientation: turns a stored image upright."""

import tensorflow as tf

from ..crop_windows import Choose

# Orientations 5 to 8 first exchange rows and columns. Then rows or columns are reversed.
_REVERSED = [[False, False], [False, True], [True, True], [True, False]]


def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image upright.

    Args:
        image: the stored image, `[height, width, channels]`.
        orientation: EXIF orientation, int64, 1 to 8; 1 is upright.
    """
    exchanged, backwards = _steps(orientation)
    image = tf.cond(exchanged, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    return tf.reverse(image, tf.boolean_mask([0, 1], backwards))


def stored_window(choose: Choose, orientation: tf.Tensor) -> Choose:
    """Maps the window that `choose` takes of the upright image to the stored image."""

    def choose_stored(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
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

    return choose_stored


def _steps(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether to exchange rows and columns, and which of them to reverse then, bool `[2]`."""
    return orientation > 4, tf.gather(_REVERSED, (orientation - 1) % 4)
