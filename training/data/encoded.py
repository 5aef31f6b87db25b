"""Decoding of image files, and finding the ones that do not decode before training does."""

import re
import warnings
from collections.abc import Mapping

import tensorflow as tf

from keras_archs.errors import InputError

CHANNELS = 3
_NAMED = 3


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """uint8 `[height, width, 3]` of a JPEG, PNG, GIF (its first frame), BMP or WebP file."""
    return tf.io.decode_image(encoded, channels=CHANNELS, expand_animations=False)


def find_flaw(encoded: bytes) -> str | None:
    """Why `decode` refuses these bytes, or None. Safe to call from threads, which run at once."""
    try:
        decode(encoded)
    except tf.errors.OpError as error:
        # TensorFlow puts the op's address in front of its reason, and the op's name behind it.
        return re.sub(r"^\{\{.*?\}\} | \[Op:\w+\].*$", "", error.message)
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
