"""The sections of the benchmark. Each is a function that yields the rows of its table."""

import contextlib
import functools
import gc
import importlib.util
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.bench import augmentations, photos
from benchmarks.bench.peers import KERAS_HUB, TIMM
from benchmarks.bench.race import ROOT, Result, interleaved, race, ratio
from benchmarks.bench.report import Row
from benchmarks.bench.worker import Spec
from tflite_export.settings import ExportSettings

FLOAT, HALF = "float32", "mixed_bfloat16"
SIDE = 4096
"""Side of the square matrices whose product measures the machine's peak."""


@dataclass(frozen=True)
class Network:
    """A network with batch size and image size."""

    name: str
    batch: int
    size: int = 224

    @property
    def in_keras(self) -> bool:
        return self.name not in {"SEResNet50", "CoAtNet0"}


# One or more of each family.
NETWORKS = (
    Network("VGG16", 8),
    Network("InceptionV3", 16, 299),
    Network("ResNet50", 16),
    Network("MobileNet", 32),
    Network("MobileNetV2", 32),
    Network("MobileNetV3Large", 32),
    Network("EfficientNetB0", 16),
    Network("SEResNet50", 16),
    Network("CoAtNet0", 8),
)
INFERRED = (Network("ResNet50", 16), Network("MobileNet", 32), Network("EfficientNetB0", 16))
PROFILED = (Network("InceptionV3", 16, 299), *INFERRED)
EXPORTED = (
    *INFERRED,
    Network("MobileNetV2", 1),
    Network("MobileNetV3Large", 1),
    Network("EfficientNetV2B0", 1),
    Network("InceptionV3", 1, 299),
)
# Network, precision, compiled.
ON_GPU = (
    ("MobileNet", "mixed_float16", False),
    ("EfficientNetB0", "mixed_float16", False),
    ("MobileNet", "mixed_float16", True),
    ("ResNet50", "mixed_float16", False),
    ("MobileNet", "mixed_bfloat16", False),
    ("EfficientNetB0", "mixed_float16", True),
    ("ResNet50", "mixed_float16", True),
)
# Networks that include their preprocessing in keras.applications.
PREPROCESSING = {"EfficientNetB0", "EfficientNetV2B0", "MobileNetV3Large"}
QUICK = (Network("MobileNet", 4, 64),)
# A builder of each family in keras.applications.
BUILDS = (
    "VGG16",
    "InceptionV3",
    "Xception",
    "ResNet50",
    "ResNet50V2",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@functools.cache
def matmul_gflops(precision: str) -> float:
    """Measures GFLOP/s of a product of square matrices, the best of ten."""
    import tensorflow as tf  # noqa: PLC0415  # after the timing of imports

    a = tf.cast(tf.random.normal((SIDE, SIDE)), precision.removeprefix("mixed_"))
    multiply = tf.function(lambda: tf.reduce_max(tf.matmul(a, a)), autograph=False)
    best = min(_seconds(lambda: multiply().numpy()) for _ in range(10))
    return 2 * SIDE**3 / best / 1e9


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@functools.cache
def multiply_adds(network: Network) -> int:
    import keras_archs  # noqa: PLC0415
    from keras_archs.graph import symbolic  # noqa: PLC0415

    with symbolic():
        model = keras_archs.create_model(network.name, input_shape=(network.size, network.size, 3))
        return keras_archs.profile(model).multiply_adds


def peak(_rounds: int, _quick: bool) -> Iterator[Row]:
    for precision in (FLOAT, HALF):
        yield Row("peak", "matmul", precision, matmul_gflops(precision), "GFLOP/s")


def build(rounds: int, quick: bool) -> Iterator[Row]:
    def time_import(module: str) -> Callable[[], float]:
        command = [sys.executable, "-c", f"import {module}"]
        return lambda: _seconds(
            lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        )

    yield _compare(
        "build", "import", "", "import keras",
        interleaved({"ours": time_import("keras_archs"), "peer": time_import("keras")}, rounds),
    )  # fmt: skip
    import keras  # noqa: PLC0415

    import keras_archs  # noqa: PLC0415

    def time_build(package: object, name: str) -> Callable[[], float]:
        def run() -> float:
            keras.utils.clear_session()
            gc.collect()
            return _seconds(lambda: getattr(package, name)(weights=None))

        return run

    for name in BUILDS[-1:] if quick else BUILDS:
        functions = {
            "ours": time_build(keras_archs, name),
            "peer": time_build(keras.applications, name),
        }
        seconds = interleaved(functions, rounds)
        yield _compare("build", name, "", "keras.applications", seconds)


def _compare(
    section: str, subject: str, setting: str, peer: str, seconds: dict[str, list[float]]
) -> Row:
    ours, theirs = seconds["ours"], seconds["peer"]
    return Row(
        section, subject, setting, statistics.median(ours), "s", peer, statistics.median(theirs),
        ratio(theirs, ours),
    )  # fmt: skip


def kernels(rounds: int, quick: bool) -> Iterator[Row]:
    """Compares forward and backward pass of single layers with Keras' layers."""
    import keras  # noqa: PLC0415

    from keras_archs import layers  # noqa: PLC0415

    def depthwise(kernel: int, stride: int) -> Callable[[Any], Any]:
        return lambda package: package.DepthwiseConv2D(
            kernel, strides=stride, padding="same", use_bias=False
        )

    def activation(name: str) -> Callable[[Any], Any]:
        return lambda package: package.Activation(name)

    cases = {
        "batch norm": (lambda package: package.BatchNormalization(), (56, 56, 64)),
        "batch norm, 72 channels": (lambda package: package.BatchNormalization(), (56, 56, 72)),
        "depthwise 3x3, stride 2": (depthwise(3, 2), (112, 112, 64)),
        "depthwise 5x5": (depthwise(5, 1), (14, 14, 672)),
        "depthwise 5x5, stride 2": (depthwise(5, 2), (56, 56, 144)),
        **{
            name: (activation(name), (56, 56, 144))
            for name in ("swish", "hard_swish", "gelu", "relu6")
        },
    }
    batch = 2 if quick else 32
    for name, (make, shape) in cases.items():
        for precision in (FLOAT, HALF):
            keras.config.set_dtype_policy(precision)
            functions = {
                side: _layer_step(make(package), (batch, *shape))
                for side, package in (("ours", layers), ("peer", keras.layers))
            }
            seconds = interleaved(functions, rounds)
            row = _compare("kernels", name, "", "keras.layers", seconds)
            yield replace(row, setting=f"{precision}, {batch}x{'x'.join(map(str, shape))}")
    keras.config.set_dtype_policy(FLOAT)


def _layer_step(layer: Any, shape: tuple[int, ...]) -> Callable[[], float]:
    """Returns a function that times a forward and backward pass of a layer in seconds."""
    import tensorflow as tf  # noqa: PLC0415

    x = tf.cast(tf.random.normal(shape), layer.compute_dtype)
    dy = tf.cast(tf.random.normal(layer.compute_output_shape(shape)), layer.compute_dtype)
    layer.build(shape)
    training = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **training)
        weights = [weight.value for weight in layer.trainable_weights]
        return y, tape.gradient(y, [x, *weights], dy)

    return lambda: _seconds(lambda: [step() for _ in range(3)]) / 3


def train(rounds: int, quick: bool) -> Iterator[Row]:
    for network in QUICK if quick else NETWORKS:
        specs = _specs(network, "train")
        if not quick:
            specs += _peers(network, "timm", TIMM)
        results = race(specs, rounds)
        yield from _against_keras(network, results)
        yield from _at_best(network, results, "timm")
        hub = [] if quick else _peers(network, "keras_hub", KERAS_HUB)
        if hub:  # in a separate race: all candidates together would not fit into memory
            ours = [spec for spec in specs if spec.package == "keras_archs"]
            yield from _at_best(network, race([*ours, *hub], rounds), "keras_hub")
        for precision in (FLOAT, HALF):
            yield from _memory(network, results, precision)


def _peers(network: Network, package: str, names: Container[str]) -> list[Spec]:
    if not installed(package) or network.name not in names:
        return []
    return [
        Spec(package, network.name, "train", precision, network.batch, network.size)
        for precision in (FLOAT, HALF)
    ]


def operations(_rounds: int, quick: bool) -> Iterator[Row]:
    """Profiles a training step in float32: shares of convolutions and other operations."""
    for network in QUICK if quick else PROFILED:
        for package in ("keras_archs", "keras.applications"):
            spec = Spec(package, network.name, "train", FLOAT, network.batch, network.size)
            command = [sys.executable, "-m", "benchmarks.bench.operations", spec.dumps()]
            process = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            for kind, share in json.loads(process.stdout.splitlines()[-1]).items():
                setting = f"{FLOAT}, batch {network.batch}, {kind}"
                subject = f"{network.name} of {package}"
                yield Row("operations", subject, setting, 100 * share, "%")


def _specs(network: Network, task: str) -> list[Spec]:
    packages = ["keras_archs", *["keras.applications"] * network.in_keras]
    return [
        Spec(package, network.name, task, precision, network.batch, network.size)
        for precision in (FLOAT, HALF)
        for package in packages
    ]


def _find(results: dict[Spec, Result], package: str, precision: str) -> Result | None:
    matches = (
        result
        for spec, result in results.items()
        if (spec.package, spec.precision) == (package, precision)
    )
    return next(matches, None)


def _against_keras(network: Network, results: dict[Spec, Result]) -> Iterator[Row]:
    """Compares with keras.applications at each precision, if it has the network."""
    for precision in (FLOAT, HALF):
        ours = _find(results, "keras_archs", precision)
        assert ours
        # Three passes: forward, backward to the input, and backward to the weights.
        flops = 3 * 2 * multiply_adds(network) * network.batch / ours.median
        row = Row(
            "train", network.name, f"{precision}, batch {network.batch}",
            network.batch / ours.median, "images/s",
            share=flops / 1e9 / matmul_gflops(precision),
        )  # fmt: skip
        theirs = _find(results, "keras.applications", precision)
        if theirs:
            row = replace(
                row,
                peer="keras.applications",
                theirs=network.batch / theirs.median,
                ratio=ratio(theirs.seconds, ours.seconds),
            )
        yield row


def _at_best(network: Network, results: dict[Spec, Result], package: str) -> Iterator[Row]:
    """Compares both packages, each at its fastest precision."""

    def best(package: str) -> Result | None:
        package_results = [result for spec, result in results.items() if spec.package == package]
        return min(package_results, key=lambda result: result.median, default=None)

    ours, theirs = best("keras_archs"), best(package)
    if ours is None or theirs is None:
        return
    yield Row(
        "train", network.name, "best precision", network.batch / ours.median, "images/s",
        package, network.batch / theirs.median, ratio(theirs.seconds, ours.seconds),
    )  # fmt: skip


def _memory(network: Network, results: dict[Spec, Result], precision: str) -> Iterator[Row]:
    ours = _find(results, "keras_archs", precision)
    theirs = _find(results, "keras.applications", precision)
    if ours and theirs:
        yield Row(
            "train", f"{network.name}, memory", f"{precision}, batch {network.batch}",
            ours.megabytes, "MB", "keras.applications", theirs.megabytes,
            ours.megabytes / theirs.megabytes,
        )  # fmt: skip


def memory(rounds: int, quick: bool) -> Iterator[Row]:
    """Measures memory and time of rematerialised stages."""
    network = QUICK[0] if quick else Network("EfficientNetB0", 32)
    plain = Spec("keras_archs", network.name, "train", FLOAT, network.batch, network.size)
    for levels in ((1, 2), (1, 2, 3, 4, 5)):
        lean = replace(plain, remat=levels)
        results = race([plain, lean], rounds)
        slower = ratio(results[lean].seconds, results[plain].seconds)
        yield Row(
            "memory", f"{network.name}, levels {', '.join(map(str, levels))} recomputed",
            f"{FLOAT}, batch {network.batch}, {slower:.2f} times the time",
            results[lean].megabytes, "MB", "no recomputation", results[plain].megabytes,
            results[lean].megabytes / results[plain].megabytes,
        )  # fmt: skip


def infer(rounds: int, quick: bool) -> Iterator[Row]:
    for network in QUICK if quick else INFERRED:
        for batch in (1, network.batch):
            specs = _specs(replace(network, batch=batch), "infer")
            fused = [replace(spec, task="fused") for spec in specs if spec.package == "keras_archs"]
            results = race([*specs, *fused], rounds, steps=max(1, 16 // batch))
            for precision in (FLOAT, HALF):
                keras_result = _find(results, "keras.applications", precision)
                assert keras_result
                for task in ("infer", "fused"):
                    spec = Spec("keras_archs", network.name, task, precision, batch, network.size)
                    flops = 2 * multiply_adds(network) * batch / results[spec].median / 1e9
                    yield Row(
                        "infer", network.name + ", fused" * (task == "fused"),
                        f"{precision}, batch {batch}", batch / results[spec].median, "images/s",
                        "keras.applications", batch / keras_result.median,
                        ratio(keras_result.seconds, results[spec].seconds),
                        flops / matmul_gflops(precision),
                    )  # fmt: skip


def pipeline(rounds: int, quick: bool) -> Iterator[Row]:
    """Measures reading, decoding, cropping and flipping of JPEGs, without a network."""
    count = 64 if quick else 2048  # large enough that the start-up does not matter
    with tempfile.TemporaryDirectory() as folder:
        photos.write(Path(folder), count)
        seconds = _epochs(photos.candidates(Path(folder)), rounds)
    ours = seconds.pop(photos.OURS)
    for name, values in seconds.items():
        yield Row(
            "input", "random resized crop and flip", f"batch {photos.BATCH}",
            count / statistics.median(ours), "images/s", name, count / statistics.median(values),
            ratio(values, ours),
        )  # fmt: skip


def augmentation(rounds: int, quick: bool) -> Iterator[Row]:
    """Measures augmentation and mixing of images in memory."""
    count = 2 * augmentations.BATCH if quick else 512
    for name, candidates in augmentations.candidates(count).items():
        seconds = _epochs(candidates, rounds)
        ours, theirs = seconds[augmentations.OURS], seconds[augmentations.KERAS]
        yield Row(
            "augmentation", name, f"{augmentations.SIZE} px, batch {augmentations.BATCH}",
            count / statistics.median(ours), "images/s", augmentations.KERAS,
            count / statistics.median(theirs), ratio(theirs, ours),
        )  # fmt: skip


def _epochs(datasets: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Times epochs of open datasets in turns, in seconds."""
    return interleaved(
        {name: functools.partial(_epoch, batches) for name, batches in datasets.items()}, rounds
    )


def _epoch(batches: Any) -> float:
    return _seconds(lambda: sum(1 for _ in batches))


def export(rounds: int, quick: bool) -> Iterator[Row]:
    """Compares our TFLite files with those of TensorFlow's converter for the same network."""
    import keras  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    import keras_archs  # noqa: PLC0415
    from tflite_export.lowering.lower import lower  # noqa: PLC0415

    for network in QUICK if quick else EXPORTED:
        shape = (network.size, network.size, 3)
        inside = {"include_preprocessing": True} if network.name in PREPROCESSING else {}
        model = getattr(keras_archs, network.name)(input_shape=shape, **inside)
        peer = getattr(keras.applications, network.name)(weights=None, input_shape=shape)
        # Random images: the pixel values do not influence sizes and times.
        images = np.random.default_rng(0).uniform(0, 1, (50, *shape)).astype("float32")
        for network_model in (model, peer):
            _take_statistics(network_model, images)
        for kind in ("none", "int8"):
            calibration = images if kind == "int8" else None
            files = {
                "ours": lower(model, ExportSettings(quantize=kind), representative=calibration),
                "peer": _from_keras_model(peer, calibration),
            }
            yield from _files(network.name, "float32" if kind == "none" else kind, files, rounds)
        keras.utils.clear_session()


def _take_statistics(model: Any, images: Any) -> None:
    """Sets the statistics of a network with random weights from images.

    Otherwise, the converter would omit the subtraction of a zero mean, and activations would vanish
    after many layers, with scales that XNNPACK does not support.
    """
    import keras  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and not np.any(layer.mean):
            layer.adapt(images)
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images[:8], training=True)


def _from_keras_model(model: Any, calibration: Any) -> bytes:
    """Converts as in TensorFlow's documentation, to int8 if calibration images are given."""
    import tensorflow as tf  # noqa: PLC0415

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with contextlib.redirect_stdout(sys.stderr):  # Keras lists all variables
        return converter.convert()


def _files(name: str, kind: str, files: dict[str, bytes], rounds: int) -> Iterator[Row]:
    ours, theirs = (len(content) for content in files.values())
    yield Row(
        "export", name, f"{kind}, size", ours / 1e6, "MB", "keras.applications", theirs / 1e6,
        ours / theirs,
    )  # fmt: skip
    for threads in (1, 2):
        runs = {side: _invoke(content, threads) for side, content in files.items()}
        seconds = interleaved(runs, rounds)
        yield Row(
            "export", name, f"{kind}, latency, {threads} thread{'s' * (threads > 1)}",
            1e3 * statistics.median(seconds["ours"]), "ms", "keras.applications",
            1e3 * statistics.median(seconds["peer"]), ratio(seconds["ours"], seconds["peer"]),
        )  # fmt: skip


def _invoke(content: bytes, threads: int) -> Callable[[], float]:
    """Returns a function that times an inference in seconds, as the mean of ten."""
    import numpy as np  # noqa: PLC0415
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_content=content, num_threads=threads)
    image = interpreter.get_input_details()[0]
    # The peer's files have an open batch.
    interpreter.resize_tensor_input(image["index"], [1, *image["shape"][1:]])
    interpreter.allocate_tensors()
    interpreter.set_tensor(image["index"], np.ones([1, *image["shape"][1:]], image["dtype"]))

    def run() -> float:
        return _seconds(lambda: [interpreter.invoke() for _ in range(10)]) / 10

    return run


def gpu(rounds: int, _quick: bool) -> Iterator[Row]:
    """Compares half precision, compiled or not, with keras.applications and timm."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    packages = ("keras_archs", "keras.applications", *["timm"] * installed("timm"))
    for name, precision, compiled in ON_GPU:
        specs = [
            Spec(package, name, "train", precision, 128, 224, compiled) for package in packages
        ]
        results = race(specs, rounds, steps=20)
        ours = results[specs[0]]
        for spec in specs[1:]:
            yield Row(
                "gpu", name, f"{precision}, batch 128, {'' if compiled else 'not '}compiled",
                128 / ours.median, "images/s", spec.package, 128 / results[spec].median,
                ratio(results[spec].seconds, ours.seconds),
            )  # fmt: skip


SECTIONS = {
    "peak": peak,
    "build": build,
    "kernels": kernels,
    "train": train,
    "operations": operations,
    "memory": memory,
    "infer": infer,
    "input": pipeline,
    "augmentation": augmentation,
    "export": export,
    "gpu": gpu,
}
