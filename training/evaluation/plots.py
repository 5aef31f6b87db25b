"""Plots of a run: curves, example images and confusion matrix."""

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
"""Letters of a title per inch."""
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def _literal_text() -> Iterator[None]:
    """Draws texts literally: without mathematics in `$`, and without warnings of missing glyphs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        with matplotlib.rc_context({"text.parse_math": False}):
            yield


@_literal_text()
def plot_curves(history: Sequence[dict[str, float]], title: str, path: Path) -> None:
    """Draws loss and accuracy of training and validation over the epochs, as a PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _draw_curve(axes, history, metric)
    figure.suptitle(textwrap.fill(title, 10 * _LETTERS))
    _save(figure, path)


def curve_svg(history: Sequence[dict[str, float]], metric: str) -> str:
    """Draws one of the curves as an `<svg>` element, in the text colour of its page."""
    ink = "#010203"  # a colour that the plot does not use
    coloured = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = dict.fromkeys(coloured, ink)
    # The salt makes identifiers, which must be unique on a page.
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


@_literal_text()
def draw_examples(images: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draws a grid of uint8 images `(n, height, width, channels)` with their names.

    Returns:
        the picture, uint8 `(height, width, 4)`.
    """
    columns = math.ceil(len(images) ** 0.5)
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, name in zip(figure.axes, images, names, strict=False):
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(_shorten(name, 24), fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@_literal_text()
def plot_confusion_matrix(
    matrix: np.ndarray, class_names: Sequence[str], title: str, path: Path
) -> None:
    """Draws a confusion matrix as a PNG.

    Args:
        matrix: counts `(classes, classes)`, with the true classes as rows.
        class_names: names of the classes.
        title: of the plot.
        path: of the PNG.

    Colours show shares of each true class, so rare classes are visible too.
    """
    classes = len(class_names)
    side = max(5, 0.55 * classes + 3) if classes <= MOST_ANNOTATED_CLASSES else 10
    figure = Figure(figsize=(side, side), layout="compressed")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.7)
    axes.set(xlabel="predicted class", ylabel="true class")
    # The layout reserves a row for the title, also above the colour bar.
    figure.suptitle(textwrap.fill(title, round(_LETTERS * side)))
    if classes <= MOST_ANNOTATED_CLASSES:
        names = [_shorten(name, 24) for name in class_names]
        axes.set_xticks(range(classes), names, rotation=45, ha="right")
        axes.set_yticks(range(classes), names)
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = str(matrix[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def _shorten(name: str, length: int) -> str:
    """Removes the middle of a long name: such names often differ at their ends."""
    half = length // 2
    return name if len(name) <= length else f"{name[:half]}…{name[1 - half :]}"


def _save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    atomic_write(path, png.getvalue())
