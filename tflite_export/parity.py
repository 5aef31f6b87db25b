"""How near the scores of a TFLite file are to those of its Keras model."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_archs.errors import InputError

from . import classifier
from .classifier import Classifier, best_class
from .file_graph import Graph
from .rejection import NotFiniteError

CONFIDENCE = 0.95
"""Of the interval of an agreement."""


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
        deviation: root mean square of the differences of all probabilities, as a share of the root
            mean square of the Keras model's; about 1 or more for two networks that have nothing to
            do with each other.
    """

    images: int
    keras_top1: float | None
    tflite_top1: float | None
    agreement: float
    max_abs_difference: float
    max_error: float
    deviation: float

    @property
    def agreement_interval(self) -> tuple[float, float]:
        """The 95% confidence interval of `agreement`, two-sided, by Clopper and Pearson.

        A network that agrees on another share of all images would give at most 2.5% of such sets
        of images as low, or as high, an agreement. Unlike Wilson's interval it keeps this promise
        for few images and shares near 1 as well.
        """
        from scipy.stats import binomtest  # noqa: PLC0415  # takes half a second

        same = round(self.agreement * self.images)
        low, high = binomtest(same, self.images).proportion_ci(CONFIDENCE, "exact")
        return float(low), float(high)

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
        ours, theirs = (
            scores if probabilities else classifier.probabilities(scores)
            for scores in (expected, actual)
        )
        return cls(
            images=len(expected),
            keras_top1=None if labels is None else float(np.mean(keras_class == labels)),
            tflite_top1=None if labels is None else float(np.mean(tflite_class == labels)),
            agreement=float(np.mean(keras_class == tflite_class)),
            max_abs_difference=difference,
            # A network that says the same of all images and classes has no range.
            max_error=difference / float(np.ptp(expected) or 1),
            deviation=_rms(ours - theirs) / (_rms(ours) or 1),
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
        """Runs a file on images, and compares it with what its Keras model says of them.

        Raises:
            NotFiniteError: the file gives NaN or infinity.
        """
        found = Classifier(content, threads).predict(images)
        _check_finite("the file", found, content)
        return cls.of(expected, found, labels, Graph.read(content).gives_probabilities())


def keras_scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What a Keras model says of images, float32 [n, scores].

    Raises:
        NotFiniteError: it says NaN or infinity.
    """
    # The one output may come in a list or a dictionary.
    scores = keras.tree.flatten(model.predict(images, verbose=0))[0].astype(np.float32)
    _check_finite("model", scores)
    return scores


def _check_finite(who: str, scores: np.ndarray, content: bytes | None = None) -> None:
    bad = int(np.sum(~np.isfinite(scores).all(axis=1)))
    if bad:
        raise NotFiniteError(
            f"{who} gives NaN or infinity for {bad} of {len(scores)} images"
            + (", the Keras model for none." if content else "; no file can be held against it."),
            content,
        )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def as_labels(labels: Any, images: int, scores: int) -> np.ndarray:
    """The classes of so many images, int [images], in whatever holds them.

    Raises:
        InputError: they are something else.
    """
    classes = max(2, scores)
    array = np.atleast_1d(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"labels must be an array of whole numbers, got {array.dtype}.")
    if array.shape != (images,):
        raise InputError(f"labels must be of shape ({images},) as images, got {array.shape}.")
    if array.min() < 0 or array.max() >= classes:
        raise InputError(
            f"labels must be from 0 to {classes - 1}, got {array.min()} to {array.max()}."
        )
    return array
