"""Writes the HTML report of a run."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2
import numpy as np
import tensorflow as tf
from markupsafe import Markup

from keras_archs.display.pages import render_page
from keras_archs.files import atomic_write

from ..runs.run import Run
from .metrics import Predictions
from .plots import curve_svg

MOST_CLASSES_IN_MATRIX = 50
MOST_CONFUSIONS = 20
MOST_MISTAKES = 24
PICTURE_SIZE = 256
"""Maximum of a picture's longer side, in pixels."""


@dataclass(frozen=True)
class Mistake:
    """A misclassified image. `picture` is a data URL of a PNG."""

    picture: str
    truth: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of a class. `support` is its number of test images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Confusion:
    """The number of images of a class that are predicted as another, and their share."""

    truth: str
    predicted: str
    count: int
    share: float


def write_report(run: Run, predictions: Predictions, metrics: Mapping[str, Any]) -> None:
    """Writes `report.html` to a run's folder from its predictions for the test images."""
    names, history = run.settings.class_names, run.folder.history()
    matrix = predictions.confusion_matrix()
    page = render_page(
        jinja2.PackageLoader(__package__, ""),
        "report.html.jinja",
        title=f"{metrics['model']} on {metrics['dataset']}",
        run=run.folder.path.resolve().name,
        metrics=metrics,
        headlines=_headlines(metrics),
        curves=[(metric, Markup(curve_svg(history, metric))) for metric in ("loss", "accuracy")],
        names=names,
        matrix=_shares(matrix) if len(names) <= MOST_CLASSES_IN_MATRIX else None,
        confusions=_confusions(matrix, names),
        small_images=max(run.settings.input_shape[:2]) < 96,
        wrong=int((predictions.classes != predictions.truth).sum()),
        mistakes=list(_mistakes(run, predictions, names)),
        classes=sorted(_classes(metrics), key=lambda row: row.f1),
        settings=_texts(run.settings.config.model_dump(mode="json")),
        machine=_texts({"input_shape": list(run.settings.input_shape), **metrics["machine"]}),
    )
    atomic_write(run.folder.report, page.encode())


def _headlines(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("test top-1", f"{metrics['test_top1']:.2%}"),
        ("test top-5", f"{metrics['test_top5']:.2%}"),
        ("test loss", f"{metrics['test_loss']:.4f}"),
        ("validation top-1", f"{metrics['validation_top1']:.2%}"),
        ("parameters", f"{metrics['parameters'] / 1e6:.2f} M"),
        ("multiply-adds", f"{metrics['multiply_adds'] / 1e6:,.1f} M"),
        ("training", f"{metrics['training_images_per_second']:,.0f} images/s"),
        ("time", f"{metrics['training_seconds'] / 60:,.1f} min"),
    ]


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            value = [f"{key}={text(part)}" for key, part in value.items()]
        if isinstance(value, list):
            return ", ".join(map(str, value)) or "none"
        if value is None or isinstance(value, bool):
            return {None: "not given", True: "yes", False: "no"}[value]
        return str(value)

    return {name: text(value) for name, value in values.items()}


def _classes(metrics: Mapping[str, Any]) -> list[ClassMetrics]:
    columns = [metrics[key] for key in ("precision", "recall", "f1", "support")]
    return [ClassMetrics(name, *(column[name] for column in columns)) for name in metrics["recall"]]


def _shares(matrix: np.ndarray) -> list[list[tuple[int, float]]]:
    """Pairs of count and share of the true class."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = zip(matrix.tolist(), shares.tolist(), strict=True)
    return [list(zip(*row, strict=True)) for row in rows]


def _confusions(matrix: np.ndarray, names: Sequence[str]) -> list[Confusion]:
    """The most frequent confusions, sorted by count."""
    wrong = matrix * (1 - np.eye(len(names), dtype=matrix.dtype))
    most = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    support = matrix.sum(axis=1)
    return [
        Confusion(names[truth], names[predicted], int(count), float(count / support[truth]))
        for truth, predicted in zip(*np.unravel_index(most, matrix.shape), strict=True)
        if (count := wrong[truth, predicted])
    ]


def _mistakes(run: Run, predictions: Predictions, names: Sequence[str]) -> Iterator[Mistake]:
    worst = predictions.worst(MOST_MISTAKES)
    pictures = _pictures(run, worst)
    for index in worst:
        truth, predicted = predictions.truth[index], predictions.classes[index]
        probability = float(predictions.scores[index, predicted])
        yield Mistake(pictures[int(index)], names[truth], names[predicted], probability)


def _pictures(run: Run, indices: np.ndarray) -> dict[int, str]:
    """Test images, cropped and resized for the network, as data URLs by index in the split."""
    if not len(indices):
        return {}
    selection, test = tf.constant(indices, tf.int64), run.data.splits["test"]
    encoded = (
        test.encoded.enumerate()
        .filter(lambda index, _: tf.reduce_any(index == selection))
        .map(lambda _, example: example)
        .apply(tf.data.experimental.assert_cardinality(len(indices)))
    )
    splits = {**run.data.splits, "test": replace(test, encoded=encoded)}
    batches = replace(run, data=replace(run.data, splits=splits)).batches("test")
    images = np.concatenate([images for images, _ in batches.as_numpy_iterator()])
    pixels = np.clip(run.family.preprocessing.undo(images), 0, 255).round().astype("uint8")
    return {
        int(index): f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"
        for index, image in zip(np.sort(indices), pixels, strict=True)
    }


def _png(image: np.ndarray) -> bytes:
    """Encodes uint8 pixels as PNG, reduced to `PICTURE_SIZE` to keep the report small."""
    size = np.array(image.shape[:2])
    if size.max() > PICTURE_SIZE:
        size = np.maximum(1, (size * PICTURE_SIZE / size.max()).round().astype(int))
        image = tf.saturate_cast(tf.round(tf.image.resize(image, size, method="area")), tf.uint8)
    return tf.io.encode_png(image).numpy()
