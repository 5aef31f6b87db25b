"""Convolutions and dense layers that compute in float32 what a TFLite file computes in int8."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import ops

from tflite_export.fake_quantization.layers import (
    Range,
    constants,
    divided,
    is_exporting,
    is_observing,
    register,
    step_of,
    whole,
)

STEPS = 127
"""Of a kernel to each side of zero: TFLite leaves -128 out."""


@register
class QuantizedConv2D(keras.layers.Conv2D):
    """Keras' `Conv2D` with weights rounded by output channel; `ends` is the input's range."""

    def call(self, inputs: Any, ends: Range) -> Any:
        return _compute(self, self.convolution_op, inputs, ends, (0, 1, 2))


@register
class QuantizedConv1D(keras.layers.Conv1D):
    """Keras' `Conv1D` with weights rounded by output channel; `ends` is the input's range."""

    def call(self, inputs: Any, ends: Range) -> Any:
        return _compute(self, self.convolution_op, inputs, ends, (0, 1))


@register
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' `DepthwiseConv2D`, as above."""

    def call(self, inputs: Any, ends: Range) -> Any:
        convolve = partial(
            ops.depthwise_conv,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _compute(self, convolve, inputs, ends, (0, 1))


@register
class QuantizedDense(keras.layers.Dense):
    """Keras' `Dense` with weights rounded for each output; `ends` is the range of the input."""

    def call(self, inputs: Any, ends: Range, training: bool | None = None) -> Any:  # noqa: ARG002  # Keras' own
        return _compute(self, ops.matmul, inputs, ends, (0,))


def _compute(
    layer: Any, product: Callable[..., Any], inputs: Any, ends: Range, axes: tuple[int, ...]
) -> Any:
    """A layer's outputs with its weights rounded as in the file.

    The kernel has 127 steps to each side of zero, of one size for each output channel, and the bias
    the steps of the products that it is added to. All is added up in whole steps, as in the file:
    float32 holds these sums exactly up to 2^24, while its errors in others would move values near
    the middle between two steps.

    Args:
        layer: with a kernel and maybe a bias and an activation.
        product: of inputs and kernel.
        ends: the range of the inputs.
        axes: those of the kernel that one channel spans.
    """
    step = step_of(ends)
    with constants():
        kernel = ops.convert_to_tensor(layer.kernel)
        bias = ops.convert_to_tensor(layer.bias) if layer.use_bias else None
        largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
        steps = ops.stop_gradient(divided(ops.where(largest > 0, largest, 1.0), STEPS))
        sums = ops.reshape(steps, (-1,)) * step
        if not is_observing():
            kernel = whole(kernel / steps)
            bias = None if bias is None else whole(bias / sums)
        if is_exporting():
            kernel = kernel * steps
            bias = None if bias is None else bias * sums
    in_steps = not (is_observing() or is_exporting())
    outputs = product(whole(inputs / step) if in_steps else inputs, kernel)
    if bias is not None:
        outputs = ops.add(outputs, bias)
    if in_steps:
        outputs = outputs * sums
    return outputs if layer.activation is None else layer.activation(outputs)
