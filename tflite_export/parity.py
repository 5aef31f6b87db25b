"""How near the scores of a TFLite file are to those of its Keras model."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_archs.errors import InputError

from .classifier import Classifier, best_class
from .file_graph import Graph


@dataclass(frozen=True)
class Parity:
    """Two networks' scores for the same images.

    Attributes:
        images: how many images both have seen.
        keras_top1: fraction of the images that the Keras model gets right; None without labels.
        tflite_top1: fraction that the file gets right; None without labels.
        agreement: fraction for which both name the same class, right or wrong.
        max_abs_difference: largest difference between two scores.
        max_error: the same as a share of the range of the Keras model's scores, from the lowest to
            the highest of all, so that logits and probabilities have one measure.
    """

    images: int
    keras_top1: float | None
    tflite_top1: float | None
    agreement: float
    max_abs_difference: float
    max_error: float

    @classmethod
    def of(
        cls,
        expected: np.ndarray,
        actual: np.ndarray,
        labels: np.ndarray | None,
        probabilities: bool,
    ) -> "Parity":
        """Compares scores of a Keras model and of its file, both [n, scores]; see `best_class`."""
        keras_class, tflite_class = (best_class(x, probabilities) for x in (expected, actual))
        difference = float(np.abs(expected - actual).max())
        return cls(
            images=len(expected),
            keras_top1=None if labels is None else float(np.mean(keras_class == labels)),
            tflite_top1=None if labels is None else float(np.mean(tflite_class == labels)),
            agreement=float(np.mean(keras_class == tflite_class)),
            max_abs_difference=difference,
            # A network that says the same of all images and classes has no range.
            max_error=difference / float(np.ptp(expected) or 1),
        )

    @classmethod
    def measure(
        cls,
        content: bytes,
        images: np.ndarray,
        labels: np.ndarray | None,
        expected: np.ndarray,
        threads: int = 1,
    ) -> "Parity":
        """Runs a file on images, and compares it with what its Keras model says of them."""
        found = Classifier(content, threads).predict(images)
        return cls.of(expected, found, labels, Graph.read(content).gives_probabilities())


def keras_scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What a Keras model says of images, float32 [n, scores]."""
    # The one output may come in a list or a dictionary.
    return keras.tree.flatten(model.predict(images, verbose=0))[0].astype(np.float32)


def check_labels(labels: np.ndarray | None, images: int, scores: int) -> None:
    """Raises an InputError unless `labels` are None or classes of so many images."""
    if labels is None:
        return
    classes = max(2, scores)
    if not isinstance(labels, np.ndarray) or not np.issubdtype(labels.dtype, np.integer):
        given = getattr(labels, "dtype", type(labels).__name__)
        raise InputError(f"labels must be an array of whole numbers, got {given}.")
    if labels.shape != (images,):
        raise InputError(f"labels must be of shape ({images},) as images, got {labels.shape}.")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}."
        )
