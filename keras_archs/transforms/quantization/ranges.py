"""The quantisation range of a tensor, and the layer that rounds a tensor to it.

A range has 256 levels, the values that int8 can represent. The scale is the distance between two
levels. Values are rounded to levels; gradients pass through the rounding unchanged
(straight-through estimator), except where values were clipped.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342,
section 2.4.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf
from keras import ops

MOMENTUM = 0.99
"""Weight of the old value in the moving average of a range, at each training step."""
MIN_HIGH = 1e-4
"""Smallest upper end of a range, so that the scale of a range without positive values is not 0."""
TIE_OFFSET = 1e-3
"""In levels: more than rounding errors, and less than the distance of any other average of whole
levels from a tie, the middle between two levels."""

HARD_SIGMOID_OFFSET = 3.0 + TIE_OFFSET * 6 / 255
"""The constant that a hard sigmoid adds to its input.

For the input 0 the sum is 3, a tie in the range 0..6, which XNNPACK rounds up. With exactly 3, the
converter would also merge a hard-swish into one operator.
"""

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
    """Inside the block, ranges widen to all values that they see, and nothing is rounded."""
    return _inside(_observing)


def exporting() -> AbstractContextManager[None]:
    """Inside the block, traced functions have the form that TFLite's converter reads.

    Values that depend on weights alone become constants. The converter would compute them with an
    error in the last bit, which rounds some of them to another level.
    """
    return _inside(_exporting)


def is_observing() -> bool:
    return _observing.get()


def is_exporting() -> bool:
    return _exporting.get()


def constants() -> AbstractContextManager[Any]:
    """Inside the block, results are constants of the traced function if a model is exported."""
    return tf.init_scope() if is_exporting() else nullcontext()


def register(saved_name: str) -> Callable[[type], type]:
    """Lets Keras load a layer wherever this module is imported.

    Args:
        saved_name: the name of the class in saved models. A `.keras` file finds the class by its
            registered name, and its weights by `__name__`: neither may change.
    """

    def decorate(layer: type) -> type:
        layer.__name__ = saved_name
        return keras.saving.register_keras_serializable(package="tflite_export")(layer)

    return decorate


def divide_in_float64(values: Any, number: Any) -> Any:
    """The float32 quotient that the file has, equal to the last bit.

    A TensorFlow graph multiplies by 1 / number instead. In float32 the result can then differ in
    the last bit, which can move a value to another level; in float64 it is the same.
    """
    return tf.cast(tf.cast(values, tf.float64) / tf.cast(number, tf.float64), tf.float32)


@tf.custom_gradient
def round_straight_through(values: Any) -> Any:
    """Rounds half to even, as TFLite's kernels do, with the gradient of the identity."""
    return tf.round(values), lambda gradient: gradient


def range_with_zero_level(low: Any, high: Any) -> tuple[Any, Any]:
    """The smallest range around `low` and `high` that has zero on one of its levels.

    TensorFlow shifts the range instead, and clips one end of it. It shifts a range of -1..1 by half
    a level. All pixels scaled to -1..1 would then be ties, which rounding errors decide.
    """

    def scale(below: Any) -> Any:
        sides = (-low, below), (high, 255 - below)
        # A side without levels holds only zero.
        return ops.maximum(*(end / ops.maximum(levels, 1e-9) for end, levels in sides))

    # For a tiny `high`, float32 gives 255 levels below zero, which would leave none above it.
    below = ops.minimum(ops.floor(255 * -low / (high - low)), 254)
    below = ops.where(scale(below) <= scale(below + 1), below, below + 1)
    return -below * scale(below), (255 - below) * scale(below)


Limits = tuple[float, float]
SIGMOID_SATURATION = math.log(512)
"""Beyond this input a sigmoid is within half a level, 1/512, of 0 or 1."""
CUT_OFF: dict[str, Limits] = {
    "sigmoid": (-SIGMOID_SATURATION, SIGMOID_SATURATION),
    "silu": (-SIGMOID_SATURATION, math.inf),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_silu": (-3.0, math.inf),
}
"""Activations, and the inputs beyond which their result does not change. Levels beyond these inputs
would be wasted."""
Range = tuple[Any, Any]
"""Lower and upper end: float32 scalars, 255 times the scale apart. Zero is one of the levels."""


def scale_of(ends: Range) -> Any:
    """The distance between two levels."""
    low, high = ends
    with constants():
        return divide_in_float64(tf.cast(high, tf.float64) - tf.cast(low, tf.float64), 255)


@register("Ends")
class QuantizationRange(keras.layers.Layer):
    """The range that a tensor has in the file.

    During training the range is a moving average of the minimum and maximum of each batch.
    Otherwise it does not move. The ends are then moved by less than one level, so that zero is a
    level, as in TensorFlow's `fake_quant_with_min_max_vars` and in the converter.

    Args:
        limits: lower and upper end of a fixed range, where TFLite prescribes one.
        before: the activation in `CUT_OFF` that is the only user of the tensor. The range ends at
            its limits.

    Input: float32 of any shape; or several tensors that share the range; or, with `moves=False`,
    one tensor that has this range already. Output: see `Range`.
    """

    def __init__(
        self, limits: Limits | None = None, before: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.limits = limits and tuple(limits)
        self.before = before

    def build(self, _: Any) -> None:
        low, high = self.limits or (0.0, MIN_HIGH)
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
                lowest, highest = CUT_OFF[self.before]
                low, high = ops.maximum(low, lowest), ops.minimum(high, highest)
            if is_observing():
                self.low.assign(ops.minimum(self.low, low))
                self.high.assign(ops.maximum(self.high, high))
            else:
                self._average(self.low, ops.minimum(low, 0.0))
                self._average(self.high, ops.maximum(high, MIN_HIGH))
        with constants():
            return range_with_zero_level(
                ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
            )

    def _average(self, end: Any, value: Any) -> None:
        end.assign(end * MOMENTUM + ops.stop_gradient(value) * (1 - MOMENTUM))

    def compute_output_spec(self, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor((), "float32"), keras.KerasTensor((), "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limits": self.limits, "before": self.before}


@register("FakeQuantize")
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to the 256 levels of a range, and clips it to the range.

    TFLite's converter reads the tensor's range in the file from this layer.

    Args:
        pooled: whether the inputs are averages of whole levels. Ties are then rounded away from
            the zero of int8, as in TFLite's average pooling.

    Args of a call: float32 of any shape, and its range, as `QuantizationRange` gives it. Output:
    float32 of the same shape.
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
            scale = scale_of(ends)
            levels = inputs / scale
            if self.pooled:
                levels = levels + TIE_OFFSET * ops.sign(levels - low / scale - 128)
            inputs = round_straight_through(levels) * scale
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def compute_output_spec(self, inputs: Any, *_: Any) -> Any:
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooled": self.pooled}
