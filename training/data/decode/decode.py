"""Decodes image files, and finds corrupt files before training."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import tensorflow as tf

from keras_archs.errors import InputError

from ..crop_windows import Choose
from .orientation import stored_window, turn
from .transcoding import is_plain_jpeg, transcode, transcode_bytes

CHANNELS = 3
_JPEG = b"\xff\xd8\xff"
_DCT = "INTEGER_ACCURATE"
"""Pillow's method. TensorFlow's default is not faster, and its values differ by up to 68."""
_CHROMA = 2
"""Columns of pixels that share one chroma sample."""
_EXAMPLES = 3
_TRAILER = re.compile(r"\n\t \[\[| \[Op:|\nTraceback ")
_PREFIX = re.compile(
    r"\{\{.*?\}\} | *\(\d+\) [A-Z_]+: *|Error in user-defined function .* iterator: \S+ "
)


def decode(
    encoded: tf.Tensor, choose: Choose | None = None, *, channels: int = CHANNELS
) -> tf.Tensor:
    """Decodes an image file to upright uint8 `[height, width, channels]`, equal to Pillow's.

    The function reads JPEG, PNG, WebP and all other formats that Pillow reads. It decodes the first
    of several frames, applies the EXIF orientation and ignores transparency.

    Args:
        encoded: the bytes of the file, a string scalar.
        choose: returns the crop window of the upright image. Little more than the window of a
            JPEG is decoded.
    """

    def other() -> tf.Tensor:
        content, orientation = transcode(encoded)
        stored = choose and stored_window(choose, orientation)
        image = tf.cond(
            tf.io.is_jpeg(content),
            lambda: _decode_jpeg(content, stored, channels),
            lambda: _decode_png(content, stored, channels),
        )
        return tf.cond(orientation > 1, lambda: turn(image, orientation), lambda: image)

    def not_inlined() -> tf.Tensor:
        """Calls `other` without inlining.

        Inlined, its many operations would cost 2 % of decoding a JPEG even if they do not run.
        """
        function = tf.function(other, autograph=False, experimental_attributes={"_noinline": True})
        return function.get_concrete_function()()  # a plain call warns of tracing each time

    return tf.cond(
        is_plain_jpeg(encoded), lambda: _decode_jpeg(encoded, choose, channels), not_inlined
    )


def _decode_jpeg(encoded: tf.Tensor, choose: Choose | None, channels: int) -> tf.Tensor:
    """Decodes a window of the stored image, or all of it."""
    if choose is None:
        return tf.io.decode_jpeg(encoded, channels, dct_method=_DCT)
    shape = tf.image.extract_jpeg_shape(encoded)
    top, left, height, width = tf.unstack(choose(shape[0], shape[1]))
    # The colours of a column depend on the neighbouring columns.
    first = tf.maximum(left - _CHROMA, 0)
    last = tf.minimum(left + width + _CHROMA, shape[1])
    window = tf.stack([top, first, height, last - first])
    wider = tf.image.decode_and_crop_jpeg(encoded, window, channels, dct_method=_DCT)
    return wider[:, left - first : left - first + width]


def _decode_png(encoded: tf.Tensor, choose: Choose | None, channels: int) -> tf.Tensor:
    """Decodes a PNG or WebP file completely and crops it."""
    image = tf.io.decode_image(encoded, channels, expand_animations=False)
    if choose is None:
        return image
    shape = tf.shape(image)
    top, left, height, width = tf.unstack(choose(shape[0], shape[1]))
    return image[top : top + height, left : left + width]


def reason(error: tf.errors.OpError) -> str:
    """TensorFlow's error message in one line, without names of operations and stack traces."""
    *_, line = _TRAILER.split(error.message)[0].splitlines() or [""]
    while prefix := _PREFIX.match(line):
        line = line[prefix.end() :].lstrip()
    return line or type(error).__name__


@contextmanager
def readable(dataset: str, refuse: Callable[[str], Exception] = InputError) -> Iterator[None]:
    """Reports images that disappear or become damaged after their dataset was opened.

    Args:
        refuse: makes the error to raise from its message.

    Raises:
        InputError: an iterator of `tf.data` failed (or the error that `refuse` makes).
    """
    try:
        yield
    except tf.errors.OpError as error:
        # Every iterator's error has this name, in a step's graph or outside, on all devices.
        if "IteratorGetNext" not in error.message:
            raise
        message = reason(error).rstrip(".")
        raise refuse(f"dataset {dataset!r} can no longer be read: {message}.") from error


def find_flaw(encoded: bytes) -> str | None:
    """Returns why `decode` cannot decode these bytes, or None. Threads can call it in parallel."""
    try:
        if encoded.startswith(_JPEG):
            # At an eighth of each side, the whole file is read but few pixels are computed.
            tf.io.decode_jpeg(encoded, channels=CHANNELS, ratio=8)
        else:
            content, _ = transcode_bytes(encoded)
            tf.io.decode_image(content, CHANNELS, expand_animations=False)
    except tf.errors.OpError as error:
        return reason(error)
    except Exception as error:  # Pillow's errors have no common type
        return str(error).partition("\n")[0]
    return None


def report_flaws(name: str, flaws: Mapping[str, str], *, total: int, skip_corrupt: bool) -> None:
    """Rejects dataset `name` because of corrupt images, or warns that they are skipped.

    Args:
        flaws: the reason for each corrupt image, by the image's path or record.
        total: number of images read.

    Raises:
        InputError: there are flaws, and `skip_corrupt` is false.
    """
    if not flaws:
        return
    examples = "; ".join(f"{place}: {reason}" for place, reason in list(flaws.items())[:_EXAMPLES])
    more = "; ..." if len(flaws) > _EXAMPLES else ""
    summary = f"dataset {name!r}: {len(flaws)} of {total} images are corrupt"
    if not skip_corrupt:
        raise InputError(
            f"{summary} (skip_corrupt=True or --skip-corrupt skips them): {examples}{more}"
        )
    warnings.warn(f"{summary} and skipped: {examples}{more}", stacklevel=2)
