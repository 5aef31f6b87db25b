"""Generates images to compare a file on if there are no test images."""

import numpy as np

from keras_archs.preprocessing import TF, Preprocessing

COUNT = 16


def stand_ins(shape: tuple[int, int, int], preprocessing: Preprocessing | None) -> np.ndarray:
    """Generates preprocessed clouds of colour, the same at each call.

    Their spectrum is like that of photographs: amplitudes are inversely proportional to the
    frequency (Field 1987, "Relations between the statistics of natural images and the response
    properties of cortical cells"). The pixels of each image range from 0 to 255 before
    preprocessing.

    Args:
        shape: height, width and channels.
        preprocessing: preprocessing of the network. None scales to -1..1.

    Returns:
        float32 [COUNT, height, width, channels]
    """
    height, width, _ = shape
    random = np.random.RandomState(0)
    # The channels of photographs are correlated, so they share a part of the noise.
    noise = random.normal(size=(COUNT, *shape)) + 2 * random.normal(size=(COUNT, height, width, 1))
    rows, columns = height * np.fft.fftfreq(height)[:, None], width * np.fft.rfftfreq(width)
    amplitudes = 1 / np.maximum(np.hypot(rows, columns), 1)
    waves = np.fft.rfft2(noise, axes=(1, 2)) * amplitudes[..., None]
    clouds = np.fft.irfft2(waves, s=(height, width), axes=(1, 2))
    clouds -= clouds.min(axis=(1, 2, 3), keepdims=True)
    pixels = 255 * clouds / np.maximum(clouds.max(axis=(1, 2, 3), keepdims=True), 1e-12)
    return np.asarray((preprocessing or TF)(pixels.astype(np.float32)))
