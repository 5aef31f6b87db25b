"""Moving averages of a network's weights, which validate better than the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Averages:
    """Exponential moving averages of all weights, the statistics of batch norms among them.

    Keras' own (`use_ema`) leaves the statistics out, so that averaged weights would meet those of
    the last step, and moves with each batch where gradients are accumulated over several.

    The decay begins low, `(1 + t) / (10 + t)` at the step t, so that the first weights are soon
    forgotten, as in `tf.train.ExponentialMovingAverage`.

    Args:
        model: compiled, with all of its variables.
        decay: what an average keeps of itself in a step, at most.
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self._optimizer, self._decay = model.optimizer, decay
        self._weights = model.weights
        self._averages = [_variable(np.asarray(each), each.dtype) for each in self._weights]
        self._steps = _variable(np.asarray(model.optimizer.iterations), "int64")

    @property
    def variables(self) -> list[Any]:
        """All of its state."""
        return [*self._averages, self._steps]

    @tf.function
    def update(self) -> None:
        """Follows the weights, if the optimizer has taken a step since it was last called."""
        # Graphs of tf.function read variables of Keras by their values alone.
        now = tf.cast(self._optimizer.iterations, tf.int64)

        def follow() -> None:
            share = tf.maximum(1 - self._decay, 9 / (10 + tf.cast(now, tf.float32)))
            for weight, average in zip(self._weights, self._averages, strict=True):
                difference = weight.value - average.value
                average.value.assign_add(tf.cast(share, difference.dtype) * difference)
            self._steps.value.assign(now)

        tf.cond(now > self._steps.value, follow, lambda: None)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The model has the averages for weights inside the block, and its own again behind it."""
        own = [np.array(weight) for weight in self._weights]
        try:
            for weight, average in zip(self._weights, self._averages, strict=True):
                weight.assign(average)
            yield
        finally:
            for weight, value in zip(self._weights, own, strict=True):
                weight.assign(value)


def _variable(value: np.ndarray, dtype: str) -> Any:
    return keras.Variable(value, dtype=dtype, trainable=False, name="average")
