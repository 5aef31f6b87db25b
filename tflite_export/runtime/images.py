"""Checks arrays of images, and reads image files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import input_error

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = 1, 3
"""Channels of image files: gray, or red, green and blue."""


def as_batch(
    name: str,
    images: Any,
    shape: tuple[int, int, int],
    preprocess: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Converts images to a finite float32 array [n, *shape] with n >= 1.

    Args:
        name: name of the argument, for errors.
        images: an array, a tensor or a list, [n, *shape], or one image, [*shape]. Floats of any
            precision are preprocessed images; uint8 and PIL images are pixels.
        shape: height, width and channels.
        preprocess: preprocesses pixels; None if the preprocessing is unknown.

    Raises:
        ValueError: `images` is something else; the message is one line that begins with `name`.
    """
    try:
        several = isinstance(images, list | tuple)
        arrays = [_pixels(image, shape[-1]) for image in (images if several else [images])]
        array = np.asarray(arrays if several else arrays[0])
    except Exception as error:  # an object of another library may raise anything
        raise input_error(_refusal(name, shape, type(images).__name__)) from error
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        is_number = np.issubdtype(array.dtype, np.number) or array.dtype == bool
        kind = f"{array.dtype}" if is_number else type(images).__name__
        raise input_error(_refusal(name, shape, kind))
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape or len(array) == 0:
        wanted = ", ".join(map(str, shape))
        raise input_error(f"{name} must be of shape [n, {wanted}], n >= 1, got {array.shape}.")
    if array.dtype == np.uint8 and preprocess is not None:
        array = preprocess(array)
    if array.dtype == np.uint8:
        raise input_error(
            f"{name} must be preprocessed as in training, got uint8 pixels; how to preprocess"
            " them is unknown."
        )
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise input_error(f"{name} holds NaN or infinity; all values must be finite.")
    return array


def _pixels(image: Any, channels: int) -> Any:
    """A PIL image as an array, upright; any other value unchanged."""
    if not hasattr(image, "getexif"):
        return image
    pixels = np.asarray(_upright(image).convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _refusal(name: str, shape: tuple[int, int, int], kind: str) -> str:
    wanted = ", ".join(map(str, shape))
    return f"{name} must be preprocessed images, floats of shape [n, {wanted}], got {kind}."


def read_image(
    path: str | Path, shape: tuple[int, int, int], crop: float | None = None
) -> np.ndarray:
    """Reads the pixels of an image file as in evaluation, uint8 [height, width, channels].

    The image is turned upright by its EXIF data, cropped if `crop` is given, and resized
    (bilinear, with antialiasing). `training.data.make_batches` does the same with TensorFlow. Both
    ignore transparency, and both use the high byte of 16-bit gray values.

    Args:
        path: a file of any format that Pillow reads; the first of several frames is used.
        shape: height, width and channels, 1 (gray) or 3 (RGB).
        crop: side of the centred square that is used, as a share of the shorter side; None uses
            the whole image.

    Raises:
        ValueError: the file is missing, not an image, damaged or too large, or `shape` has other
            channels.
    """
    from PIL import Image  # noqa: PLC0415  # predictions on arrays do not need Pillow

    height, width, channels = shape
    if channels not in PICTURES:
        raise input_error(
            f"{str(path)!r} is an image file, with 1 or 3 channels; the network takes {channels}."
        )
    try:
        with Image.open(os.path.expanduser(path)) as file:  # noqa: PTH111
            image = _upright(file).convert("L" if channels == 1 else "RGB")
    except Image.UnidentifiedImageError as error:
        raise input_error(f"{str(path)!r} is not an image that Pillow can read.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError and ValueError for some damaged files.
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise input_error(f"{str(path)!r} cannot be read: {reason}.") from error
    if crop:
        side = max(1, round(crop * min(image.size)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(shape)


def _upright(file: "Image") -> "Image":
    """The image upright, with at most 8 bits for each channel."""
    from PIL import Image, ImageOps  # noqa: PLC0415  # see above

    file.load()
    try:
        image = ImageOps.exif_transpose(file)
    except Exception:  # Pillow has no common error for damaged EXIF data
        image = file
    if image.mode.startswith("I;16"):  # Pillow would clip values above 255
        image = Image.fromarray(np.uint8(np.asarray(image) >> 8))
    image.info.clear()  # Pillow warns about some kinds of transparency
    return image
