"""Files that TensorFlow does not read as Pillow does, made into files that both read alike.

TensorFlow takes no notice of EXIF orientation. It refuses WebP with alpha, animations, some kinds
of BMP, and TIFF, and it takes a palette of BMP for gray values.
"""

import io
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

_HEAD = 48
_TAIL = 2**16
"""Bytes at the end of a PNG where EXIF data may be: as many as a JPEG has room for."""
_PNG_SIGNATURE = 8
_PNG_CHUNK = 12
"""Bytes of a PNG's chunk beside its data: their length, the chunk's type and a checksum."""
_EXIF_CHUNK = "eXIf"


def is_plain(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a file is a JPEG or a PNG without metadata, so that no Python has to look at it.

    A JPEG's tables follow its JFIF header at once, a PNG's pixels its size. What TensorFlow and
    Pillow write is plain.
    """
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD), tf.uint8, fixed_length=_HEAD)

    def png() -> tf.Tensor:
        tail = tf.strings.substr(encoded, -tf.minimum(tf.strings.length(encoded), _TAIL), _TAIL)
        # A replacement searches several times as fast as a match does.
        rest = tf.strings.regex_replace(tail, _EXIF_CHUNK, "", replace_global=False)
        return tf.strings.length(rest) == tf.strings.length(tail)

    jpeg = _has(head, {0: 0xFF, 1: 0xD8, 2: 0xFF, 3: 0xE0, 4: 0, 5: 16, 20: 0xFF, 21: 0xDB})
    pixels_first = dict(enumerate(b"\x89PNG")) | dict(enumerate(b"IDAT", 37))
    return tf.cond(
        jpeg, lambda: True, lambda: tf.cond(_has(head, pixels_first), png, lambda: False)
    )


def _has(head: tf.Tensor, wanted: dict[int, int]) -> tf.Tensor:
    """Whether these bytes are at these places."""
    values = tf.constant(list(wanted.values()), tf.uint8)
    return tf.reduce_all(tf.gather(head, list(wanted)) == values)


def transcode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`transcode_bytes` for tensors: a string and an int64, both scalars."""
    content, orientation = tf.numpy_function(
        lambda files: transcode_bytes(files[0]),  # a scalar comes as bytes or as an array
        [tf.expand_dims(encoded, 0)],
        [tf.string, tf.int64],
        stateful=False,
    )
    return tf.ensure_shape(content, []), tf.ensure_shape(orientation, [])


def transcode_bytes(encoded: bytes) -> tuple[bytes, np.int64]:
    """A JPEG, PNG or WebP file of the same pixels, and the EXIF orientation that it still has.

    JPEG, PNG and plain WebP stay compressed, since TensorFlow decodes several at a time and Pillow
    one. All else is decoded here. Transparency is ignored: the colours below it count. Of gray
    values of 16 bits the high byte counts. A file that is not an image stays what it is.

    Raises:
        OSError, SyntaxError or ValueError: Pillow knows the format and cannot decode the file.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return encoded, np.int64(1)  # TensorFlow says what is wrong, or reads it
    with image:
        match image.format:
            case "JPEG" | "MPO":
                return encoded, _orientation(image)
            case "WEBP" if image.mode == "RGB" and not getattr(image, "is_animated", False):
                return encoded, _orientation(image)
            case "PNG":
                if _EXIF_CHUNK.encode() in encoded and "exif" not in image.info:
                    image.load()  # it comes after the pixels
                return _without_metadata(encoded), _orientation(image)
        image.load()
        upright = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow would cut off what is above 255
            upright = Image.fromarray(np.uint8(np.asarray(upright) >> 8))
        upright.info.clear()  # Pillow warns of some transparency
        file = io.BytesIO()
        upright.convert("RGB").save(file, "PNG", compress_level=0)
        return file.getvalue(), np.int64(1)


def _orientation(image: Image.Image) -> np.int64:
    """1 to 8; 1 if the data that should say so are missing or damaged."""
    try:
        # PNG's own method would decode the image.
        orientation: Any = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # Pillow has no common type for what damaged EXIF data raise
        orientation = None
    return np.int64(orientation if orientation in range(1, 9) else 1)


def _without_metadata(png: bytes) -> bytes:
    """A PNG's critical chunks: libpng writes a line to stderr for a profile that it does not like.

    TensorFlow uses none of the others.
    """
    kept, place = [png[:_PNG_SIGNATURE]], _PNG_SIGNATURE
    while place < len(png):
        size = _PNG_CHUNK + int.from_bytes(png[place : place + 4])
        if png[place + 4 : place + 5].isupper():
            kept.append(png[place : place + size])
        place += size
    return b"".join(kept)
