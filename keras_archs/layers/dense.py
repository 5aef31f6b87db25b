"""Dense layer whose map needs no shape that is computed while it runs."""

from typing import Any

import keras
from keras import ops

from .base import register


@register
class Dense(keras.layers.Dense):
    """Keras' `Dense`, which computes maps of more than two axes as one product of two matrices.

    Arguments, weights, config and results are Keras'. TensorFlow's way to the same product asks
    for the shape of a map whose batch is open by half a dozen small operations; in a TFLite file
    they cut the graph in pieces for its delegates.

    Input: `(batch, ..., channels)`. Output: `(batch, ..., units)`.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if len(inputs.shape) < 3:
            return super().call(inputs, training=training)
        _, *between, channels = ops.shape(inputs)
        outputs = super().call(ops.reshape(inputs, (-1, channels)), training=training)
        return ops.reshape(outputs, (-1, *between, self.units))
