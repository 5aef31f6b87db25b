"""TFLite's hard-swish of int8, which computes in 16 bits and so misses the nearest step at times.

XNNPACK has none of its own.

Source: HardSwish and HardSwishPrepare of TFLite, tensorflow/lite/kernels.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from tflite_export.fake_quantization.layers import (
    Range,
    divided,
    is_exporting,
    is_observing,
    register,
    step_of,
)

LEAST, MOST = -(1 << 15), (1 << 15) - 1


@register
class HardSwishSteps(keras.layers.Layer):
    """Moves the exact values of hard-swish to the steps that TFLite's kernel gives.

    Args of a call: the exact outputs, the inputs, and the ranges of both.
    """

    def call(self, outputs: Any, inputs: Any, inside: Range, behind: Range) -> Any:
        if is_observing() or is_exporting():
            return outputs
        source, target = step_of(inside), step_of(behind)
        steps = hard_swish(tf.cast(tf.round(inputs / source), tf.int32), source, target)
        return outputs + tf.stop_gradient(tf.cast(steps, tf.float32) * target - outputs)

    def compute_output_spec(self, outputs: Any, *_: Any) -> Any:
        return keras.KerasTensor(outputs.shape, outputs.dtype)


def hard_swish(steps: Any, source: Any, target: Any) -> Any:
    """Whole steps of the output for those of the input, int32, from the zeros of both."""
    fine = steps * 128
    factor, exponent = _factor(source / 128 / target)
    value = _product(fine, factor)
    gate_factor, gate_exponent = _factor(divided(source, 128 * 3 / 32768))
    gate = _left(fine, tf.maximum(gate_exponent - 1, 0))
    gate = _left(_product(gate, gate_factor), tf.clip_by_value(gate_exponent, 0, 1))
    gate = _right(gate, tf.maximum(-gate_exponent, 0))
    gate = tf.bitwise.right_shift(gate + (1 << 15), 1)
    return _right(tf.truncatediv(gate * value, 1 << 15), -exponent)


def _factor(ratio: Any) -> tuple[Any, Any]:
    """A number as one of 15 bits below 1, times two to an exponent."""
    exponent = tf.floor(tf.math.log(ratio) * (1 / math.log(2))) + 1
    factor = tf.floor(ratio * 2 ** (15 - exponent) + 0.5)
    return tf.cast(tf.minimum(factor, MOST), tf.int32), tf.cast(exponent, tf.int32)


def _product(values: Any, factor: Any) -> Any:
    product = values * factor
    return tf.truncatediv(product + tf.where(product < 0, 1 - (1 << 14), 1 << 14), 1 << 15)


def _left(values: Any, bits: Any) -> Any:
    return tf.clip_by_value(tf.bitwise.left_shift(values, bits), LEAST, MOST)


def _right(values: Any, bits: Any) -> Any:
    """Divided by a power of two; what is halfway goes away from zero."""
    rest = tf.bitwise.left_shift(1, bits) - 1
    more = tf.bitwise.bitwise_and(values, rest) > rest // 2 + tf.cast(values < 0, tf.int32)
    return tf.bitwise.right_shift(values, bits) + tf.cast(more, tf.int32)
