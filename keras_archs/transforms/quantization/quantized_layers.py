"""Convolutions and dense layers that compute in float32 what a TFLite file computes in int8."""

from typing import Any

import keras
from keras import ops

from .ranges import (
    Range,
    constants,
    divide_in_float64,
    is_exporting,
    is_observing,
    register,
    round_straight_through,
    scale_of,
)

KERNEL_LEVELS = 127
"""Levels of a kernel on each side of zero: TFLite does not use -128."""


class _QuantizedKernel:
    """The call of a layer with a kernel and a bias that are rounded as in the file.

    The kernel has 127 levels on each side of zero and one scale for each output channel. The bias
    has the scale of the products to which it is added. Sums are added up in whole levels, as in
    the file. Float32 holds such sums exactly up to 2^24. Sums of other values would have errors,
    which round values near a tie to another level.

    Args of a call: the inputs, and their range. Outputs: the results; the sums of levels before
    the activation, integers of the same shape and dtype; and the scale of these sums, float32
    [channels].
    """

    axes: tuple[int, ...]
    """Axes of the kernel that belong to one output channel."""

    def call(self: Any, inputs: Any, ends: Range) -> tuple[Any, Any, Any]:
        input_scale = scale_of(ends)
        with constants():
            kernel = ops.convert_to_tensor(self.kernel)
            bias = ops.convert_to_tensor(self.bias) if self.use_bias else None
            largest = ops.max(ops.abs(kernel), axis=self.axes, keepdims=True)
            kernel_scale = ops.stop_gradient(
                divide_in_float64(ops.where(largest > 0, largest, 1.0), KERNEL_LEVELS)
            )
            product_scale = ops.reshape(kernel_scale, (-1,)) * input_scale
            if not is_observing():
                kernel = round_straight_through(kernel / kernel_scale)
                bias = None if bias is None else round_straight_through(bias / product_scale)
            if is_exporting():
                kernel = kernel * kernel_scale
                bias = None if bias is None else bias * product_scale
        in_levels = not (is_observing() or is_exporting())
        sums = self.product(
            round_straight_through(inputs / input_scale) if in_levels else inputs, kernel
        )
        if bias is not None:
            sums = ops.add(sums, bias)
        outputs = sums * product_scale if in_levels else sums
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs, sums, product_scale

    def compute_output_spec(self: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        shape = self.compute_output_shape(inputs.shape)
        outputs = (keras.KerasTensor(shape, "float32") for _ in range(2))
        return *outputs, keras.KerasTensor(shape[-1:], "float32")


@register("QuantizedConv2D")
class QuantizedConv2D(_QuantizedKernel, keras.layers.Conv2D):
    """Keras' `Conv2D` with weights rounded by output channel."""

    axes = (0, 1, 2)

    def product(self, inputs: Any, kernel: Any) -> Any:
        return self.convolution_op(inputs, kernel)


@register("QuantizedConv1D")
class QuantizedConv1D(_QuantizedKernel, keras.layers.Conv1D):
    """Keras' `Conv1D` with weights rounded by output channel."""

    axes = (0, 1)

    def product(self, inputs: Any, kernel: Any) -> Any:
        return self.convolution_op(inputs, kernel)


@register("QuantizedDepthwiseConv2D")
class QuantizedDepthwiseConv2D(_QuantizedKernel, keras.layers.DepthwiseConv2D):
    """Keras' `DepthwiseConv2D` with weights rounded by output channel."""

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


@register("QuantizedDense")
class QuantizedDense(_QuantizedKernel, keras.layers.Dense):
    """Keras' `Dense` with weights rounded by output channel."""

    axes = (0,)

    def product(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)
