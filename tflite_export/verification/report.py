"""The report of a TFLite file: accuracy, size, latency and memory."""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_archs.display.formatting import byte_size, html_table
from keras_archs.display.machine import processor_name
from keras_archs.files import local_path, write_target

from ..runtime.classifier import Classifier, Latency
from ..runtime.latency import measure_peak
from ..runtime.profiler import Profile
from ..tflite_file.delegates import arena_bytes
from .parity import Parity


class File(Protocol):
    """The attributes of a `Conversion` that a report needs."""

    @property
    def quantize(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def kept_float(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Report(Parity):
    """Figures of a TFLite file, and its comparison with the Keras model.

    Attributes:
        quantize: kind of the file.
        size_bytes: size of the file.
        kept_float: names of the layers that were kept in float.
        kept_float_bytes: bytes that these layers add to the file; None if unknown.
        latency: latency of the file for one image.
        arena_bytes: memory for the input, the output and all activations, see `arena_bytes`.
        profile: time of each operator; None unless it was requested, if the file takes any batch
            size, or if LiteRT's profiler fails.
        peak: float32 multiply-adds per second that the machine reaches, see `measure_peak`; None
            unless a profile was requested, or if the measurement failed.
        processor: model of the CPU.
        cores: number of logical cores.
        versions: versions of LiteRT, TensorFlow and Keras.
    """

    quantize: str
    size_bytes: int
    kept_float: tuple[str, ...]
    kept_float_bytes: int | None
    latency: Latency
    arena_bytes: int
    profile: Profile | None
    peak: float | None
    processor: str
    cores: int
    versions: dict[str, str]

    @classmethod
    def for_file(
        cls,
        file: File,
        parity: Parity,
        image: np.ndarray,
        *,
        threads: int = 1,
        whole_bytes: int | None = None,
        profile: bool = False,
    ) -> "Report":
        """Measures a file after its comparison with the Keras model.

        Args:
            file: the `Conversion`.
            parity: the comparison.
            image: float32 [height, width, channels], as the file takes it, for the latency.
            threads: threads of the TFLite interpreter.
            whole_bytes: size of the file without layers kept in float, or None if unknown.
            profile: whether to measure the time of each operator and the peak of the machine.
        """
        classifier = Classifier(file.content, threads)
        size = len(file.content)
        return cls(
            **asdict(parity),
            quantize=file.quantize,
            size_bytes=size,
            kept_float=tuple(file.kept_float),
            kept_float_bytes=None if whole_bytes is None else size - whole_bytes,
            latency=classifier.latency(image),
            arena_bytes=arena_bytes(file.content),
            profile=_profile(classifier, image) if profile else None,
            peak=measure_peak(threads) if profile else None,
            processor=processor_name(),
            cores=os.cpu_count() or 1,
            versions={name: version(name) for name in ("ai-edge-litert", "tensorflow", "keras")},
        )

    @property
    def share_of_peak(self) -> float | None:
        """Multiply-adds per second of the file, as a share of `peak`; None without a peak.

        Small networks are far below 1: most of their time goes into reading weights and starting
        operators. An int8 file can be above 1, because the peak is measured in float32.
        """
        if self.peak is None:
            return None
        return self.latency.multiply_adds / (self.latency.median_ms / 1e3) / self.peak

    def __repr__(self) -> str:
        row = self.row()
        kind = row.pop("quantize")
        return f"<Report of {kind}: {', '.join(f'{name} {value}' for name, value in row.items())}>"

    def _repr_html_(self) -> str:
        """Returns the table that a notebook shows."""
        row = self.row()
        return html_table(row, [[*row.values()]], f"{self.conditions()} {self.price()}".strip())

    def json(self) -> str:
        """Returns all fields and `agreement_interval` as JSON."""
        fields = {**asdict(self), "agreement_interval": self.agreement_interval}
        return json.dumps(fields, indent=2) + "\n"

    def save_json(self, path: str | Path) -> Path:
        """Writes `json()` to a file, replaces an earlier one, and returns the path.

        Raises:
            InputError: the folder is missing or cannot be written to.
        """
        path = local_path(path)
        write_target(path, self.json().encode(), overwrite=True)
        return path

    def row(self) -> dict[str, str]:
        """Returns the figures as texts, by column of a table."""
        time = self.latency
        return {
            "quantize": self.quantize,
            "size": byte_size(self.size_bytes),
            "top-1": "-" if self.tflite_top1 is None else f"{self.tflite_top1:.2%}",
            "agreement": f"{self.agreement:.2%}",
            "max difference": f"{self.max_abs_difference:.2g}",
            "latency": f"{time.median_ms:.2f} ms",
            "p90": f"{time.p90_ms:.2f} ms",
        }

    def conditions(self) -> str:
        """Describes how the figures were measured."""
        time = self.latency
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        if self.keras_top1 is None:
            images = f"{self.images:,} images without labels."
        else:
            images = f"Keras: top-1 {self.keras_top1:.2%} on the same {self.images:,} images."
        return (
            f"{images} agreement: share of images with the same class as Keras. latency, p90:"
            f" median and 90th percentile of {time.repeats} runs with one image after"
            f" {time.warmup} warm-up runs, threads: {time.threads}, {time.delegate}."
            f" {self.processor}, {self.cores} cores. {versions}."
        )

    def speed(self) -> str:
        """Describes multiply-adds, speed relative to the peak, and memory."""
        time = self.latency
        peak = ""
        if (share := self.share_of_peak) is not None and self.peak is not None:
            peak = (
                f", computed at {share:.0%} of the speed of a float32 matrix product in NumPy"
                f" ({self.peak / 1e9:.1f} billion multiply-adds per second, threads:"
                f" {time.threads})"
            )
        return (
            f"{time.multiply_adds / 1e6:.2f} million multiply-adds per image{peak}."
            f" {byte_size(self.arena_bytes)} of memory for activations."
        )

    def price(self) -> str:
        """Describes the layers kept in float and their cost; "" without such layers."""
        if not self.kept_float:
            return ""
        layers = f"Kept in float: {', '.join(self.kept_float)}."
        if self.kept_float_bytes is None:
            return layers
        whole_bytes = self.size_bytes - self.kept_float_bytes
        return (
            f"{layers} This adds {byte_size(self.kept_float_bytes)} to the file"
            f" ({self.kept_float_bytes / whole_bytes:.0%} of {byte_size(whole_bytes)})."
        )


def _profile(classifier: Classifier, image: np.ndarray) -> Profile | None:
    if classifier.open_batch:
        return None
    try:
        return classifier.profile(image)
    except RuntimeError as error:
        warnings.warn(str(error), stacklevel=3)
        return None
