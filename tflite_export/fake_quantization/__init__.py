"""Layers that compute in float32 what a TFLite file computes in int8.

`model.py` builds a network from them. Keras loads such a network from a file after this package has
been imported.
"""

from .kernels import (
    QuantizedConv1D,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from .layers import Ends, FakeQuantize
from .rounding import Product, Requantize, Sigmoid, Sum, Unit

__all__ = [
    "Ends",
    "FakeQuantize",
    "Product",
    "QuantizedConv1D",
    "QuantizedConv2D",
    "QuantizedDense",
    "QuantizedDepthwiseConv2D",
    "Requantize",
    "Sigmoid",
    "Sum",
    "Unit",
]
