"""Layers that compute in float32 what a TFLite file computes in int8.

Rounded to the steps of int8, values pass as they are; the gradient passes as if they had not been
rounded (straight through), except where they were clipped.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342,
section 2.4.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf
from keras import ops

MOMENTUM = 0.99
"""What a moving range keeps of itself in a step."""
LEAST = 1e-4
"""Upper end of a range that has seen nothing above zero: a step must not be zero."""
FRACTION = 256
"""Of a step: what XNNPACK rounds the ratio of two steps to."""
HALFWAY = 1e-3
"""In steps: more than rounding errors, less than averages of whole steps that are not halfway."""

_observing: ContextVar[bool] = ContextVar("observing", default=False)
_exporting: ContextVar[bool] = ContextVar("exporting", default=False)


@contextmanager
def _inside(mode: ContextVar[bool]) -> Iterator[None]:
    token = mode.set(True)
    try:
        yield
    finally:
        mode.reset(token)


def observing() -> AbstractContextManager[None]:
    """Inside, ranges widen to all they see, and tensors pass them unrounded."""
    return _inside(_observing)


def exporting() -> AbstractContextManager[None]:
    """Inside, a function that is traced holds what TFLite's converter reads.

    What depends on weights alone becomes constants. Left to the converter, it differs in the last
    bit, which rounds some of them to another step.
    """
    return _inside(_exporting)


def is_observing() -> bool:
    return _observing.get()


def is_exporting() -> bool:
    return _exporting.get()


def constants() -> AbstractContextManager[Any]:
    return tf.init_scope() if is_exporting() else nullcontext()


def register(layer: type) -> type:
    """Lets Keras load the layer from a file wherever this module is imported."""
    return keras.saving.register_keras_serializable(package="tflite_export")(layer)


def divided(values: Any, number: float) -> Any:
    """As the file has it, to the last bit of float32, in which one step can be another one.

    A graph of TensorFlow multiplies by 1 / number instead: in float64 that comes to the same.
    """
    return tf.cast(tf.cast(values, tf.float64) / number, tf.float32)


@tf.custom_gradient
def whole(values: Any) -> Any:
    """Rounded, half to even as in TFLite's kernels, with a gradient as if not."""
    return tf.round(values), lambda gradient: gradient


def zero_on_step(low: Any, high: Any) -> tuple[Any, Any]:
    """The least range around another one whose 255 steps meet zero.

    TensorFlow would move the range instead, and clip one end of it. One from -1 to 1 moves by half
    a step, which puts all pixels that are scaled to it between two steps, for rounding errors to
    decide.
    """

    def step(below: Any) -> Any:
        sides = (-low, below), (high, 255 - below)
        # A side without steps holds nothing but zero.
        return ops.maximum(*(end / ops.maximum(steps, 1e-9) for end, steps in sides))

    below = ops.floor(255 * -low / (high - low))
    below = ops.where(step(below) <= step(below + 1), below, below + 1)
    return -below * step(below), (255 - below) * step(below)


@register
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to 256 steps from the lower to the upper end of a range that has a zero.

    TFLite's converter takes the range for that of the tensor in the file. It follows the least and
    the greatest value of each batch in training, as a moving average, and does not move otherwise.
    Zero lies on a step: the range moves by less than one for that, as TensorFlow's
    `fake_quant_with_min_max_vars` does it and the converter after it.

    Args:
        limits: lower and upper end of a range that never moves, where TFLite prescribes it.

    Input and output: float32 of any shape. With `pooled=True` the input has averages of what a
    call has given, which have its range in the file: it does not move, and what lies halfway
    between two steps goes away from the zero of int8, as in TFLite's average pooling. With
    `measure=True` the output is the size of a step, a scalar.
    """

    def __init__(self, limits: tuple[float, float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limits = limits and tuple(limits)

    def build(self, _: Any) -> None:
        low, high = self.limits or (0.0, LEAST)
        self.low, self.high = (
            self.add_weight(
                (), initializer=keras.initializers.Constant(value), trainable=False, name=name
            )
            for name, value in (("low", low), ("high", high))
        )

    def call(
        self,
        inputs: Any,
        training: bool | None = None,
        pooled: bool = False,
        measure: bool = False,
    ) -> Any:
        if measure:
            with constants():
                low, high = self._ends()
                return divided(high - low, 255)
        if not pooled and self.limits is None:
            if is_observing():
                self.low.assign(ops.minimum(self.low, ops.min(inputs)))
                self.high.assign(ops.maximum(self.high, ops.max(inputs)))
            elif training:
                self._follow(self.low, ops.minimum(ops.min(inputs), 0.0))
                self._follow(self.high, ops.maximum(ops.max(inputs), LEAST))
        if is_observing():
            return inputs
        low, high = self._ends()
        if not is_exporting():
            # TensorFlow's operation rounds as well, but less exactly.
            step = divided(high - low, 255)
            steps = inputs / step
            if pooled:
                steps = steps + HALFWAY * ops.sign(steps - low / step - 128)
            inputs = whole(steps) * step
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def _ends(self) -> tuple[Any, Any]:
        with constants():
            return zero_on_step(ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high))

    def _follow(self, end: Any, value: Any) -> None:
        end.assign(end * MOMENTUM + ops.stop_gradient(value) * (1 - MOMENTUM))

    def compute_output_spec(self, inputs: Any, measure: bool = False, **_: Any) -> Any:
        return keras.KerasTensor(() if measure else inputs.shape, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limits": self.limits}


@register
class Requantize(keras.layers.Layer):
    """Moves values from the steps of one range to those of another one, as XNNPACK does it.

    Its factor from one step to the other is a whole number of 256ths. Leaky ReLU has one such
    factor for each side of zero.

    Args:
        slope: of leaky ReLU below zero; 1 where values stay what they are.

    Args of a call: the exact outputs, the inputs, and the steps of the input and of the range.
    """

    def __init__(self, slope: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = slope

    def call(self, outputs: Any, inputs: Any, source: Any, target: Any) -> Any:
        if is_observing() or is_exporting():
            return outputs
        above, below = (
            ops.round(FRACTION * factor * source / target) / FRACTION
            for factor in (1.0, self.slope)
        )
        steps = ops.round(inputs / source)
        steps = ops.floor(steps * ops.where(steps < 0, below, above) + 0.5)
        return outputs + ops.stop_gradient(steps * target - outputs)

    def compute_output_spec(self, outputs: Any, *_: Any) -> Any:
        return keras.KerasTensor(outputs.shape, outputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slope": self.slope}
