"""Makes networks that behave like trained ones, without training.

A freshly initialised network cannot test a conversion. Its scores are so similar that rounding
decides between them, and weights of zero hide the layers after them. Therefore:

- Scales and shifts of norms, and all other constant weights, are drawn randomly. Shifts around 1
  keep most values on the rising side of the next activation. Otherwise, a random network is
  chaotic: unlike a trained network, it amplifies all differences from layer to layer, those from
  rounding as much as those between images.
- The statistics of batch norms are those of a batch of images, so every feature map has the same
  spread as in training.
- The classifier is fitted to the labels by ridge regression on the features of the last layer
  before it. It predicts two or three of four images of Fashion-MNIST correctly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_archs
import training.data.fashion_mnist_small as shipped
from keras_archs.graph import inner_layers
from keras_archs.preprocessing import Preprocessing
from keras_archs.registry import find
from training.data.fashion_mnist_small.idx import parse_idx

CLASSES = 10
STATISTICS, FITTED, TESTED = 128, 500, 200
"""Number of images for the batch norms, for the classifier, and for the comparison with a file."""
STRONG = 10
"""Factor from the scores of the regression, which are near 0 and 1, to logits."""


@dataclass(frozen=True)
class Images:
    """Preprocessed images, float32 `[n, side, side, 3]`, labels `[n]`, and the preprocessing."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    preprocessing: Preprocessing


def side_of(name: str) -> int:
    """Height and width for a builder. They are small: the size of feature maps is irrelevant."""
    return 64 if find(name).family.min_size <= 64 else 96


def images(name: str, side: int, fitted: int = FITTED, tested: int = TESTED) -> Images:
    """The first images of `fashion_mnist_small`, preprocessed for a builder."""
    folder = Path(shipped.__file__).parent
    arrays: list[np.ndarray] = []
    for split, count in (("train", fitted), ("t10k", tested)):
        pixels, labels = (
            parse_idx((folder / f"{split}-{kind}-ubyte").read_bytes())[:count]
            for kind in ("images-idx3", "labels-idx1")
        )
        resized = tf.image.resize(pixels[..., None], (side, side), antialias=True)
        colours = np.repeat(resized.numpy(), 3, axis=-1)
        arrays += [np.asarray(keras_archs.preprocess_input(colours, name)), labels]
    train, train_labels, test, test_labels = arrays
    return Images(train, train_labels, test, test_labels, find(name).family.preprocessing)


def network(name: str, data: Images, **arguments: Any) -> keras.Model:
    """Builds a network that returns logits, with weights as described above."""
    keras.utils.set_random_seed(0)
    model = keras_archs.create_model(
        name,
        input_shape=data.train.shape[1:],
        classes=CLASSES,
        classifier_activation=None,
        **arguments,
    )
    _draw(model)
    _measure_norms(model, data.train[:STATISTICS])
    _fit_classifier(model, data)
    return model


def _draw(model: keras.Model) -> None:
    """Draws all weights that are initialised to a constant. Biases stay 0."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        values = weight.numpy()
        if values.size < 2 or np.ptp(values) or weight.name in {"bias", "moving_mean"}:
            continue
        if weight.name == "gamma":
            weight.assign(random.uniform(0.5, 1.5, values.shape))
        elif weight.name == "beta":
            weight.assign(random.normal(1, 0.2, values.shape))
        elif weight.name != "moving_variance":
            scale = values.shape[0] ** -0.5 if weight.name == "kernel" else 0.1
            weight.assign(random.normal(0, scale, values.shape))


def _measure_norms(model: keras.Model, batch: np.ndarray) -> None:
    norms = [layer for layer in inner_layers(model) if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(batch, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _fit_classifier(model: keras.Model, data: Images) -> None:
    classifier: Any = [layer for layer in model.layers if hasattr(layer, "kernel")][-1]
    features = keras.Model(model.inputs, classifier.input)
    x = features.predict(data.train, batch_size=50, verbose=0).reshape(len(data.train), -1)
    y = np.eye(CLASSES)[data.train_labels]
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x = x - x_mean
    # There can be more features than images, so solve the system with one row per image.
    products = x @ x.T
    ridge = np.trace(products) / len(x) * np.eye(len(x))
    kernel = STRONG * x.T @ np.linalg.solve(products + ridge, y - y_mean)
    bias = STRONG * y_mean - x_mean @ kernel
    classifier.set_weights([kernel.reshape(classifier.kernel.shape), bias])
