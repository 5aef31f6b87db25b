"""Images as arrays: the one check of them, and their reading from files."""

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
    """Images in whatever holds them, as a finite float32 array [n, *shape] with n >= 1.

    Args:
        name: of the argument, for errors.
        images: an array, a tensor or a list, [n, *shape], or one image, [*shape]. Floats of any
            precision are preprocessed images; uint8 and PIL images are pixels.
        shape: height, width and channels.
        preprocess: what to do with pixels; None if it is not known.

    Raises:
        ValueError: they are something else, as one line that begins with `name`.
    """
    try:
        several = isinstance(images, list | tuple)
        every = [_pixels(image, shape[-1]) for image in (images if several else [images])]
        array = np.asarray(every if several else every[0])
    except Exception as error:  # an object of another library raises what it likes
        raise input_error(_refusal(name, shape, type(images).__name__)) from error
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        is_number = np.issubdtype(array.dtype, np.number) or array.dtype == bool
        given = f"{array.dtype}" if is_number else type(images).__name__
        raise input_error(_refusal(name, shape, given))
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape or len(array) == 0:
        wanted = ", ".join(map(str, shape))
        raise input_error(f"{name} must be of shape [n, {wanted}], n >= 1, got {array.shape}.")
    if array.dtype == np.uint8 and preprocess is not None:
        array = preprocess(array)
    if array.dtype == np.uint8:
        raise input_error(
            f"{name} must be preprocessed as in training, got uint8 pixels, and nothing says how."
        )
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise input_error(f"{name} holds NaN or infinity; all values must be finite.")
    return array


def _pixels(image: Any, channels: int) -> Any:
    """A PIL image as a viewer shows it, as an array; anything else as it is."""
    if not hasattr(image, "getexif"):
        return image
    pixels = np.asarray(_upright(image).convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _refusal(name: str, shape: tuple[int, int, int], given: str) -> str:
    wanted = ", ".join(map(str, shape))
    return f"{name} must be preprocessed images, floats of shape [n, {wanted}], got {given}."


def read_image(
    path: str | Path, shape: tuple[int, int, int], crop: float | None = None
) -> np.ndarray:
    """The pixels of an image file, uint8 [height, width, channels], as evaluation sees them.

    The image is turned upright as its EXIF data say, cut if `crop` is given, and resized whole,
    bilinear with antialiasing, as `training.data.make_batches` does with TensorFlow. Transparency
    is ignored, and of gray values of 16 bits the high byte counts, as there.

    Args:
        path: a file of any format that Pillow reads; of several frames the first is taken.
        shape: height, width and channels, 1 (gray) or 3 (RGB).
        crop: the centred square of this share of the shorter side is taken; None for all.

    Raises:
        ValueError: the file is missing, not an image, damaged or too large, or `shape` has other
            channels.
    """
    from PIL import Image  # noqa: PLC0415  # predictions on arrays do without it

    height, width, channels = shape
    if channels not in PICTURES:
        raise input_error(
            f"{str(path)!r} is a picture, which has 1 or 3 channels; the network takes {channels}."
        )
    try:
        with Image.open(os.path.expanduser(path)) as file:  # noqa: PTH111
            image = _upright(file).convert("L" if channels == 1 else "RGB")
    except Image.UnidentifiedImageError as error:
        raise input_error(f"{str(path)!r} is not an image that Pillow can read.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow raises the second and third for some damaged files.
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise input_error(f"{str(path)!r} cannot be read: {reason}.") from error
    if crop:
        side = max(1, round(crop * min(image.size)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(shape)


def _upright(file: "Image") -> "Image":
    """The pixels as a viewer shows them, of at most 8 bits for each channel."""
    from PIL import Image, ImageOps  # noqa: PLC0415  # see above

    file.load()
    try:
        image = ImageOps.exif_transpose(file)
    except Exception:  # Pillow has no common type for what damaged EXIF data raise
        image = file
    if image.mode.startswith("I;16"):  # Pillow would cut off what is above 255
        image = Image.fromarray(np.uint8(np.asarray(image) >> 8))
    image.info.clear()  # Pillow warns of some transparency
    return image
