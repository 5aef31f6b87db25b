"""What a TFLite file keeps of its Keras model, and what it costs."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from keras_archs.errors import InputError
from keras_archs.files import atomic_write, check_target
from tflite_export.classifier import Classifier, Latency
from tflite_export.conversion import Conversion
from tflite_export.images import check_images


@dataclass(frozen=True)
class Report:
    """A TFLite file beside its Keras model on the same images.

    Attributes:
        quantize: kind of the file.
        size_bytes: size of the file.
        images: how many images both have seen.
        keras_top1: fraction of the images that the Keras model gets right.
        tflite_top1: fraction that the file gets right.
        agreement: fraction for which both name the same class, right or wrong.
        max_abs_difference: largest difference between two outputs.
        latency: time of the file for one image.
        processor: model of the CPU.
        cores: logical cores of the machine.
        versions: of the packages that had a part in it.
    """

    quantize: str
    size_bytes: int
    images: int
    keras_top1: float
    tflite_top1: float
    agreement: float
    max_abs_difference: float
    latency: Latency
    processor: str
    cores: int
    versions: dict[str, str]

    def save_json(self, path: str | Path) -> Path:
        """Writes all fields as JSON, in place of an earlier file, and returns the path.

        Raises:
            InputError: the folder is missing or cannot be written to.
        """
        path = Path(path)
        check_target(path, overwrite=True)
        atomic_write(path, (json.dumps(asdict(self), indent=2) + "\n").encode())
        return path

    def row(self) -> dict[str, str]:
        """The figures of this file in words, by column of a table."""
        time = self.latency
        return {
            "quantize": self.quantize,
            "size": f"{self.size_bytes / 1e6:.2f} MB",
            "top-1": f"{self.tflite_top1:.2%}",
            "agreement": f"{self.agreement:.2%}",
            "max difference": f"{self.max_abs_difference:.2g}",
            "latency": f"{time.median_ms:.2f} ms",
            "p90": f"{time.p90_ms:.2f} ms",
        }

    def conditions(self) -> str:
        """What the figures were measured on, and how."""
        time = self.latency
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"Keras: top-1 {self.keras_top1:.2%} on the same {self.images:,} images. agreement:"
            f" same top-1 class as Keras. latency: median, and 90th percentile, of {time.repeats}"
            f" single images after {time.warmup}, threads: {time.threads}; {self.processor},"
            f" {self.cores} cores; {versions}."
        )


def compare(
    model: keras.Model,
    conversion: Conversion,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    threads: int = 1,
) -> Report:
    """Runs the same test images through a Keras model and its TFLite file.

    Args:
        model: the model that was converted.
        conversion: what `convert` made of it.
        images: float32 [n, height, width, channels], preprocessed as in training.
        labels: whole numbers [n], the class of each image.
        threads: threads of the TFLite interpreter.

    Raises:
        InputError: `images` do not fit the file, `labels` do not fit the images or the classes,
            or `threads` is no positive whole number.
    """
    classifier = Classifier(conversion.content, threads)
    check_images("images", images, classifier.image_shape)
    _check_labels(labels, len(images), model.outputs[0].shape[-1])

    # The one output may come in a list or a dictionary.
    expected = keras.tree.flatten(model.predict(images, verbose=0))[0].astype(np.float32)
    actual = classifier.predict(images)
    keras_class, tflite_class = expected.argmax(axis=1), actual.argmax(axis=1)
    return Report(
        quantize=conversion.quantize,
        size_bytes=len(conversion.content),
        images=len(images),
        keras_top1=float(np.mean(keras_class == labels)),
        tflite_top1=float(np.mean(tflite_class == labels)),
        agreement=float(np.mean(keras_class == tflite_class)),
        max_abs_difference=float(np.abs(expected - actual).max()),
        latency=classifier.latency(images[0]),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        versions={name: version(name) for name in ("ai-edge-litert", "tensorflow", "keras")},
    )


def _check_labels(labels: np.ndarray, images: int, classes: int) -> None:
    if not isinstance(labels, np.ndarray) or not np.issubdtype(labels.dtype, np.integer):
        given = getattr(labels, "dtype", type(labels).__name__)
        raise InputError(f"labels must be an array of whole numbers, got {given}.")
    if labels.shape != (images,):
        raise InputError(f"labels must be of shape ({images},) as images, got {labels.shape}.")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}."
        )


def _processor() -> str:
    """The name of the CPU; Python's own answer is empty or generic on Linux."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
