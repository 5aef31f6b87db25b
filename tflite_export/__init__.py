"""TFLite files of Keras image classifiers, and the check of a file against its model."""

from tflite_export.calibration import calibration_set
from tflite_export.classifier import Classifier, Latency
from tflite_export.conversion import Conversion, convert
from tflite_export.debugging import LayerLoss, debug
from tflite_export.gate import ParityError
from tflite_export.lowering import KINDS
from tflite_export.quantize_aware import is_quantize_aware, quantize_aware
from tflite_export.report import Report, compare

__all__ = [
    "KINDS",
    "Classifier",
    "Conversion",
    "Latency",
    "LayerLoss",
    "ParityError",
    "Report",
    "calibration_set",
    "compare",
    "convert",
    "debug",
    "is_quantize_aware",
    "quantize_aware",
]
