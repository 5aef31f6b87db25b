"""TFLite's rules for int8, by layer and operation.

Some operations include the activation that follows them. Some keep the range of their input. Others
have a range of their own.

Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from typing import Any

import numpy as np
from keras import activations, layers, ops

from ...errors import InputError
from ...layers.drop_in.activation import Activation
from ...layers.drop_in.batch_norm import BatchNormalization
from ...layers.drop_in.dense import Dense
from ...layers.drop_in.depthwise import DepthwiseConv2D
from ...layers.layer_scale import LayerScale
from ...preprocessing import PreprocessInput
from .quantized_layers import (
    QuantizedConv1D,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from .ranges import Limits

# Exactly these classes: a subclass may compute something else.
KERNELS: dict[type, Any] = {
    layers.Conv1D: QuantizedConv1D,
    layers.Conv2D: QuantizedConv2D,
    layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    DepthwiseConv2D: QuantizedDepthwiseConv2D,
    layers.Dense: QuantizedDense,
    Dense: QuantizedDense,
}
# A factor and a shift for each channel, if they were not folded into a convolution.
AFFINE = {layers.BatchNormalization, BatchNormalization, LayerScale, PreprocessInput}
AFFINE |= {layers.Rescaling, layers.Normalization}
PROBE = 1024.0

# Names of classes, since Keras does not export the classes of its operations. Some layers that
# compute the same are among them.
ARITHMETIC = {"Add", "Subtract", "Multiply"}
MEANS = {"GlobalAveragePooling2D", "Mean", "Sum"}
NEW_RANGE = {"Matmul", "Concatenate"}
SAME_VALUES = {"Flatten", "Reshape", "Permute", "Transpose", "Squeeze", "ExpandDims", "GetItem"}
SAME_VALUES |= {"Split", "ZeroPadding2D", "Pad", "Cropping2D"}
SAME_VALUES |= {"Cast", "ConvertToTensor"}  # all are float32
SAME_VALUES |= {"MaxPooling2D", "MaxPool", "GlobalMaxPooling2D", "Max"}
SAME_LEVELS = {"AveragePooling2D", "AveragePool"}
"""Operations whose results are rounded to the levels of their input."""

FUSED = {"relu", "relu6"}
"""Activations that become part of the operation before them."""
PROBABILITIES = (0.0, 255 / 256)
LIMITS: dict[str, Limits] = {
    "sigmoid": PROBABILITIES,
    "softmax": PROBABILITIES,
    "tanh": (-1.0, 127 / 128),
}
"""Activations whose range TFLite prescribes."""
GATES = {"silu": "sigmoid", "hard_silu": "hard_sigmoid"}
"""Activations that multiply their input by another activation of it."""
_OTHERS = {"linear", "silu", "hard_silu", "hard_sigmoid", "gelu", "elu", "leaky_relu"}
FUNCTIONS = {getattr(activations, name): name for name in {*FUSED, *LIMITS, *_OTHERS}}
_CLASSES = {name.replace("_", ""): name for name in FUNCTIONS.values()}


def activation_of(operation: Any) -> str | None:
    """The name of an activation layer or operation; None for any other."""
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
    """A layer of `AFFINE` as a depthwise convolution: kernel `[1, 1, channels, 1]` and bias."""
    shift, shifted_factor = (
        ops.convert_to_numpy(layer(np.full((1, 1, 1, channels), value, "float32")))
        for value in (0.0, PROBE)
    )
    return [(shifted_factor - shift).reshape(1, 1, -1, 1) / PROBE, shift.ravel()]


def separate(layer: layers.SeparableConv2D) -> tuple[Any, np.ndarray, layers.Conv2D]:
    """A depthwise layer with fake quantisation, its kernel, and the 1x1 convolution after it."""
    config = layer.get_config()
    keys = ("kernel_size", "padding", "dilation_rate", "strides", "depth_multiplier")
    depthwise = QuantizedDepthwiseConv2D(
        **{key: config[key] for key in (*keys, "trainable")},
        use_bias=False,
        name=f"{layer.name}_depthwise",
        dtype="float32",
    )
    keys = ("filters", "use_bias", "activation", "name", "trainable")
    pointwise = layers.Conv2D(kernel_size=1, dtype="float32", **{key: config[key] for key in keys})
    kernel, *weights = layer.get_weights()
    pointwise.build((None, None, None, weights[0].shape[2]))
    pointwise.set_weights(weights)
    return depthwise, kernel, pointwise


def takes_range_of(operation: Any, user: Any) -> bool:
    """Whether the result of an operation has the range of its only user, in place of its own."""
    if type(user).__name__ == "Concatenate":
        return True
    convolves = type(operation) in {*KERNELS, *AFFINE, layers.SeparableConv2D}
    fuses = convolves or type(operation).__name__ in ARITHMETIC
    linear = getattr(operation, "activation", None) in {None, activations.linear}
    return fuses and linear and activation_of(user) in FUSED


def unsupported(operation: Any, why: str) -> InputError:
    """The error for a layer or operation that cannot be trained for int8."""
    return InputError(
        f"{operation.name} ({type(operation).__name__}) cannot be trained for int8: {why}."
    )
