"""Files that TensorFlow does not read as Pillow does, made into files that both read alike.

TensorFlow takes no notice of EXIF orientation. It refuses WebP with alpha, animations, some kinds
of BMP, and TIFF, and it takes a palette of BMP for gray values.
"""

import io
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

# After 20 bytes of JFIF header comes a quantization table: a marker, two bytes of length, 0.
_PLAIN_JPEG = r"\C{6}JFIF\x00\C{11}\x00\C\x00"
_JPEG_HEAD = 25
# The pixels come after the size.
_PLAIN_PNG = r"\C{12}IHDR\C{21}IDAT"
_PNG_HEAD = 41
_PNG_TAIL = 2**16
"""Bytes at the end of a PNG where EXIF data may be: as many as a JPEG has room for."""
_PNG_SIGNATURE = 8
_PNG_CHUNK = 12
"""Bytes of a PNG's chunk beside its data: their length, the chunk's type and a checksum."""
_EXIF_CHUNK = "eXIf"


def is_plain_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a file is a JPEG without metadata, as encoders write it; it costs few microseconds.

    Segments of metadata would follow the header, and they begin with a letter.
    """
    return tf.strings.regex_full_match(tf.strings.substr(encoded, 0, _JPEG_HEAD), _PLAIN_JPEG)


def _is_plain_png(encoded: tf.Tensor) -> tf.Tensor:
    """The same for PNG."""

    def has_none() -> tf.Tensor:
        size = tf.minimum(tf.strings.length(encoded), _PNG_TAIL)
        tail = tf.strings.substr(encoded, -size, size)
        # A replacement searches several times as fast as a match does.
        rest = tf.strings.regex_replace(tail, _EXIF_CHUNK, "", replace_global=False)
        return tf.strings.length(rest) == size

    head = tf.strings.substr(encoded, 0, _PNG_HEAD)
    return tf.cond(tf.strings.regex_full_match(head, _PLAIN_PNG), has_none, lambda: False)


def transcode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`transcode_bytes` for tensors: a string and an int64, both scalars.

    Python does not look at a PNG without metadata: it can do so for one file at a time.
    """

    def transcoded() -> tuple[tf.Tensor, tf.Tensor]:
        content, orientation = tf.numpy_function(
            lambda files: transcode_bytes(files[0]),  # a scalar comes as bytes or as an array
            [tf.expand_dims(encoded, 0)],
            [tf.string, tf.int64],
            stateful=False,
        )
        return tf.ensure_shape(content, []), tf.ensure_shape(orientation, [])

    upright = tf.constant(1, tf.int64)
    return tf.cond(_is_plain_png(encoded), lambda: (encoded, upright), transcoded)


def transcode_bytes(encoded: bytes) -> tuple[bytes, np.int64]:
    """A JPEG, PNG or WebP file of the same pixels, and the EXIF orientation that it still has.

    JPEG, PNG and plain WebP stay compressed, since TensorFlow decodes several at a time and Pillow
    one. All else is decoded here. Transparency is ignored: the colours below it count. Of gray
    values of 16 bits the high byte counts. A file that is not an image stays what it is.

    Raises:
        Exception: Pillow knows the format and cannot decode the file; it has no common type.
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
