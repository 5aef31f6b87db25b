"""TFLite files of Keras image classifiers, and the check of a file against its model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import calibration_set
    from .classifier import Classifier
    from .conversion import Conversion, convert
    from .debugging import LayerLoss, debug
    from .fake_quantization.model import is_quantize_aware, quantize_aware
    from .latency import Latency
    from .lowering import KINDS
    from .metadata import Metadata, attach, read_metadata
    from .profiler import OperatorTime, Profile
    from .rejection import NotFiniteError, ParityError
    from .report import Report
    from .snippets import Snippets
    from .sources import Source

# A module is imported when something of it is asked for: to run a file takes LiteRT and NumPy, to
# make one takes TensorFlow. No module may have the name of something here, for its import would
# put the module in its place.
_MODULES = {
    "calibration": ["calibration_set"],
    "classifier": ["Classifier"],
    "conversion": ["Conversion", "convert"],
    "debugging": ["LayerLoss", "debug"],
    "fake_quantization.model": ["is_quantize_aware", "quantize_aware"],
    "latency": ["Latency"],
    "lowering": ["KINDS"],
    "metadata": ["Metadata", "attach", "read_metadata"],
    "profiler": ["OperatorTime", "Profile"],
    "rejection": ["NotFiniteError", "ParityError"],
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
