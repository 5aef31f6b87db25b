"""A figure that a notebook shows. Importing keras_archs must not import this module or matplotlib.

A notebook shows matplotlib's figures only after `matplotlib.pyplot` is imported. The method
`_repr_png_` of this figure works in any notebook. If pyplot is imported as well, IPython asks only
pyplot. Pyplot does not know this figure, so it is shown once.
"""

from io import BytesIO

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that a notebook shows if it is the last line of a cell."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def grid(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of `rows * columns` pictures, and the axes of each picture, row by row."""
    figure = Figure(figsize=(2 + 2 * columns, 1 + 2 * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis in axes:
        axis.axis("off")
    return figure, axes
