"""Converts Keras image classifiers to TFLite and compares each file with its Keras model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import calibration_set
    from .conversion import Conversion, convert
    from .export_page.snippets import Snippets
    from .exporter import Export, export
    from .qat import is_quantize_aware, quantize_aware
    from .runtime.classifier import Classifier
    from .runtime.latency import Latency
    from .runtime.metadata import Metadata, read_metadata
    from .runtime.profiler import OperatorTime, Profile
    from .settings import KINDS, ExportSettings
    from .sources import Source
    from .tflite_file.metadata_writer import attach
    from .verification.layer_errors import LayerLoss, debug
    from .verification.rejection import NotFiniteError, ParityError
    from .verification.report import Report

# A module is imported on the first access to one of its names. Running a file then needs LiteRT and
# NumPy only; TensorFlow is imported for conversion. No module may have the same name as a public
# name, because importing the module would replace the name.
_MODULES = {
    "calibration": ["calibration_set"],
    "runtime.classifier": ["Classifier"],
    "conversion": ["Conversion", "convert"],
    "verification.layer_errors": ["LayerLoss", "debug"],
    "qat": ["is_quantize_aware", "quantize_aware"],
    "runtime.latency": ["Latency"],
    "exporter": ["Export", "export"],
    "settings": ["KINDS", "ExportSettings"],
    "runtime.metadata": ["Metadata", "read_metadata"],
    "tflite_file.metadata_writer": ["attach"],
    "runtime.profiler": ["OperatorTime", "Profile"],
    "verification.rejection": ["NotFiniteError", "ParityError"],
    "verification.report": ["Report"],
    "export_page.snippets": ["Snippets"],
    "sources": ["Source"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "KINDS",
    "Classifier",
    "Conversion",
    "Export",
    "ExportSettings",
    "Latency",
    "LayerLoss",
    "Metadata",
    "NotFiniteError",
    "OperatorTime",
    "ParityError",
    "Profile",
    "Report",
    "Snippets",
    "Source",
    "attach",
    "calibration_set",
    "convert",
    "debug",
    "export",
    "is_quantize_aware",
    "quantize_aware",
    "read_metadata",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
