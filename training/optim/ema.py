"""Exponential moving averages of a network's weights (EMA)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Averages:
    """Exponential moving averages of all weights, including batch norm statistics.

    Keras' `use_ema` omits the statistics, so averaged weights would be used with the statistics of
    the last step. It also updates after each batch, even if gradients are accumulated.

    The decay starts low, at `(1 + t) / (10 + t)` for step t, so the initial weights fade quickly,
    as in `tf.train.ExponentialMovingAverage`.

    Args:
        model: a compiled model with all its variables.
        decay: the largest decay, the share of the old average that a step keeps.
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self._optimizer, self._decay = model.optimizer, decay
        self._weights = model.weights
        self._averages = [_variable(np.asarray(weight), weight.dtype) for weight in self._weights]
        self._steps = _variable(np.asarray(model.optimizer.iterations), "int64")

    @property
    def variables(self) -> list[Any]:
        """All variables, for checkpoints."""
        return [*self._averages, self._steps]

    @tf.function
    def update(self) -> None:
        """Updates the averages if the optimizer has taken a step since the last call."""
        # In a tf.function, Keras variables are read through `.value`.
        step = tf.cast(self._optimizer.iterations, tf.int64)

        def follow() -> None:
            share = tf.maximum(1 - self._decay, 9 / (10 + tf.cast(step, tf.float32)))
            for weight, average in zip(self._weights, self._averages, strict=True):
                difference = weight.value - average.value
                average.value.assign_add(tf.cast(share, difference.dtype) * difference)
            self._steps.value.assign(step)

        tf.cond(step > self._steps.value, follow, lambda: None)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Replaces the model's weights by the averages, and restores the weights afterwards."""
        values = [np.array(weight) for weight in self._weights]
        try:
            for weight, average in zip(self._weights, self._averages, strict=True):
                weight.assign(average)
            yield
        finally:
            for weight, value in zip(self._weights, values, strict=True):
                weight.assign(value)


def _variable(value: np.ndarray, dtype: str) -> Any:
    return keras.Variable(value, dtype=dtype, trainable=False, name="average")
