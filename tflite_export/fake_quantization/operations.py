"""What TFLite's converter makes of layers and operations in int8.

Which of them take the activation behind them in, which leave the range of their input as it is, and
which have a range of their own.

Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from typing import Any

import numpy as np
from keras import activations, layers, ops

from keras_archs.errors import InputError
from keras_archs.layers.activation import Activation
from keras_archs.layers.batch_norm import BatchNormalization
from keras_archs.layers.dense import Dense
from keras_archs.layers.depthwise import DepthwiseConv2D
from keras_archs.layers.layer_scale import LayerScale
from keras_archs.preprocessing import PreprocessInput

from .kernels import (
    QuantizedConv1D,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from .layers import Limits

# Exactly these classes: what a subclass computes is not known.
KERNELS: dict[type, Any] = {
    layers.Conv1D: QuantizedConv1D,
    layers.Conv2D: QuantizedConv2D,
    layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    DepthwiseConv2D: QuantizedDepthwiseConv2D,
    layers.Dense: QuantizedDense,
    Dense: QuantizedDense,
}
# A factor and a shift for each channel, where no convolution has taken them in.
AFFINE = {layers.BatchNormalization, BatchNormalization, LayerScale, PreprocessInput}
AFFINE |= {layers.Rescaling, layers.Normalization}
PROBE = 1024.0

# Keras does not export the classes of its operations, which go by their names, with layers that
# compute the same.
ARITHMETIC = {"Add", "Subtract", "Multiply"}
MEANS = {"GlobalAveragePooling2D", "Mean", "Sum"}
NEW_RANGE = {"Matmul", "Concatenate"}
SAME_VALUES = {"Flatten", "Reshape", "Permute", "Transpose", "Squeeze", "ExpandDims", "GetItem"}
SAME_VALUES |= {"Split", "ZeroPadding2D", "Pad", "Cropping2D"}
SAME_VALUES |= {"Cast", "ConvertToTensor"}  # all are float32
SAME_VALUES |= {"MaxPooling2D", "MaxPool", "GlobalMaxPooling2D", "Max"}
SAME_STEPS = {"AveragePooling2D", "AveragePool"}
"""Their results are rounded to the steps of their input."""

FUSED = {"relu", "relu6"}
"""Activations that become part of the operation in front."""
PROBABILITIES = (0.0, 255 / 256)
LIMITS: dict[str, Limits] = {
    "sigmoid": PROBABILITIES,
    "softmax": PROBABILITIES,
    "tanh": (-1.0, 127 / 128),
}
"""Ranges that TFLite prescribes."""
GATES = {"silu": "sigmoid", "hard_silu": "hard_sigmoid"}
"""Activations that are their input times another activation of it."""
_OTHERS = {"linear", "silu", "hard_silu", "hard_sigmoid", "gelu", "elu", "leaky_relu"}
FUNCTIONS = {getattr(activations, name): name for name in {*FUSED, *LIMITS, *_OTHERS}}
_CLASSES = {name.replace("_", ""): name for name in FUNCTIONS.values()}


def activation_of(operation: Any) -> str | None:
    """The name of the activation that a layer or operation is, if it is one."""
    kind = type(operation)
    if kind in {layers.Activation, Activation}:
        return FUNCTIONS.get(operation.activation)
    if kind is layers.ReLU:
        name = {None: "relu", 6: "relu6"}.get(operation.max_value)
        return None if operation.negative_slope or operation.threshold else name
    if kind is layers.Softmax or not isinstance(operation, layers.Layer):
        return _CLASSES.get(kind.__name__.lower())
    return "leaky_relu" if kind is layers.LeakyReLU else None


def factor_and_shift(layer: Any, channels: int) -> list[np.ndarray]:
    """Kernel `[1, 1, channels, 1]` and bias of the depthwise convolution that AFFINE's layer is."""
    shift, other = (
        ops.convert_to_numpy(layer(np.full((1, 1, 1, channels), value, "float32")))
        for value in (0.0, PROBE)
    )
    return [(other - shift).reshape(1, 1, -1, 1) / PROBE, shift.ravel()]


def separate(layer: layers.SeparableConv2D) -> tuple[Any, np.ndarray, layers.Conv2D]:
    """A depthwise layer with fake quantisation, its kernel, and the convolution behind it."""
    config = layer.get_config()
    kept = ("kernel_size", "padding", "dilation_rate", "strides", "depth_multiplier")
    depthwise = QuantizedDepthwiseConv2D(
        **{key: config[key] for key in (*kept, "trainable")},
        use_bias=False,
        name=f"{layer.name}_depthwise",
        dtype="float32",
    )
    kept = ("filters", "use_bias", "activation", "name", "trainable")
    pointwise = layers.Conv2D(kernel_size=1, dtype="float32", **{key: config[key] for key in kept})
    kernel, *weights = layer.get_weights()
    pointwise.build((None, None, None, weights[0].shape[2]))
    pointwise.set_weights(weights)
    return depthwise, kernel, pointwise


def is_followed_inside(operation: Any, user: Any) -> bool:
    """Whether TFLite gives what an operation computes no range in front of its only user."""
    if type(user).__name__ == "Concatenate":
        return True
    convolves = type(operation) in {*KERNELS, *AFFINE, layers.SeparableConv2D}
    takes = convolves or type(operation).__name__ in ARITHMETIC
    linear = getattr(operation, "activation", None) in {None, activations.linear}
    return takes and linear and activation_of(user) in FUSED


def unknown(operation: Any, why: str) -> InputError:
    return InputError(
        f"{operation.name} ({type(operation).__name__}) cannot be trained for int8: {why}."
    )
