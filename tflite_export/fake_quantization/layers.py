"""Layers that compute in float32 what a TFLite file computes in int8.

Rounded to the steps of int8, values pass as they are; the gradient passes as if they had not been
rounded (straight through), except where they were clipped.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342,
section 2.4.
"""

import math
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
HALFWAY = 1e-3
"""In steps: more than rounding errors, less than averages of whole steps that are not halfway."""

THREE = 3.0 + HALFWAY * 6 / 255
"""What a hard sigmoid adds: XNNPACK's sums go up halfway between two steps, which zero is. With 3
itself the converter would make one operation of a hard-swish."""

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


def divided(values: Any, number: Any) -> Any:
    """As the file has it, to the last bit of float32, in which one step can be another one.

    A graph of TensorFlow multiplies by 1 / number instead: in float64 that comes to the same.
    """
    return tf.cast(tf.cast(values, tf.float64) / tf.cast(number, tf.float64), tf.float32)


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

    # 255 steps below zero would leave none above it, which float32 comes to for a tiny `high`.
    below = ops.minimum(ops.floor(255 * -low / (high - low)), 254)
    below = ops.where(step(below) <= step(below + 1), below, below + 1)
    return -below * step(below), (255 - below) * step(below)


Limits = tuple[float, float]
END = math.log(512)
"""From here on a sigmoid is less than half a step, of 1/256, from its end."""
CUT_OFF: dict[str, Limits] = {
    "sigmoid": (-END, END),
    "silu": (-END, math.inf),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_silu": (-3.0, math.inf),
}
"""Activations, and the ends beyond which their results do not change. Steps out there are lost."""
Range = tuple[Any, Any]
"""Lower and upper end, scalars of float32, 255 steps apart, one of which is zero."""


def step_of(ends: Range) -> Any:
    """The size of a step."""
    low, high = ends
    with constants():
        return divided(tf.cast(high, tf.float64) - tf.cast(low, tf.float64), 255)


@register
class Ends(keras.layers.Layer):
    """The range that a tensor has in the file.

    It follows the least and the greatest value of each batch in training, as a moving average, and
    does not move otherwise. Zero lies on a step: the range moves by less than one for that, as
    TensorFlow's `fake_quant_with_min_max_vars` does it and the converter after it.

    Args:
        limits: lower and upper end of a range that never moves, where TFLite prescribes it.
        before: of `CUT_OFF`, the activation that alone takes the tensor; the range ends where it
            does.

    Input: float32 of any shape; several tensors, whose range is one; or with `moves=False` one that
    has this range already. Output: see `Range`.
    """

    def __init__(
        self, limits: Limits | None = None, before: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.limits = limits and tuple(limits)
        self.before = before

    def build(self, _: Any) -> None:
        low, high = self.limits or (0.0, LEAST)
        self.low, self.high = (
            self.add_weight(
                (), initializer=keras.initializers.Constant(value), trainable=False, name=name
            )
            for name, value in (("low", low), ("high", high))
        )

    def call(self, inputs: Any, training: bool | None = None, moves: bool = True) -> Range:
        if moves and self.limits is None and (is_observing() or training):
            tensors = keras.tree.flatten(inputs)
            low = ops.min(ops.stack([ops.min(x) for x in tensors]))
            high = ops.max(ops.stack([ops.max(x) for x in tensors]))
            if self.before:
                least, most = CUT_OFF[self.before]
                low, high = ops.maximum(low, least), ops.minimum(high, most)
            if is_observing():
                self.low.assign(ops.minimum(self.low, low))
                self.high.assign(ops.maximum(self.high, high))
            else:
                self._follow(self.low, ops.minimum(low, 0.0))
                self._follow(self.high, ops.maximum(high, LEAST))
        with constants():
            return zero_on_step(ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high))

    def _follow(self, end: Any, value: Any) -> None:
        end.assign(end * MOMENTUM + ops.stop_gradient(value) * (1 - MOMENTUM))

    def compute_output_spec(self, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor((), "float32"), keras.KerasTensor((), "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limits": self.limits, "before": self.before}


@register
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to 256 steps from the lower to the upper end of a range, as `Ends` gives it.

    TFLite's converter takes the range for that of the tensor in the file.

    Args:
        pooled: whether it is given averages of whole steps, of which those halfway between two
            steps go away from the zero of int8, as in TFLite's average pooling.

    Input and output: float32 of any shape.
    """

    def __init__(self, pooled: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pooled = pooled

    def call(self, inputs: Any, ends: Range) -> Any:
        if is_observing():
            return inputs
        low, high = ends
        if not is_exporting():
            # TensorFlow's operation rounds as well, but less exactly.
            step = step_of(ends)
            steps = inputs / step
            if self.pooled:
                steps = steps + HALFWAY * ops.sign(steps - low / step - 128)
            inputs = whole(steps) * step
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def compute_output_spec(self, inputs: Any, *_: Any) -> Any:
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooled": self.pooled}
