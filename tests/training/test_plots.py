"""Pictures of a run: where their parts lie, and that none is cut off."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from training.evaluation import plots

TITLE = "mobilenet_0.50_64 on image_folder:/home/somebody/photographs/of/many/things: top-1 86.8%"


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog"],
        ["a very long name of a class, first", "a very long name of a class, second"],
        [f"class {i}" for i in range(10)],
        [f"a very long name of a class, {i}" for i in range(30)],
        [f"class {i}" for i in range(100)],
    ],
    ids=lambda names: f"{len(names)} {names[0]}",
)
@pytest.mark.parametrize("title", ["toy", TITLE, f"{TITLE} {TITLE}"], ids=len)
def test_no_part_of_a_confusion_matrix_lies_on_another(monkeypatch, names, title):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, _: figures.append(figure))
    plots.plot_confusion_matrix(np.eye(len(names), dtype=int), names, title, None)
    (figure,) = figures
    FigureCanvasAgg(figure).draw()
    axes, bar = figure.axes
    matrix, colours, head = (part.get_tightbbox() for part in (axes, bar, *figure.texts))
    assert not matrix.overlaps(colours)
    for part in (matrix, colours):
        assert part.y1 <= head.y0
        assert min(part.x0, part.y0) >= -3, "pixels of several hundred"
    assert head.x0 >= 0
    assert max(head.x1, colours.x1) <= figure.bbox.width
    assert head.y1 <= figure.bbox.height
    # The matrix is what the picture is for.
    assert axes.get_window_extent().width > figure.bbox.width / 3
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) > 30 or len({*labels}) == len(names)
