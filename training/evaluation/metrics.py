"""A model's predictions for a split, and the metrics of these predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_archs.display.formatting import html_table

from ..runs.run import Run


@dataclass(frozen=True)
class Predictions:
    """Scores and true classes of images, in the order of the split.

    Attributes:
        scores: probabilities, float32 `(images, classes)`. They sum to 1 over the classes, except
            with loss="binary", which gives each class an independent probability.
        truth: true classes, int64 `(images,)`.
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
        """Indices of wrong predictions, the ones with the highest scores first."""
        wrong = np.flatnonzero(self.classes != self.truth)
        return wrong[np.argsort(-self.scores[wrong].max(axis=1), kind="stable")][:count]


def predict(run: Run, model: keras.Model, split: str = "test") -> Predictions:
    """Predicts the images of a split."""
    scores, truth = [], []
    for images, labels in run.batches(split):  # a single pass: each pass may decode the images
        scores.append(model.predict_on_batch(images))
        truth.append(labels.numpy().argmax(axis=1))
    return Predictions(np.concatenate(scores), np.concatenate(truth))


def measure(predictions: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
    """Computes the metrics in metrics.json.

    Returns:
        `test_images`; `test_top1` and `test_top5` as shares of the images; `test_loss`, the mean of
        -log of the true class' score (the cross-entropy without label smoothing, or with
        loss="binary" its term for the true class); `recall`, `precision`, `f1` and `support` of
        each class, 0 for a class that is never predicted; and `confusion_matrix`.
    """
    scores, truth = predictions.scores, predictions.truth
    matrix = predictions.confusion_matrix()
    true_scores = scores[np.arange(len(truth)), truth]
    ranks = (scores > true_scores[:, None]).sum(axis=1)
    hits, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)

    def by_class(values: np.ndarray) -> dict[str, Any]:
        return dict(zip(class_names, values.round(4).tolist(), strict=True))

    return {
        "test_images": len(truth),
        "test_top1": float((predictions.classes == truth).mean()),
        "test_top5": float((ranks < 5).mean()),
        "test_loss": float(-np.log(np.maximum(true_scores, 1e-7)).mean()),
        "recall": by_class(hits / np.maximum(support, 1)),
        "precision": by_class(hits / np.maximum(predicted, 1)),
        "f1": by_class(2 * hits / np.maximum(support + predicted, 1)),
        "support": by_class(support),
        "confusion_matrix": matrix.tolist(),
    }


class Metrics(dict[str, Any]):
    """The content of metrics.json. Notebooks show scalar metrics only: the matrix is large."""

    def _repr_html_(self) -> str:
        return html_table(["figure", "value"], self._figures())

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """Prints the same as text, for IPython without HTML."""
        printer.text("\n".join(f"{name}: {value}" for name, value in self._figures()))

    def _figures(self) -> list[tuple[str, str]]:
        return [
            (name, f"{value:.4g}" if isinstance(value, float) else str(value))
            for name, value in self.items()
            if isinstance(value, str | int | float)
        ]
