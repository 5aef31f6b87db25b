"""TFLite files of Keras image classifiers, and the check of a file against its model."""

from tflite_export.classifier import Classifier, Latency
from tflite_export.convert import Conversion, convert
from tflite_export.lowering import KINDS
from tflite_export.quantize_aware import is_quantize_aware, quantize_aware
from tflite_export.report import Report, compare

__all__ = [
    "KINDS",
    "Classifier",
    "Conversion",
    "Latency",
    "Report",
    "compare",
    "convert",
    "is_quantize_aware",
    "quantize_aware",
]
