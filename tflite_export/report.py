"""What a TFLite file keeps of its Keras model, and what it costs."""

import json
import os
import platform
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_archs.display import byte_size, html_table
from keras_archs.files import local_path, write_target

from .classifier import Classifier, Latency
from .operators import arena_bytes
from .parity import Parity
from .profiler import Profile


class File(Protocol):
    """What `convert` makes, as far as it is measured."""

    @property
    def quantize(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def kept_float(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Report(Parity):
    """A TFLite file beside its Keras model on the same images.

    Attributes:
        quantize: kind of the file.
        size_bytes: size of the file.
        kept_float: names of the layers that were kept in float.
        kept_float_bytes: by how much they have made the file larger; None if that is not known.
        latency: time of the file for one image.
        arena_bytes: memory of the input, the output and all between, see `arena_bytes`.
        profile: time of its operators; None where the batch is open or LiteRT's profiler fails.
        processor: model of the CPU.
        cores: logical cores of the machine.
        versions: of the packages that had a part in it.
    """

    quantize: str
    size_bytes: int
    kept_float: tuple[str, ...]
    kept_float_bytes: int | None
    latency: Latency
    arena_bytes: int
    profile: Profile | None
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
    ) -> "Report":
        """Measures a file that has been held against its Keras model.

        Args:
            file: what `convert` made of the model.
            parity: of both.
            image: float32 [height, width, channels], as the file takes it, to measure the time on.
            threads: threads of the TFLite interpreter.
            whole_bytes: size of the file with no layer kept in float, if it is known.
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
            profile=_profile(classifier, image),
            processor=_processor(),
            cores=os.cpu_count() or 1,
            versions={name: version(name) for name in ("ai-edge-litert", "tensorflow", "keras")},
        )

    def __repr__(self) -> str:
        row = self.row()
        kind = row.pop("quantize")
        return f"<Report of {kind}: {', '.join(f'{name} {value}' for name, value in row.items())}>"

    def _repr_html_(self) -> str:
        """The table of a notebook."""
        row = self.row()
        return html_table(row, [[*row.values()]], f"{self.conditions()} {self.price()}".strip())

    def json(self) -> str:
        """All fields as JSON, and `agreement_interval`."""
        fields = {**asdict(self), "agreement_interval": self.agreement_interval}
        return json.dumps(fields, indent=2) + "\n"

    def save_json(self, path: str | Path) -> Path:
        """Writes `json()`, in place of an earlier file, and returns the path.

        Raises:
            InputError: the folder is missing or cannot be written to.
        """
        path = local_path(path)
        write_target(path, self.json().encode(), overwrite=True)
        return path

    def row(self) -> dict[str, str]:
        """The figures of this file in words, by column of a table."""
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
        """What the figures were measured on, and how."""
        time = self.latency
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        if self.keras_top1 is None:
            tested = f"{self.images:,} images without labels."
        else:
            tested = f"Keras: top-1 {self.keras_top1:.2%} on the same {self.images:,} images."
        return (
            f"{tested} agreement: same top-1 class as Keras. latency: median, and 90th percentile,"
            f" of {time.repeats} single images after {time.warmup}, threads: {time.threads},"
            f" {time.delegate}; {self.processor}, {self.cores} cores; {versions}."
        )

    def speed(self) -> str:
        """How much the file computes, how near to the machine's peak, and in how much memory."""
        time = self.latency
        peak = (
            ""
            if time.peak is None
            else (
                f", at {time.share_of_peak:.0%} of what NumPy's product of float32 matrices reached"
                f" right after ({time.peak / 1e9:.1f} billion a second, threads: {time.threads})"
            )
        )
        return (
            f"{time.multiply_adds / 1e6:.2f} million multiply-adds for an image{peak}."
            f" {byte_size(self.arena_bytes)} for activations."
        )

    def price(self) -> str:
        """Which layers were kept in float and what they cost, in words; "" if there is none."""
        if not self.kept_float:
            return ""
        kept = f"Kept in float: {', '.join(self.kept_float)}."
        if self.kept_float_bytes is None:
            return kept
        whole = self.size_bytes - self.kept_float_bytes
        return (
            f"{kept} They cost {byte_size(self.kept_float_bytes)}"
            f" ({self.kept_float_bytes / whole:.0%} of {byte_size(whole)})."
        )


def _profile(classifier: Classifier, image: np.ndarray) -> Profile | None:
    if classifier.open_batch:
        return None
    try:
        return classifier.profile(image)
    except RuntimeError as error:
        warnings.warn(str(error), stacklevel=3)
        return None


def _processor() -> str:
    """The name of the CPU; Python's own answer is empty or generic on Linux."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
