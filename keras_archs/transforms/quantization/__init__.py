"""Layers that compute in float32 what a TFLite file computes in int8.

`quantize_aware.py` builds a network from them.
"""

from .quantized_layers import (
    QuantizedConv1D,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from .ranges import FakeQuantize, QuantizationRange
from .xnnpack_rounding import Product, ProductScale, Requantize, Sigmoid, Sum

__all__ = [
    "FakeQuantize",
    "Product",
    "ProductScale",
    "QuantizationRange",
    "QuantizedConv1D",
    "QuantizedConv2D",
    "QuantizedDense",
    "QuantizedDepthwiseConv2D",
    "Requantize",
    "Sigmoid",
    "Sum",
]
