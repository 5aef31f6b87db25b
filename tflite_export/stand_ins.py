"""Images to try a file on that nobody gives test images for."""

import numpy as np

from keras_archs.preprocessing import TF, Preprocessing

COUNT = 16


def stand_ins(shape: tuple[int, int, int], preprocessing: Preprocessing | None) -> np.ndarray:
    """The same clouds of colour at each call, as a network takes them.

    They have the spectrum of photographs, whose amplitudes fall with the frequency (Field 1987,
    "Relations between the statistics of natural images and the response properties of cortical
    cells"), and each goes from 0 to 255 before its preprocessing.

    Args:
        shape: height, width and channels.
        preprocessing: that of the network; -1..1 if it is not known.

    Returns:
        float32 [COUNT, height, width, channels]
    """
    height, width, _ = shape
    random = np.random.RandomState(0)
    # A part that all channels share, for colours go together.
    noise = random.normal(size=(COUNT, *shape)) + 2 * random.normal(size=(COUNT, height, width, 1))
    rows, columns = height * np.fft.fftfreq(height)[:, None], width * np.fft.rfftfreq(width)
    amplitudes = 1 / np.maximum(np.hypot(rows, columns), 1)
    waves = np.fft.rfft2(noise, axes=(1, 2)) * amplitudes[..., None]
    clouds = np.fft.irfft2(waves, s=(height, width), axes=(1, 2))
    clouds -= clouds.min(axis=(1, 2, 3), keepdims=True)
    pixels = 255 * clouds / np.maximum(clouds.max(axis=(1, 2, 3), keepdims=True), 1e-12)
    return np.asarray((preprocessing or TF)(pixels.astype(np.float32)))
