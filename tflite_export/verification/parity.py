"""Compares the scores of a TFLite file with those of its Keras model."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_archs.errors import InputError

from ..runtime import classifier
from ..runtime.classifier import Classifier, best_class
from ..tflite_file.graph import Graph
from .rejection import NotFiniteError

CONFIDENCE = 0.95
"""Confidence level of the interval of the agreement."""


@dataclass(frozen=True)
class Parity:
    """Comparison of a TFLite file and its Keras model on the same images.

    Attributes:
        images: number of images.
        keras_top1: top-1 accuracy of the Keras model, 0 to 1; None without labels.
        tflite_top1: top-1 accuracy of the file, 0 to 1; None without labels.
        agreement: fraction of the images for which both predict the same class, right or wrong.
        max_abs_difference: largest absolute difference between two scores.
        max_error: `max_abs_difference` as a share of the range of all Keras scores, from the lowest
            to the highest. It is comparable for logits and probabilities.
        deviation: root mean square of the differences of all probabilities, as a share of the root
            mean square of the Keras probabilities. It is about 1 or more for unrelated networks.
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
        """The two-sided 95% Clopper-Pearson interval of `agreement`.

        The probability that the true agreement is below the interval is at most 2.5%, and likewise
        above it. This also holds for few images and values near 1, unlike for Wilson's interval.
        """
        from scipy.stats import binomtest  # noqa: PLC0415  # takes half a second

        agreeing = round(self.agreement * self.images)
        low, high = binomtest(agreeing, self.images).proportion_ci(CONFIDENCE, "exact")
        return float(low), float(high)

    @classmethod
    def of(
        cls,
        expected: np.ndarray,
        actual: np.ndarray,
        labels: np.ndarray | None,
        probabilities: bool,
    ) -> "Parity":
        """Compares the scores of a Keras model and of its file.

        Args:
            expected: scores of the Keras model, float [n, scores].
            actual: scores of the file, float [n, scores].
            labels: classes of the images, int [n], or None.
            probabilities: whether the scores are probabilities, else they are logits.
        """
        keras_class, tflite_class = (best_class(x, probabilities) for x in (expected, actual))
        difference = float(np.abs(expected - actual).max())
        keras_probabilities, tflite_probabilities = (
            scores if probabilities else classifier.probabilities(scores)
            for scores in (expected, actual)
        )
        return cls(
            images=len(expected),
            keras_top1=None if labels is None else float(np.mean(keras_class == labels)),
            tflite_top1=None if labels is None else float(np.mean(tflite_class == labels)),
            agreement=float(np.mean(keras_class == tflite_class)),
            max_abs_difference=difference,
            # The range is 0 if all scores are equal.
            max_error=difference / float(np.ptp(expected) or 1),
            deviation=_rms(keras_probabilities - tflite_probabilities)
            / (_rms(keras_probabilities) or 1),
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
        """Runs a file on images and compares its scores with those of its Keras model.

        Args:
            content: the bytes of the file.
            images: images [n, height, width, channels] as the file takes them.
            labels: classes of the images, int [n], or None.
            expected: scores of the Keras model, float [n, scores].
            threads: threads of the interpreter.

        Raises:
            NotFiniteError: the file returns NaN or infinity.
        """
        actual = Classifier(content, threads).predict(images)
        _check_finite("the file", actual, content)
        return cls.of(expected, actual, labels, Graph.read(content).gives_probabilities())


def keras_scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns the scores of a Keras model for images, float32 [n, scores].

    Raises:
        NotFiniteError: the model returns NaN or infinity.
    """
    # The output may be inside a list or a dictionary.
    scores = keras.tree.flatten(model.predict(images, verbose=0))[0].astype(np.float32)
    _check_finite("model", scores)
    return scores


def _check_finite(who: str, scores: np.ndarray, content: bytes | None = None) -> None:
    bad = int(np.sum(~np.isfinite(scores).all(axis=1)))
    if bad:
        raise NotFiniteError(
            f"{who} returns NaN or infinity for {bad} of {len(scores)} images"
            + (". The Keras model does not." if content else ". No file can be compared with it."),
            content,
        )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def as_labels(labels: Any, images: int, scores: int) -> np.ndarray:
    """Checks labels and returns them as an array, int [images].

    Args:
        labels: integers, in an array, a tensor or a list.
        images: number of images.
        scores: number of outputs of the network. One output means two classes.

    Raises:
        InputError: the labels have another type or shape, or are not classes of the network.
    """
    classes = max(2, scores)
    array = np.atleast_1d(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"labels must be an array of integers, got {array.dtype}.")
    if array.shape != (images,):
        raise InputError(
            f"labels must have the shape ({images},), one for each image, got {array.shape}."
        )
    if array.min() < 0 or array.max() >= classes:
        raise InputError(
            f"labels must be from 0 to {classes - 1}, got {array.min()} to {array.max()}."
        )
    return array
