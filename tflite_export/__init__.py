"""TFLite files of Keras image classifiers, and the check of a file against its model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tflite_export.calibration import calibration_set
    from tflite_export.classifier import Classifier
    from tflite_export.conversion import Conversion, convert
    from tflite_export.debugging import LayerLoss, debug
    from tflite_export.fake_quantization import is_quantize_aware, quantize_aware
    from tflite_export.gate import ParityError
    from tflite_export.latency import Latency
    from tflite_export.lowering import KINDS
    from tflite_export.metadata import Metadata, attach, read_metadata
    from tflite_export.profiler import OperatorTime, Profile
    from tflite_export.report import Report
    from tflite_export.snippets import Snippets
    from tflite_export.sources import Source

# A module is imported when something of it is asked for: to run a file takes LiteRT and NumPy, to
# make one takes TensorFlow. No module may have the name of something here, for its import would
# put the module in its place.
_MODULES = {
    "calibration": ["calibration_set"],
    "classifier": ["Classifier"],
    "conversion": ["Conversion", "convert"],
    "debugging": ["LayerLoss", "debug"],
    "fake_quantization": ["is_quantize_aware", "quantize_aware"],
    "gate": ["ParityError"],
    "latency": ["Latency"],
    "lowering": ["KINDS"],
    "metadata": ["Metadata", "attach", "read_metadata"],
    "profiler": ["OperatorTime", "Profile"],
    "report": ["Report"],
    "snippets": ["Snippets"],
    "sources": ["Source"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "KINDS",
    "Classifier",
    "Conversion",
    "Latency",
    "LayerLoss",
    "Metadata",
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
