"""The one check of image arrays."""

import numpy as np

from keras_archs.errors import InputError


def check_images(name: str, images: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Raises an InputError unless `images` is a finite float32 array [n, *shape] with n >= 1."""
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        given = getattr(images, "dtype", type(images).__name__)
        raise InputError(f"{name} must be a float32 array of preprocessed images, got {given}.")
    if images.shape[1:] != shape or len(images) == 0:
        wanted = ", ".join(map(str, shape))
        raise InputError(f"{name} must be of shape [n, {wanted}], n >= 1, got {images.shape}.")
    if not np.isfinite(images).all():
        raise InputError(f"{name} holds NaN or infinity; all values must be finite.")
