"""Convolutions and dense layers that compute in float32 what a TFLite file computes in int8."""

from typing import Any

import keras
from keras import ops

from .layers import (
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


class _Quantized:
    """What the four have in common, in front of Keras' layer: weights are rounded as in the file.

    The kernel has 127 steps to each side of zero, of one size for each output channel, and the bias
    the steps of the products that it is added to. All is added up in whole steps, as in the file:
    float32 holds these sums exactly up to 2^24, while its errors in others would move values near
    the middle between two steps.

    Args of a call: the inputs, and their range. Outputs: the results; how often they hold their
    unit, whole numbers of the same shape and dtype, before the activation; and the unit,
    float32 [channels].
    """

    axes: tuple[int, ...]
    """Those of the kernel that one output channel spans."""

    def call(self: Any, inputs: Any, ends: Range) -> tuple[Any, Any, Any]:
        step = step_of(ends)
        with constants():
            kernel = ops.convert_to_tensor(self.kernel)
            bias = ops.convert_to_tensor(self.bias) if self.use_bias else None
            largest = ops.max(ops.abs(kernel), axis=self.axes, keepdims=True)
            steps = ops.stop_gradient(divided(ops.where(largest > 0, largest, 1.0), STEPS))
            unit = ops.reshape(steps, (-1,)) * step
            if not is_observing():
                kernel = whole(kernel / steps)
                bias = None if bias is None else whole(bias / unit)
            if is_exporting():
                kernel = kernel * steps
                bias = None if bias is None else bias * unit
        in_steps = not (is_observing() or is_exporting())
        sums = self.product(whole(inputs / step) if in_steps else inputs, kernel)
        if bias is not None:
            sums = ops.add(sums, bias)
        outputs = sums * unit if in_steps else sums
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs, sums, unit

    def compute_output_spec(self: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        shape = self.compute_output_shape(inputs.shape)
        outputs = (keras.KerasTensor(shape, "float32") for _ in range(2))
        return *outputs, keras.KerasTensor(shape[-1:], "float32")


@register
class QuantizedConv2D(_Quantized, keras.layers.Conv2D):
    """Keras' `Conv2D` with weights rounded by output channel."""

    axes = (0, 1, 2)

    def product(self, inputs: Any, kernel: Any) -> Any:
        return self.convolution_op(inputs, kernel)


@register
class QuantizedConv1D(_Quantized, keras.layers.Conv1D):
    """Keras' `Conv1D` with weights rounded by output channel."""

    axes = (0, 1)

    def product(self, inputs: Any, kernel: Any) -> Any:
        return self.convolution_op(inputs, kernel)


@register
class QuantizedDepthwiseConv2D(_Quantized, keras.layers.DepthwiseConv2D):
    """Keras' `DepthwiseConv2D`, as above."""

    axes = (0, 1)

    def product(self, inputs: Any, kernel: Any) -> Any:
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@register
class QuantizedDense(_Quantized, keras.layers.Dense):
    """Keras' `Dense` with weights rounded for each output."""

    axes = (0,)

    def product(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)
