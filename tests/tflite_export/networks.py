"""Small networks and images that the tests of the export share."""

import keras
import numpy as np
from keras import layers

SHAPE = (24, 24, 3)
CLASSES = 4


def build():
    """Convolution, batch norm, ReLU6, depthwise and pointwise convolution, on 24 x 24 images.

    The batch norms hold other numbers than those of a start, which would hide a wrong fold.
    """
    model = keras.Sequential([keras.Input(SHAPE)])
    for convolution in (
        layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        layers.Conv2D(64, 1, use_bias=False),
    ):
        model.add(convolution)
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU(6.0))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(CLASSES, activation="softmax"))
    return shake_norms(model)


def shake_norms(model):
    numbers = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([numbers.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def stripes(count, seed=0):
    """Noisy stripes of four directions, float32 in about [-1, 1], and the direction as label."""
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(CLASSES, size=count)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    across = np.stack([rows, columns, rows + columns, rows - columns])[labels]
    phase = numbers.uniform(0, 2 * np.pi, (count, 1, 1))
    waves = 0.15 * np.sin(across * 1.2 + phase)[..., None]
    images = waves + numbers.normal(0, 0.3, (count, *SHAPE))
    return images.astype(np.float32), labels


def as_pixels(images):
    """Images in [-1, 1] as bytes, uint8."""
    return np.clip(np.round(images * 127.5 + 127.5), 0, 255).astype(np.uint8)
