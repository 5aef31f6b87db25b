"""int8 and int16x8 files of a trained network, by TensorFlow's converter and ai-edge-quantizer."""

import contextlib
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
from ai_edge_quantizer.utils import qsv_utils

import training
from benchmarks.fashion_mnist.int8 import NETWORKS
from keras_archs.analysis.classifier import image_shape
from keras_archs.transforms.quantization.dead_filters import rescale_dead_filters
from tflite_export import Classifier, calibration_set
from tflite_export.lowering import calibrated_ranges, quantize
from tflite_export.lowering.converter import make_converter
from tflite_export.lowering.flatbuffer import zero_refused_kernels
from tflite_export.lowering.lower import lower
from tflite_export.lowering.prepare import prepare, unfolded
from tflite_export.settings import ExportSettings
from tflite_export.tflite_file.delegates import operators
from tflite_export.tflite_file.serialize import unpack
from tflite_export.verification.parity import keras_scores

CALIBRATION, TESTED = 300, 10_000
ROUNDS, CALLS = 15, 20
"""Rounds over all files, and calls of one file in each, of which the shortest counts."""
RECIPES = {"int8": recipe.static_wi8_ai8, "int16x8": recipe.static_wi8_ai16}
INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8

Ranges = dict[str, Any]
"""Least and greatest value of a tensor, by its name."""


def train(name: str, dataset: str, epochs: int | None, out: Path) -> Path:
    """Trains a network of `NETWORKS`, seed 0; the folder of the run."""
    settings = NETWORKS[name].settings(dataset, epochs)
    training.train(training.load_recipe("fast", **settings), out, overwrite=True)
    return out


def rows_of(name: str, folder: Path, count: int | None = None) -> list[dict[str, Any]]:
    """Makes the files of a finished run and tests them; a row for each.

    Args:
        name: of the network.
        folder: of the run.
        count: test images; all 10,000 if None.
    """
    opened = training.load_run(folder)
    images = calibration_set(opened, CALIBRATION)
    test, labels = opened.arrays("test", count or TESTED)
    # Probabilities would hide most of a difference.
    model = prepare(opened.model(), scores="logits")
    exact = keras_scores(unfolded(opened.model(), "logits"), test)
    rows = []
    for kind in RECIPES:
        contents = {engine: make() for engine, make in engines(model, kind, images).items()}
        times = latencies(contents, test[0])
        for engine, content in contents.items():
            found, every = Classifier(content).predict(test), operators(content)
            rows.append(
                {
                    "file": f"{name}, {kind}: {engine}",
                    "epochs": opened.settings.config.epochs,
                    "keras_top1": round(float(np.mean(exact.argmax(axis=1) == labels)), 4),
                    "top1": round(float(np.mean(found.argmax(axis=1) == labels)), 4),
                    "agreement": round(float(np.mean(_same_class(found, exact))), 4),
                    "rms_error": round(_rms(found - exact) / float(np.std(exact)), 4),
                    "bytes": len(content),
                    "operators": len(every),
                    "outside_xnnpack": sum(not each.xnnpack for each in every),
                    "latency_ratio": round(times[engine] / times["package"], 2),
                }
            )
    return rows


def engines(model: keras.Model, kind: str, images: np.ndarray) -> dict[str, Callable[[], bytes]]:
    """What makes a file of one kind, by name; "package" is what the package does."""
    clean = prepare(model, integers=True)
    if kind == "int16x8":
        return {
            "package": lambda: _by_package(model, "int16x8", images),
            "converter": lambda: _by_converter(clean, images, INT16, tf.float32),
        }
    reached = rescale_dead_filters(clean, images)
    whole = lower(reached, ExportSettings())
    ranges = _measured(whole, kind, images)
    int8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    return {
        "package": lambda: _by_package(model, "int8", images),
        "package without range search": lambda: _without_search(model, images),
        "converter": lambda: _by_converter(reached, images, int8, tf.int8),
        "quantizer": lambda: _by_quantizer(whole, kind, ranges),
        "quantizer, ends cut": lambda: _by_quantizer(whole, kind, _cut(whole, ranges)),
        "quantizer, averages": lambda: _by_quantizer(whole, kind, _averaged(whole, kind, images)),
        "quantizer, dead filters as they are": lambda: _of_dead_filters(clean, kind, images),
    }


def latencies(contents: Mapping[str, bytes], image: np.ndarray) -> dict[str, float]:
    """Seconds for an image, of files that take turns."""
    running = {name: Classifier(content) for name, content in contents.items()}
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(ROUNDS):
        for name, file in running.items():
            file.predict(image)
            seconds[name].append(min(_seconds(file, image) for _ in range(CALLS)))
    return {name: float(np.median(each)) for name, each in seconds.items()}


def _seconds(file: Classifier, image: np.ndarray) -> float:
    start = time.perf_counter()
    file.predict(image)
    return time.perf_counter() - start


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _same_class(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return found.argmax(axis=1) == exact.argmax(axis=1)


def _by_package(model: keras.Model, kind: Any, images: np.ndarray) -> bytes:
    return lower(model, ExportSettings(quantize=kind), representative=images)


def _without_search(model: keras.Model, images: np.ndarray) -> bytes:
    with mock.patch.object(quantize, "_CUTS", quantize._CUTS[:1]):
        return _by_package(model, "int8", images)


def _by_converter(clean: keras.Model, images: np.ndarray, operations: Any, ends: Any) -> bytes:
    """TensorFlow's converter with public settings alone."""
    converter = make_converter(clean, (1, *image_shape(clean)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [operations]
    converter.inference_input_type = converter.inference_output_type = ends
    return zero_refused_kernels(converter.convert())


def _by_quantizer(whole: bytes, kind: str, ranges: Ranges) -> bytes:
    work = quantizer.Quantizer(whole, RECIPES[kind]())
    made = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return zero_refused_kernels(bytes(made.quantized_model or b""))


def _of_dead_filters(clean: keras.Model, kind: str, images: np.ndarray) -> bytes:
    whole = lower(clean, ExportSettings())
    return _by_quantizer(whole, kind, _cut(whole, _measured(whole, kind, images)))


def _measured(whole: bytes, kind: str, images: np.ndarray) -> Ranges:
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(RECIPES[kind]())
    update = qsv_utils.min_max_update
    work = calibrator.Calibrator(whole, num_threads=1, qsv_update_func=update)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        work.calibrate(quantize.signature(images), manager)
    return work.get_model_qsvs()


def _averaged(whole: bytes, kind: str, images: np.ndarray) -> Ranges:
    """The quantizer's own calibration: a moving average of each image's ends."""
    work = quantizer.Quantizer(whole, RECIPES[kind]())
    with contextlib.redirect_stderr(io.StringIO()):
        return work.calibrate(quantize.signature(images), num_threads=1)


def _cut(whole: bytes, ranges: Ranges) -> Ranges:
    """Ranges that end where the sigmoid or swish that takes the tensor does."""
    model = unpack(whole)
    users = calibrated_ranges._users(model)
    cut = dict(ranges)
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        name, free = tensor.name.decode(), (-np.inf, np.inf)
        limits = [calibrated_ranges.CUT_OFF.get(user, free) for user in users[index]]
        if limits and np.size(ranges.get(name, {}).get("min", ())) == 1:
            lows, highs = zip(*limits, strict=True)
            own = ranges[name]
            cut[name] = {
                "min": np.float32(np.minimum(np.maximum(own["min"], min(lows)), 0)),
                "max": np.float32(np.maximum(np.minimum(own["max"], max(highs)), 0)),
            }
    return cut
