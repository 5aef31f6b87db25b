"""Dense layer that does not compute the shape of its map at run time."""

from typing import Any

import keras
from keras import ops

from ..block import register


@register
class Dense(keras.layers.Dense):
    """Keras' `Dense`, with one matrix product for maps of more than two axes.

    Arguments, weights, config and results are those of Keras. For a map of unknown batch size,
    TensorFlow computes the shape by about six small operations. In a TFLite file these operations
    split the graph between delegates.

    Input: `(batch, ..., channels)`. Output: `(batch, ..., units)`.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if len(inputs.shape) < 3:
            return super().call(inputs, training=training)
        _, *between, channels = ops.shape(inputs)
        outputs = super().call(ops.reshape(inputs, (-1, channels)), training=training)
        return ops.reshape(outputs, (-1, *between, self.units))
