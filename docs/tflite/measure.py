"""One network as files of several kinds: `python -m docs.tflite.measure NAME KIND...`.

It prints a row, as JSON, for each kind as soon as it is there. A process of its own for each
network keeps one that the converter brings down from taking the others with it.
"""

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from docs.tflite import networks
from tflite_export.classifier import Classifier
from tflite_export.conversion import as_written
from tflite_export.lowering import Quantize, lower
from tflite_export.operators import Operator, arena_bytes, operators
from tflite_export.sources import Source
from training.data.fashion_mnist_small.builder import CLASS_NAMES

CALIBRATED = ("int8", "int16x8")
CALIBRATION = 64
"""Images that the activations' ranges are measured on."""
REPEATS = 30
OPEN_KINDS: tuple[Quantize, ...] = ("none", "int8")
"""That are also converted with an open batch, in float and in integers."""
OPEN = 3
"""Images at once in the check of such a file."""


@dataclass
class Row:
    """A network as a file of one kind; what is not known is empty.

    Attributes:
        network: name of the builder.
        side: height and width of its images in pixels.
        kind: of the file.
        error: first line of what the conversion ended in, or empty.
        megabytes: size of the file, with its metadata.
        operators: how many there are.
        outside_xnnpack: names and numbers of those that XNNPACK leaves to the interpreter.
        outside_gpu: the same of the GPU delegate, by its list.
        flex: the same of those that are not built in.
        keras_top1: fraction of the test images that the Keras model gets right.
        agreement: fraction for which model and file name the same class.
        max_error: largest difference of two logits, in standard deviations of the model's.
        rms_error: the root of the mean square of all differences, in the same unit.
        latency_ms: median time for one image, one thread.
        latency_p10_ms: one image in ten took at most this long.
        latency_p90_ms: nine images in ten did.
        delegate: what computed then, see `Latency`.
        arena_kilobytes: memory of the activations, see `arena_bytes`.
        open_batch: whether the network converts with an open batch as well and computes the same;
            otherwise what happened.
        open_outside_xnnpack: as `outside_xnnpack`, of that file.
        seconds: that the conversion took.
        machine: that the latency was measured on.
    """

    network: str
    side: int
    kind: str
    error: str = ""
    megabytes: float | None = None
    operators: int | None = None
    outside_xnnpack: str = ""
    outside_gpu: str = ""
    flex: str = ""
    keras_top1: float | None = None
    agreement: float | None = None
    max_error: float | None = None
    rms_error: float | None = None
    latency_ms: float | None = None
    latency_p10_ms: float | None = None
    latency_p90_ms: float | None = None
    delegate: str = ""
    arena_kilobytes: float | None = None
    open_batch: str = ""
    open_outside_xnnpack: str = ""
    seconds: float | None = None
    machine: str = ""


def measure(model: keras.Model, name: str, kind: Quantize, data: networks.Images) -> Row:
    """Converts `model` and compares the file with it."""
    row = Row(name, data.test.shape[1], kind)
    expected = model.predict(data.test, verbose=0)
    row.keras_top1 = _share(expected.argmax(axis=1) == data.test_labels)
    start = time.perf_counter()
    try:
        content = _lower(model, kind, data)
    except Exception as error:  # whatever it is, it is what the row has to tell
        row.error = _first_line(error)
        return row
    row.seconds = round(time.perf_counter() - start, 1)
    row.megabytes = round(len(content) / 1e6, 3)
    found = operators(content)
    row.operators = len(found)
    row.outside_xnnpack = _names(each for each in found if not each.xnnpack)
    row.outside_gpu = _names(each for each in found if not each.gpu)
    row.flex = _names(each for each in found if each.custom)
    classifier = Classifier(content)
    actual = classifier.predict(data.test)
    row.agreement = _share(actual.argmax(axis=1) == expected.argmax(axis=1))
    differences = (actual - expected) / expected.std()
    row.max_error = float(f"{np.abs(differences).max():.3g}")
    row.rms_error = float(f"{np.sqrt(np.square(differences).mean()):.3g}")
    latency = classifier.latency(data.test[0], repeats=REPEATS)
    row.latency_ms, row.delegate = round(latency.median_ms, 3), latency.delegate
    row.latency_p10_ms, row.latency_p90_ms = round(latency.p10_ms, 3), round(latency.p90_ms, 3)
    row.arena_kilobytes = round(arena_bytes(content) / 1e3, 1)
    if kind in OPEN_KINDS:
        row.open_batch, row.open_outside_xnnpack = _open_batch(
            model, kind, data, expected, row.max_error
        )
    return row


def _lower(model: keras.Model, kind: Quantize, data: networks.Images, **options: Any) -> bytes:
    """The file as `convert` writes it, with metadata; how near it came, a row tells."""
    calibration = data.train[:CALIBRATION] if kind in CALIBRATED else None
    content = lower(model, kind, representative=calibration, **options)
    return as_written(content, Source(model, CLASS_NAMES, data.preprocessing), kind)


def _open_batch(
    model: keras.Model, kind: Quantize, data: networks.Images, expected: np.ndarray, error: float
) -> tuple[str, str]:
    """`yes`, or what goes wrong, and what XNNPACK leaves of the file."""
    try:
        # Its numbers in and out are float, so that they need no scales here.
        options = {"io": "float32"} if kind == "int8" else {}
        content = _lower(model, kind, data, batch=None, **options)
        runner = Interpreter(model_content=content).get_signature_runner()
        (scores,) = runner(image=data.test[:OPEN]).values()
        off = np.abs(scores - expected[:OPEN]).max() / expected.std()
        outside = _names(each for each in operators(content) if not each.xnnpack)
        # As near to Keras as the file for one image, but for what each rounds by itself.
        near = off <= max(1.5 * error, 1e-3)
        return ("yes" if near else f"scores off by {off:.2g} deviations"), outside
    except Exception as failure:  # whatever it is, the row has to tell
        return _first_line(failure), ""


def _names(found: Iterable[Operator]) -> str:
    counts = Counter(operator.name for operator in found)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _share(hits: np.ndarray) -> float:
    return round(float(np.mean(hits)), 4)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def main(name: str, kinds: list[Quantize]) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # the converter prints
        data = networks.images(name, networks.side_of(name))
        model = networks.network(name, data)
    for kind in kinds:
        with contextlib.redirect_stdout(sys.stderr):
            row = measure(model, name, kind, data)
        print(json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])  # type: ignore[arg-type]
