"""What a model makes of the images of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from .run import Run


@dataclass(frozen=True)
class Predictions:
    """Scores of images and their true classes, in the order of the split.

    Attributes:
        scores: float32 `(images, classes)`, probabilities: of one class of all, or with
            loss="binary" of each class by itself.
        truth: int64 `(images,)`.
    """

    scores: np.ndarray
    truth: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        return self.scores.argmax(axis=1)

    def confusion_matrix(self) -> np.ndarray:
        """Counts `(classes, classes)`, true classes as rows."""
        return tf.math.confusion_matrix(self.truth, self.classes, self.scores.shape[1]).numpy()

    def worst(self, count: int) -> np.ndarray:
        """Indices of the wrong images, those first of whose class the model was most certain."""
        wrong = np.flatnonzero(self.classes != self.truth)
        return wrong[np.argsort(-self.scores[wrong].max(axis=1), kind="stable")][:count]


def predict(run: Run, model: keras.Model, split: str = "test") -> Predictions:
    scores, truth = [], []
    for images, labels in run.batches(split):  # once: what is not cached is decoded each time
        scores.append(model.predict_on_batch(images))
        truth.append(labels.numpy().argmax(axis=1))
    return Predictions(np.concatenate(scores), np.concatenate(truth))


def measure(predictions: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
    """The figures of metrics.json.

    Returns:
        `test_images`; `test_top1` and `test_top5`, shares of them; `test_loss`, the mean
        of -log of the true class' score: the cross-entropy without label smoothing, or with
        loss="binary" the part of it that the true class has; `recall`, `precision`, `f1` and
        `support` of each class, 0 where a class is never predicted; `confusion_matrix`.
    """
    scores, truth = predictions.scores, predictions.truth
    matrix = predictions.confusion_matrix()
    of_truth = scores[np.arange(len(truth)), truth]
    ranks = (scores > of_truth[:, None]).sum(axis=1)
    hits, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)

    def of_classes(values: np.ndarray) -> dict[str, Any]:
        return dict(zip(class_names, values.round(4).tolist(), strict=True))

    return {
        "test_images": len(truth),
        "test_top1": float((predictions.classes == truth).mean()),
        "test_top5": float((ranks < 5).mean()),
        "test_loss": float(-np.log(np.maximum(of_truth, 1e-7)).mean()),
        "recall": of_classes(hits / np.maximum(support, 1)),
        "precision": of_classes(hits / np.maximum(predicted, 1)),
        "f1": of_classes(2 * hits / np.maximum(support + predicted, 1)),
        "support": of_classes(support),
        "confusion_matrix": matrix.tolist(),
    }
