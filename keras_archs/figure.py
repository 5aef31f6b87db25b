"""A figure that a notebook shows. Importing keras_archs must not import this, nor matplotlib.

Matplotlib teaches a notebook to show figures only once `matplotlib.pyplot` is imported. A method
of the figure works in any notebook. Where pyplot is imported as well, IPython asks that one
alone, and pyplot does not know this figure: it is shown once.
"""

from io import BytesIO

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes


class Figure(matplotlib.figure.Figure):
    """Matplotlib's figure, shown where it is the last line of a cell."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def grid(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many pictures, and the axes of each, row by row."""
    figure = Figure(figsize=(2 + 2 * columns, 1 + 2 * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis in axes:
        axis.axis("off")
    return figure, axes
