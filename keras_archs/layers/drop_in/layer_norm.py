"""Layer normalisation by operations that have integer versions."""

from typing import Any

import keras
from keras import ops

from ..block import register


@register
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' `LayerNormalization` along the last axis, by other operations.

    Arguments, weights, config and results are those of Keras. It takes one pass less over the map.
    Keras' code has a negation, which TFLite has only in float. Keras' code is used for other axes,
    for half precision, which it computes in float32, and for `rms_scaling`.

    Source: Ba et al. 2016, arXiv:1607.06450, equation 3.
    """

    def call(self, inputs: Any) -> Any:
        single = keras.backend.standardize_dtype(inputs.dtype) == "float32"
        last = self.axis in ([-1], [len(inputs.shape) - 1])
        if self.rms_scaling or not (single and last):
            return super().call(inputs)
        x = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        x = x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        if self.gamma is not None:
            x = x * self.gamma
        return ops.cast(x if self.beta is None else x + self.beta, self.compute_dtype)
