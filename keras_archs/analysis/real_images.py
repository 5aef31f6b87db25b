"""Checks that images are real and preprocessed as in training, not noise."""

import numpy as np

from ..errors import InputError
from ..preprocessing import Preprocessing

# The correlation of neighbouring pixels is 0.88 in Fashion-MNIST; 0.3 in 1/sqrt(f) noise, which is
# rougher than any photograph; 0.06 in faint stripes with nine times as much noise; and below
# 0.02 in white noise, for 50 images or more of 16 x 16 pixels.
_LEAST_CORRELATION = 0.03


# Resizing and rounding may give values slightly outside 0 to 255.
_LOWEST, _HIGHEST, _LEAST_SPAN = -1, 256, 16


_CHECKED_IMAGES = 256
"""Images that are checked: the check of an image takes several times its memory."""


def check_real(name: str, images: np.ndarray, preprocessing: Preprocessing | None = None) -> None:
    """Raises an InputError if images, float32 [n, h, w, c], are noise or not preprocessed.

    Ranges measured on noise, or on pixels of 0..255 for a network that takes -1..1, differ from
    the ranges of all images that the file will get.
    """
    images = images[:_CHECKED_IMAGES]
    if preprocessing is not None:
        pixels = preprocessing.undo(images)
        low, high = float(pixels.min()), float(pixels.max())
        span = np.ptp(pixels, axis=(0, 1, 2)).max()
        if low < _LOWEST or high > _HIGHEST or span < _LEAST_SPAN:
            raise InputError(
                f"{name} must be preprocessed images, got values from {images.min():.4g} to"
                f" {images.max():.4g}. Without the preprocessing, these are pixels from {low:.4g}"
                f" to {high:.4g}, which must be from 0 to 255. Call preprocess_input first."
            )
    if (correlation := neighbour_correlation(images)) < _LEAST_CORRELATION:
        raise InputError(
            f"{name} must be real images, got noise: the correlation of neighbouring pixels is"
            f" {correlation:.3f}, and at least {_LEAST_CORRELATION} is required."
        )


def neighbour_correlation(images: np.ndarray) -> float:
    """The correlation of pixels with their right and lower neighbours, from 0 to 1.

    Args:
        images: float [n, height, width, channels]. The means are those of all images together, so
            the correlation is 1 for images of one colour each.
    """
    x = images - images.mean(axis=(0, 1, 2), dtype=np.float64).astype(images.dtype)
    pairs = [(x[:, 1:], x[:, :-1]), (x[:, :, 1:], x[:, :, :-1])]
    variance = np.mean(np.square(x), dtype=np.float64)
    if not variance:
        return 1.0
    shared = [np.mean(a * b, dtype=np.float64) for a, b in pairs if a.size]
    return float(np.mean(shared) / variance) if shared else 1.0
