"""How XNNPACK rounds what it computes to the steps of an output, to the last bit.

Results that are rounded elsewhere by an error of float32 are one step off: in a deep network such a
step moves many values behind it, which move more. What is computed here lies on the step of the
file's; where values are clipped is left to `FakeQuantize`, and gradients pass as if nothing had
been rounded.

Source: XNNPACK, src/microparams-init.c and the kernels of qs8 with fp32 requantization.
"""

from abc import abstractmethod
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from .layers import (
    Range,
    divided,
    is_exporting,
    is_observing,
    register,
    step_of,
)

_FRACTION = 256
"""Of one: what the ratio of two steps is a whole multiple of where steps alone change."""
_DIGITS = 20
"""Binary ones behind the first of the larger ratio in a sum."""
_BITS, _BIAS = 23, 127
"""Of float32: how many the fraction has, and what is added to the exponent."""


@tf.custom_gradient
def _instead(outputs: Any, moved: Any) -> Any:  # noqa: ARG001  # the gradient goes to both
    """`moved`, with the gradient of `outputs`."""
    return moved, lambda gradient: (gradient, None)


class _Rounded(keras.layers.Layer):
    """Exact results, moved to whole steps of the range that they will have.

    Args of a call: the exact results, that range, and what they were computed from.
    """

    def call(self, outputs: Any, behind: Range, *sources: Any) -> Any:
        if is_observing() or is_exporting():
            return outputs
        target = step_of(behind)
        return _instead(outputs, self.steps(outputs, target, *sources) * target)

    @abstractmethod
    def steps(self, outputs: Any, target: Any, *sources: Any) -> Any:
        """Whole multiples of `target`, the size of a step."""

    def compute_output_spec(self, outputs: Any, *_: Any) -> Any:
        return keras.KerasTensor(outputs.shape, outputs.dtype)


@register
class Product(_Rounded):
    """Convolutions, dense layers, products and means: halfway between two steps goes to the even.

    Args of a call: the exact results, their range, how often they hold their unit, a whole number
    from before a ReLU, and the unit.
    """

    def steps(self, _: Any, target: Any, count: Any, unit: Any) -> Any:
        return tf.round(count * divided(unit, target))


@register
class Unit(keras.layers.Layer):
    """What products of tensors are whole multiples of, float32.

    Args:
        count: how many are averaged.

    Args of a call: the tensors' ranges.
    """

    def __init__(self, count: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def call(self, *ranges: Range) -> Any:
        unit = step_of(ranges[0])
        for each in ranges[1:]:
            unit = unit * step_of(each)
        return divided(unit, self.count)

    def compute_output_spec(self, *_: Any) -> Any:
        return keras.KerasTensor((), "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}


@register
class Sum(_Rounded):
    """Sums and differences of two: halfway between two steps goes up.

    Args:
        sign: of the second one.

    Args of a call: the exact results, their range, the two, and the range of each.
    """

    def __init__(self, sign: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sign = sign

    def steps(
        self, _: Any, target: Any, first: Any, second: Any, ends: Range, other_ends: Range
    ) -> Any:
        steps = step_of(ends), step_of(other_ends)
        ratios = [divided(each, target) for each in steps]
        bits = tf.bitcast(ops.maximum(*ratios), tf.int32)
        exponent = tf.bitwise.right_shift(bits, _BITS) - _BIAS
        unit = 2.0 ** tf.cast(exponent - _DIGITS, tf.float64)
        # Up to 30 bits: exact in float64 alone.
        total = sum(
            tf.cast(tf.round(x / step), tf.float64) * tf.round(tf.cast(ratio, tf.float64) / unit)
            for x, step, ratio in zip((first, self.sign * second), steps, ratios, strict=True)
        )
        return tf.cast(tf.floor(total * unit + 0.5), tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sign": self.sign}


@register
class Sigmoid(_Rounded):
    """Sigmoids: the nearest step to the exact value, from which float32 is too far for some.

    Args of a call: the results, their range, the inputs, and the range of these.
    """

    def steps(self, _: Any, target: Any, inputs: Any, inside: Range) -> Any:
        source = step_of(inside)
        least = tf.round(inside[0] / source)
        every = tf.cast((least + tf.range(256.0)) * source, tf.float64)
        table = tf.round(tf.sigmoid(every) / tf.cast(target, tf.float64))
        places = tf.cast(tf.round(inputs / source) - least, tf.int32)
        return tf.gather(tf.cast(table, tf.float32), places)


@register
class Requantize(_Rounded):
    """Values that move from the steps of one range to those of another one, or a leaky ReLU's.

    What lies halfway between two steps goes up. Leaky ReLU has a factor for each side of zero.

    Args:
        slope: of leaky ReLU below zero; 1 where values stay what they are.
        exact: whether the ratio of two steps is a float32 number, as for ReLU.

    Args of a call: the exact results, their range, the inputs, and the range of these.
    """

    def __init__(self, slope: float = 1.0, exact: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = slope
        self.exact = exact

    def steps(self, _: Any, target: Any, inputs: Any, inside: Range) -> Any:
        source = step_of(inside)
        above, below = (divided(factor * source, target) for factor in (1.0, self.slope))
        if not self.exact:
            above, below = (tf.round(_FRACTION * each) / _FRACTION for each in (above, below))
        steps = tf.round(inputs / source)
        return tf.floor(steps * tf.where(steps < 0, below, above) + 0.5)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slope": self.slope, "exact": self.exact}
