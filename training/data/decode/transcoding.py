"""Converts image files that TensorFlow and Pillow decode differently.

TensorFlow ignores EXIF orientation. It rejects WebP with alpha, animations, some kinds of BMP, and
TIFF. It decodes the palette of a BMP as gray values.
"""

import io
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

# A quantization table (marker, two bytes of length, 0) follows the 20 bytes of JFIF header.
_PLAIN_JPEG = r"\C{6}JFIF\x00\C{11}\x00\C\x00"
_JPEG_HEAD = 25
# The pixels follow the size.
_PLAIN_PNG = r"\C{12}IHDR\C{21}IDAT"
_PNG_HEAD = 41
_PNG_TAIL = 2**16
"""Bytes at the end of a PNG to search for EXIF data: the maximum size of EXIF data in a JPEG."""
_PNG_SIGNATURE = 8
_PNG_CHUNK = 12
"""Bytes of a PNG chunk apart from its data: length, type and checksum."""
_EXIF_CHUNK = "eXIf"


def is_plain_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a file is a JPEG without metadata, as encoders write it.

    Metadata segments would follow the header and begin with a letter. The check takes a few
    microseconds.
    """
    return tf.strings.regex_full_match(tf.strings.substr(encoded, 0, _JPEG_HEAD), _PLAIN_JPEG)


def _is_plain_png(encoded: tf.Tensor) -> tf.Tensor:
    """Whether a file is a PNG without EXIF data."""

    def has_none() -> tf.Tensor:
        size = tf.minimum(tf.strings.length(encoded), _PNG_TAIL)
        tail = tf.strings.substr(encoded, -size, size)
        # A replacement is several times faster than a match.
        rest = tf.strings.regex_replace(tail, _EXIF_CHUNK, "", replace_global=False)
        return tf.strings.length(rest) == size

    head = tf.strings.substr(encoded, 0, _PNG_HEAD)
    return tf.cond(tf.strings.regex_full_match(head, _PLAIN_PNG), has_none, lambda: False)


def transcode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`transcode_bytes` for tensors. Returns a string and an int64, both scalars.

    A PNG without metadata bypasses Python, which handles one file at a time.
    """

    def transcoded() -> tuple[tf.Tensor, tf.Tensor]:
        content, orientation = tf.numpy_function(
            lambda files: transcode_bytes(files[0]),  # a scalar arrives as bytes or as an array
            [tf.expand_dims(encoded, 0)],
            [tf.string, tf.int64],
            stateful=False,
        )
        return tf.ensure_shape(content, []), tf.ensure_shape(orientation, [])

    upright = tf.constant(1, tf.int64)
    return tf.cond(_is_plain_png(encoded), lambda: (encoded, upright), transcoded)


def transcode_bytes(encoded: bytes) -> tuple[bytes, np.int64]:
    """Returns a JPEG, PNG or WebP file of the same pixels, and its EXIF orientation.

    JPEG, PNG and plain WebP stay compressed: TensorFlow decodes several files in parallel, Pillow
    one at a time. All other formats are decoded here. Transparency is dropped and the colours
    are kept. 16-bit gray values are reduced to their high byte. A file that is not an image is
    returned unchanged.

    Raises:
        Exception: Pillow knows the format but cannot decode the file. Pillow's errors have no
            common type.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return encoded, np.int64(1)  # TensorFlow decodes it or reports the error
    with image:
        match image.format:
            case "JPEG" | "MPO":
                return encoded, _orientation(image)
            case "WEBP" if image.mode == "RGB" and not getattr(image, "is_animated", False):
                return encoded, _orientation(image)
            case "PNG":
                if _EXIF_CHUNK.encode() in encoded and "exif" not in image.info:
                    image.load()  # the EXIF chunk follows the pixels
                return _without_metadata(encoded), _orientation(image)
        image.load()
        upright = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow would clip values above 255
            upright = Image.fromarray(np.uint8(np.asarray(upright) >> 8))
        upright.info.clear()  # Pillow warns about some kinds of transparency
        file = io.BytesIO()
        upright.convert("RGB").save(file, "PNG", compress_level=0)
        return file.getvalue(), np.int64(1)


def _orientation(image: Image.Image) -> np.int64:
    """The EXIF orientation, 1 to 8. It is 1 if the EXIF data are missing or damaged."""
    try:
        # The method of the PNG class would decode the image.
        orientation: Any = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's errors for damaged EXIF data have no common type
        orientation = None
    return np.int64(orientation if orientation in range(1, 9) else 1)


def _without_metadata(png: bytes) -> bytes:
    """Returns a PNG with its critical chunks only. TensorFlow does not use the others.

    libpng writes a line to stderr for each colour profile that it rejects.
    """
    chunks, place = [png[:_PNG_SIGNATURE]], _PNG_SIGNATURE
    while place < len(png):
        size = _PNG_CHUNK + int.from_bytes(png[place : place + 4])
        if png[place + 4 : place + 5].isupper():
            chunks.append(png[place : place + size])
        place += size
    return b"".join(chunks)
