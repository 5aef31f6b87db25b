"""Draws the picture of the README from the run of `keras-archs demo`, and saves a test image.

python -m benchmarks.readme_picture runs/demo
"""

import json
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import keras_archs
import training

IMAGES = Path(__file__).parents[1] / "docs" / "images"
CLASSES = ("Sneaker", "Dress", "Ankle boot")
MAPS = {1: 3, 2: 3, 3: 2}
"""Feature maps to show of each level: those that vary most."""
KINDS = {"none": "float32", "float16": "float16", "dynamic": "dynamic", "int8": "int8"}


def main(
    run: Annotated[Path, typer.Argument(help="Folder of the demo's run.")],
    out: Annotated[Path, typer.Option(help="The picture.")] = IMAGES / "readme.png",
) -> None:
    """Draws test images, some of their feature maps, and the exported files."""
    trained = training.load_run(run)
    model, names = trained.model(), trained.settings.class_names
    figure = Figure(figsize=(10, 2.7), layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=[3, 2])
    left, right = (figure.add_subfigure(grid[0, column]) for column in range(2))
    rows = left.subplots(len(CLASSES), 1 + sum(MAPS.values()))
    images = _examples(trained)
    for row, image in zip(rows, images, strict=True):
        _draw_image(row[0], model, image, names)
        for axes, values in zip(row[1:], _maps(model, image), strict=True):
            axes.imshow(values, cmap="viridis")
            axes.axis("off")
    left.suptitle("Test images, predicted classes, and what the network sees", fontsize=10)
    reports = [_report(run, kind) for kind in KINDS]
    _draw_files(right.subplots(), reports)
    right.suptitle("Exported TFLite files", fontsize=10)
    figure.savefig(out, dpi=120)
    _save_image(images[CLASSES.index("Sneaker")], out.with_name("sneaker.png"))
    print(f"{out}: {reports[0]['processor']}, {reports[0]['cores']} cores")


def _examples(run: training.Run) -> np.ndarray:
    """The first test image of each of `CLASSES`."""
    images, labels = run.arrays("test", 200)
    wanted = [run.settings.class_names.index(name) for name in CLASSES]
    return images[[int(np.flatnonzero(labels == label)[0]) for label in wanted]]


def _draw_image(axes: Axes, model: keras.Model, image: np.ndarray, names: tuple[str, ...]) -> None:
    """The image with its predicted class."""
    scores = model.predict(image[None], verbose=0)[0]
    best = int(np.argmax(scores))
    axes.imshow(image.mean(axis=-1), cmap="gray")
    axes.set_title(f"{names[best]} {scores[best]:.0%}", fontsize=8, loc="left")
    axes.axis("off")


def _maps(model: keras.Model, image: np.ndarray) -> list[np.ndarray]:
    """Feature maps of the levels of `MAPS`."""
    chosen = []
    for level, count in MAPS.items():
        drawn = keras_archs.visualize.feature_maps(model, image, level, count=32).axes
        maps = [np.asarray(axes.get_images()[0].get_array()) for axes in drawn if axes.get_images()]
        chosen += sorted(maps, key=np.std, reverse=True)[:count]
    return chosen


def _save_image(image: np.ndarray, path: Path) -> None:
    """Saves a preprocessed gray image as pixels of 0..255."""
    gray = image.mean(axis=-1)
    pixels = 255 * (gray - gray.min()) / np.ptp(gray)
    Image.fromarray(pixels.round().astype("uint8")).save(path)


def _report(run: Path, kind: str) -> dict[str, Any]:
    [path] = (run / "export").glob(f"*_{kind}.json")
    return json.loads(path.read_text())


def _draw_files(axes: Axes, reports: list[dict[str, Any]]) -> None:
    sizes = [report["size_bytes"] / 1e6 for report in reports]
    bars = axes.barh(list(KINDS.values()), sizes, color="#5e81ac")
    texts = [
        f" {size:.2f} MB, top-1 {report['tflite_top1']:.2%}"
        for size, report in zip(sizes, reports, strict=True)
    ]
    axes.bar_label(bars, texts, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 2 * max(sizes))
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


if __name__ == "__main__":
    typer.run(main)
