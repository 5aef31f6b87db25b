"""XNNPACK's rounding of results to the levels of an output, equal to the last bit.

A result with a float32 error can be rounded to another level. In a deep network one such level
changes many later values, which are then rounded to other levels as well. The layers in this module
give the level that the file gives. `FakeQuantize` clips the values. Gradients pass through the
rounding unchanged.

Source: XNNPACK, src/microparams-init.c and the kernels of qs8 with fp32 requantization.
"""

from abc import abstractmethod
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from .ranges import (
    Range,
    divide_in_float64,
    is_exporting,
    is_observing,
    register,
    scale_of,
)

_RATIO_FRACTIONS = 256
"""`Requantize` rounds the ratio of two scales to a multiple of 1/256, except for ReLU."""
_SUM_BITS = 20
"""In a sum, bits of the larger ratio of scales after its first one."""
_FRACTION_BITS, _EXPONENT_BIAS = 23, 127
"""The layout of float32."""


@tf.custom_gradient
def _with_gradient_of(outputs: Any, rounded: Any) -> Any:  # noqa: ARG001  # its gradient is used
    """`rounded`, with the gradient of `outputs`."""
    return rounded, lambda gradient: (gradient, None)


class _ExactRounding(keras.layers.Layer):
    """Moves exact results to the levels of their range.

    Args of a call: the exact results, their range, and the values that they were computed from.
    """

    def call(self, outputs: Any, output_range: Range, *sources: Any) -> Any:
        if is_observing() or is_exporting():
            return outputs
        scale = scale_of(output_range)
        return _with_gradient_of(outputs, self.levels(outputs, scale, *sources) * scale)

    @abstractmethod
    def levels(self, outputs: Any, scale: Any, *sources: Any) -> Any:
        """The results in whole levels.

        Args:
            outputs: the exact results.
            scale: of their range.
            *sources: the values that the results were computed from.
        """

    def compute_output_spec(self, outputs: Any, *_: Any) -> Any:
        return keras.KerasTensor(outputs.shape, outputs.dtype)


@register("Product")
class Product(_ExactRounding):
    """Rounds convolutions, dense layers, products and means; ties go to the even level.

    Args of a call: the exact results, their range, the sums of levels before a ReLU (whole
    numbers), and the scale of these sums.
    """

    def levels(self, _: Any, scale: Any, sums: Any, product_scale: Any) -> Any:
        return tf.round(sums * divide_in_float64(product_scale, scale))


@register("Unit")
class ProductScale(keras.layers.Layer):
    """The scale of products of tensors, float32: the product of the tensors' scales.

    Args:
        count: number of values in a mean, by which the scale is divided.

    Args of a call: the tensors' ranges.
    """

    def __init__(self, count: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def call(self, *ranges: Range) -> Any:
        scale = scale_of(ranges[0])
        for ends in ranges[1:]:
            scale = scale * scale_of(ends)
        return divide_in_float64(scale, self.count)

    def compute_output_spec(self, *_: Any) -> Any:
        return keras.KerasTensor((), "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}


@register("Sum")
class Sum(_ExactRounding):
    """Rounds sums and differences of two tensors; ties go up.

    Args:
        sign: of the second tensor.

    Args of a call: the exact results, their range, the two tensors, and the range of each.
    """

    def __init__(self, sign: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sign = sign

    def levels(
        self,
        _: Any,
        scale: Any,
        first: Any,
        second: Any,
        first_range: Range,
        second_range: Range,
    ) -> Any:
        input_scales = scale_of(first_range), scale_of(second_range)
        ratios = [divide_in_float64(input_scale, scale) for input_scale in input_scales]
        bits = tf.bitcast(ops.maximum(*ratios), tf.int32)
        exponent = tf.bitwise.right_shift(bits, _FRACTION_BITS) - _EXPONENT_BIAS
        unit = 2.0 ** tf.cast(exponent - _SUM_BITS, tf.float64)
        # The sum has up to 30 bits, which only float64 holds exactly.
        total = sum(
            tf.cast(tf.round(x / input_scale), tf.float64)
            * tf.round(tf.cast(ratio, tf.float64) / unit)
            for x, input_scale, ratio in zip(
                (first, self.sign * second), input_scales, ratios, strict=True
            )
        )
        return tf.cast(tf.floor(total * unit + 0.5), tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sign": self.sign}


@register("Sigmoid")
class Sigmoid(_ExactRounding):
    """Rounds sigmoids to the level nearest to the exact value, for which float32 is too coarse.

    Args of a call: the results, their range, the inputs, and the range of the inputs.
    """

    def levels(self, _: Any, scale: Any, inputs: Any, input_range: Range) -> Any:
        input_scale = scale_of(input_range)
        lowest = tf.round(input_range[0] / input_scale)
        input_values = tf.cast((lowest + tf.range(256.0)) * input_scale, tf.float64)
        table = tf.round(tf.sigmoid(input_values) / tf.cast(scale, tf.float64))
        indices = tf.cast(tf.round(inputs / input_scale) - lowest, tf.int32)
        return tf.gather(tf.cast(table, tf.float32), indices)


@register("Requantize")
class Requantize(_ExactRounding):
    """Moves values from the levels of one range to those of another; also computes leaky ReLU.

    Ties go up. Leaky ReLU has a factor for each side of zero.

    Args:
        slope: of leaky ReLU below zero; 1 if the values do not change.
        exact: whether the ratio of two scales is a float32 number, as for ReLU.

    Args of a call: the exact results, their range, the inputs, and the range of the inputs.
    """

    def __init__(self, slope: float = 1.0, exact: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = slope
        self.exact = exact

    def levels(self, _: Any, scale: Any, inputs: Any, input_range: Range) -> Any:
        input_scale = scale_of(input_range)
        above, below = (
            divide_in_float64(factor * input_scale, scale) for factor in (1.0, self.slope)
        )
        if not self.exact:
            above, below = (
                tf.round(_RATIO_FRACTIONS * ratio) / _RATIO_FRACTIONS for ratio in (above, below)
            )
        levels = tf.round(inputs / input_scale)
        return tf.floor(levels * tf.where(levels < 0, below, above) + 0.5)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slope": self.slope, "exact": self.exact}
