"""A run as pictures."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_archs.files import atomic_write

MOST_ANNOTATED_CLASSES = 30


def plot_curves(history: Sequence[dict[str, float]], title: str, path: Path) -> None:
    """Loss and accuracy of training and validation over the epochs, as a PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] + 1 for row in history]
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((metric, "training"), (f"val_{metric}", "validation")):
            axes.plot(epochs, [row[key] for row in history], marker="o", label=label)
        axes.set(xlabel="epoch", title=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    _save(figure, path)


def plot_confusion_matrix(
    matrix: np.ndarray, class_names: Sequence[str], title: str, path: Path
) -> None:
    """The confusion matrix, `(classes, classes)` counts with the true classes as rows, as a PNG.

    Colours show the share of each true class, so that rare classes can be read too.
    """
    classes = len(class_names)
    side = np.clip(0.55 * classes + 3, 5, 20)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.7)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    if classes <= MOST_ANNOTATED_CLASSES:
        axes.set_xticks(range(classes), class_names, rotation=45, ha="right")
        axes.set_yticks(range(classes), class_names)
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = str(matrix[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    atomic_write(path, png.getvalue())
