"""Converts a network to several kinds: `python -m benchmarks.tflite.measure NAME KIND...`.

The command prints a row as JSON for each kind. Each network has its own process, so a crash of the
converter does not affect other networks.
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

from tests.tflite_export import fitted_networks as networks
from tflite_export.conversion import as_written
from tflite_export.lowering.lower import lower
from tflite_export.runtime.classifier import Classifier
from tflite_export.settings import CALIBRATED, ExportSettings, Quantize
from tflite_export.sources import Source
from tflite_export.tflite_file.delegates import Operator, arena_bytes, operators
from training.data.fashion_mnist_small.builder import CLASS_NAMES

CALIBRATION = 64
"""Number of images for measuring the ranges of activations."""
REPEATS = 30
OPEN_KINDS: tuple[Quantize, ...] = ("none", "int8")
"""Kinds that are also converted with an open batch: one float kind and one integer kind."""
OPEN = 3
"""Batch size in the test of a file with an open batch."""


@dataclass
class Row:
    """A network as a file of one kind. Unknown values are empty.

    Attributes:
        network: name of the builder.
        side: height and width of the images in pixels.
        kind: kind of the file.
        error: first line of the conversion's error, or empty.
        megabytes: size of the file with metadata.
        operators: number of operators.
        outside_xnnpack: numbers and names of operators that XNNPACK leaves to the interpreter.
        outside_gpu: the same for the GPU delegate, according to its list.
        flex: numbers and names of operators that are not built in.
        keras_top1: accuracy of the Keras model on the test images.
        agreement: share of test images for which model and file predict the same class.
        max_error: largest difference of logits, in standard deviations of the model's logits.
        rms_error: root mean square of all differences, in the same unit.
        latency_ms: median time for one image, with one thread.
        latency_p10_ms: tenth percentile of the time.
        latency_p90_ms: ninetieth percentile of the time.
        delegate: delegate in this measurement, see `Latency`.
        arena_kilobytes: memory of the activations, see `arena_bytes`.
        open_batch: "yes" if the network also converts with an open batch and the scores agree;
            otherwise the problem.
        open_outside_xnnpack: `outside_xnnpack` of the file with an open batch.
        seconds: time of the conversion.
        machine: machine of the latency measurement.
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
    """Converts `model` and compares the file with the model."""
    row = Row(name, data.test.shape[1], kind)
    expected = model.predict(data.test, verbose=0)
    row.keras_top1 = _share(expected.argmax(axis=1) == data.test_labels)
    start = time.perf_counter()
    try:
        content = _lower(model, kind, data)
    except Exception as error:  # the row reports any error
        row.error = _first_line(error)
        return row
    row.seconds = round(time.perf_counter() - start, 1)
    row.megabytes = round(len(content) / 1e6, 3)
    file_operators = operators(content)
    row.operators = len(file_operators)
    row.outside_xnnpack = _names(operator for operator in file_operators if not operator.xnnpack)
    row.outside_gpu = _names(operator for operator in file_operators if not operator.gpu)
    row.flex = _names(operator for operator in file_operators if operator.custom)
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
    """Converts a model like `convert`, with metadata, but without checking the file."""
    calibration = data.train[:CALIBRATION] if kind in CALIBRATED else None
    content = lower(model, ExportSettings(quantize=kind, **options), representative=calibration)
    return as_written(content, Source(model, CLASS_NAMES, data.preprocessing), kind)


def _open_batch(
    model: keras.Model, kind: Quantize, data: networks.Images, expected: np.ndarray, error: float
) -> tuple[str, str]:
    """Returns "yes" or the problem, and the operators outside XNNPACK."""
    try:
        # Float inputs and outputs need no scales here.
        options = {"io": "float32"} if kind == "int8" else {}
        content = _lower(model, kind, data, batch=None, **options)
        runner = Interpreter(model_content=content).get_signature_runner()
        (scores,) = runner(image=data.test[:OPEN]).values()
        off = np.abs(scores - expected[:OPEN]).max() / expected.std()
        outside = _names(operator for operator in operators(content) if not operator.xnnpack)
        # The same error as in the file for one image, with a margin for different rounding.
        agrees = off <= max(1.5 * error, 1e-3)
        return ("yes" if agrees else f"scores off by {off:.2g} deviations"), outside
    except Exception as failure:  # the row reports any error
        return _first_line(failure), ""


def _names(file_operators: Iterable[Operator]) -> str:
    counts = Counter(operator.name for operator in file_operators)
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
