"""A run as pictures."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_archs.files import atomic_write

MOST_ANNOTATED_CLASSES = 30
_LETTERS = 10
"""Of a title, for each inch."""
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def _names_as_they_are() -> Iterator[None]:
    """For texts from outside: dollars are no mathematics, and no font has every letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        with matplotlib.rc_context({"text.parse_math": False}):
            yield


@_names_as_they_are()
def plot_curves(history: Sequence[dict[str, float]], title: str, path: Path) -> None:
    """Loss and accuracy of training and validation over the epochs, as a PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _draw_curve(axes, history, metric)
    figure.suptitle(textwrap.fill(title, 10 * _LETTERS))
    _save(figure, path)


def curve_svg(history: Sequence[dict[str, float]], metric: str) -> str:
    """One of the curves as an `<svg>` element, in the text colour of the page around it."""
    ink = "#010203"  # no colour of the plot
    coloured = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = dict.fromkeys(coloured, ink)
    # The salt makes identifiers, which must not occur twice on a page.
    with matplotlib.rc_context(settings | {"svg.fonttype": "none", "svg.hashsalt": metric}):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        _draw_curve(figure.subplots(), history, metric)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(ink, "currentColor")


def _draw_curve(axes: Axes, history: Sequence[dict[str, float]], metric: str) -> None:
    epochs = [row["epoch"] for row in history]
    for key, label in ((metric, "training"), (f"val_{metric}", "validation")):
        axes.plot(epochs, [row[key] for row in history], marker="o", label=label)
    axes.set(xlabel="epoch", title=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0)


@_names_as_they_are()
def draw_examples(images: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A grid of uint8 images `(n, height, width, channels)` above their names.

    Returns:
        uint8 `(height, width, 4)`.
    """
    columns = math.ceil(len(images) ** 0.5)
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, name in zip(figure.axes, images, names, strict=False):
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(_cut(name, 24), fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@_names_as_they_are()
def plot_confusion_matrix(
    matrix: np.ndarray, class_names: Sequence[str], title: str, path: Path
) -> None:
    """The confusion matrix, `(classes, classes)` counts with the true classes as rows, as a PNG.

    Colours show the share of each true class, so that rare classes can be read too.
    """
    classes = len(class_names)
    side = max(5, 0.55 * classes + 3) if classes <= MOST_ANNOTATED_CLASSES else 10
    figure = Figure(figsize=(side, side), layout="compressed")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.7)
    axes.set(xlabel="predicted class", ylabel="true class")
    # The layout keeps a row of its own for it, above the colour bar as well.
    figure.suptitle(textwrap.fill(title, round(_LETTERS * side)))
    if classes <= MOST_ANNOTATED_CLASSES:
        names = [_cut(name, 24) for name in class_names]
        axes.set_xticks(range(classes), names, rotation=45, ha="right")
        axes.set_yticks(range(classes), names)
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = str(matrix[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def _cut(name: str, most: int) -> str:
    """The middle goes: long names often differ at their ends."""
    half = most // 2
    return name if len(name) <= most else f"{name[:half]}…{name[1 - half :]}"


def _save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    atomic_write(path, png.getvalue())
