"""Decoding of image files, and finding the ones that do not decode before training does."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import tensorflow as tf

from keras_archs.errors import InputError

from .orientation import stored_window, turn
from .transcoding import is_plain_jpeg, transcode, transcode_bytes
from .windows import Choose

CHANNELS = 3
_JPEG = b"\xff\xd8\xff"
_DCT = "INTEGER_ACCURATE"
"""As Pillow decodes; what TensorFlow takes otherwise is not faster, and differs by up to 68."""
_CHROMA = 2
"""Columns of pixels that share the colour of one sample."""
_NAMED = 3
_BEHIND = re.compile(r"\n\t \[\[| \[Op:|\nTraceback ")
_BEFORE = re.compile(
    r"\{\{.*?\}\} | *\(\d+\) [A-Z_]+: *|Error in user-defined function .* iterator: \S+ "
)


def decode(
    encoded: tf.Tensor, choose: Choose | None = None, *, channels: int = CHANNELS
) -> tf.Tensor:
    """uint8 `[height, width, channels]` of an image file, upright: the pixels that Pillow gives.

    It reads JPEG, PNG, WebP and whatever Pillow reads, the first frame of several. EXIF
    orientation is applied, and transparency is ignored.

    Args:
        encoded: the bytes of the file, a string scalar.
        choose: gives the window that is wanted of the upright image. Of a JPEG, hardly more than
            that is decoded.
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
        """Inlined, its many operations would take time where they do not run, 2 % of a JPEG's."""
        function = tf.function(other, autograph=False, experimental_attributes={"_noinline": True})
        return function.get_concrete_function()()  # a call warns of tracing each time

    return tf.cond(
        is_plain_jpeg(encoded), lambda: _decode_jpeg(encoded, choose, channels), not_inlined
    )


def _decode_jpeg(encoded: tf.Tensor, choose: Choose | None, channels: int) -> tf.Tensor:
    """The window of an image as it is stored, or all of it."""
    if choose is None:
        return tf.io.decode_jpeg(encoded, channels, dct_method=_DCT)
    shape = tf.image.extract_jpeg_shape(encoded)
    top, left, height, width = tf.unstack(choose(shape[0], shape[1]))
    # The colours of a column depend on those of its neighbours.
    first = tf.maximum(left - _CHROMA, 0)
    last = tf.minimum(left + width + _CHROMA, shape[1])
    window = tf.stack([top, first, height, last - first])
    wider = tf.image.decode_and_crop_jpeg(encoded, window, channels, dct_method=_DCT)
    return wider[:, left - first : left - first + width]


def _decode_png(encoded: tf.Tensor, choose: Choose | None, channels: int) -> tf.Tensor:
    """The same of a PNG or WebP file, which has to be decoded whole."""
    image = tf.io.decode_image(encoded, channels, expand_animations=False)
    if choose is None:
        return image
    shape = tf.shape(image)
    top, left, height, width = tf.unstack(choose(shape[0], shape[1]))
    return image[top : top + height, left : left + width]


def reason(error: tf.errors.OpError) -> str:
    """What TensorFlow has to say, in one line: without the ops' names and the stack around it."""
    *_, line = _BEHIND.split(error.message)[0].splitlines() or [""]
    while found := _BEFORE.match(line):
        line = line[found.end() :].lstrip()
    return line or type(error).__name__


@contextmanager
def readable(dataset: str, refuse: Callable[[str], Exception] = InputError) -> Iterator[None]:
    """Says what is wrong with a dataset whose images go or are damaged after it was opened.

    Args:
        refuse: makes the error that is raised, of what there is to say.

    Raises:
        InputError: an iterator of `tf.data` has failed.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # Of each iterator, in a step's graph or outside of one, on one device or several.
        if "IteratorGetNext" not in error.message:
            raise
        why = reason(error).rstrip(".")
        raise refuse(f"dataset {dataset!r} cannot be read any more: {why}.") from error


def find_flaw(encoded: bytes) -> str | None:
    """Why `decode` refuses these bytes, or None. Safe to call from threads, which run at once."""
    try:
        if encoded.startswith(_JPEG):
            # An eighth of each side: all of the file is read, but few pixels are worked out.
            tf.io.decode_jpeg(encoded, channels=CHANNELS, ratio=8)
        else:
            content, _ = transcode_bytes(encoded)
            tf.io.decode_image(content, CHANNELS, expand_animations=False)
    except tf.errors.OpError as error:
        return reason(error)
    except Exception as error:  # Pillow has no common type
        return str(error).partition("\n")[0]
    return None


def report_flaws(name: str, flaws: Mapping[str, str], *, total: int, skip_corrupt: bool) -> None:
    """Refuse dataset `name` for its corrupt images, or warn that they are left out.

    Args:
        flaws: the reason for every corrupt image, by the image's place.
        total: how many images were read.

    Raises:
        InputError: there are flaws, and `skip_corrupt` is false.
    """
    if not flaws:
        return
    named = "; ".join(f"{place}: {reason}" for place, reason in list(flaws.items())[:_NAMED])
    more = "; ..." if len(flaws) > _NAMED else ""
    found = f"dataset {name!r}: {len(flaws)} of {total} images are corrupt"
    if not skip_corrupt:
        raise InputError(
            f"{found} (skip_corrupt, on the command line --skip-corrupt, leaves them out): "
            f"{named}{more}"
        )
    warnings.warn(f"{found} and left out: {named}{more}", stacklevel=2)
