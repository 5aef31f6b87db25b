"""Activations in one pass over the map; TensorFlow takes several passes."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from ..block import on_cpu, register

Function = Callable[[Any], Any]


@register
class Activation(keras.layers.Activation):
    """Keras' `Activation`, with swish, hard-swish, GELU and ReLU6 in one pass during training.

    Arguments, config and results are those of Keras. TensorFlow computes these functions and their
    gradients by up to a dozen operations. Each reads and writes the whole map. On a CPU, XLA
    compiles them to one operation. It computes in float32 and keeps only the input for the
    gradient. Compilation takes a moment at the first step, for each size of map.

    Source: Ramachandran et al. 2017, arXiv:1710.05941 (swish); Howard et al. 2019,
    arXiv:1905.02244, section 5.2 (hard-swish); Hendrycks & Gimpel 2016, arXiv:1606.08415 (GELU).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if training and _gains(self.activation, dtype) and on_cpu():
            return _one_pass(self.activation, dtype)(inputs)
        return super().call(inputs)


def _gains(activation: Function, dtype: str) -> bool:
    if activation is keras.activations.relu6:
        # In float32, TensorFlow's kernels also take one pass.
        return dtype == "bfloat16"
    functions = keras.activations
    slow = (functions.silu, functions.hard_silu, functions.gelu)
    return activation in slow and dtype in {"float32", "bfloat16"}


@functools.cache
def _one_pass(activation: Function, dtype: str) -> Function:
    import tensorflow as tf  # noqa: PLC0415  # Keras runs on other backends without it

    # Maps are flattened, for a single trace, and a compilation for each number of values.
    values = tf.TensorSpec([None], dtype)

    @tf.function(input_signature=[values], jit_compile=True, autograph=False)
    def forward(x: Any) -> Any:
        return tf.cast(activation(tf.cast(x, tf.float32)), dtype)

    @tf.function(input_signature=[values, values], jit_compile=True, autograph=False)
    def backward(x: Any, dy: Any) -> Any:
        x = tf.cast(x, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)
        return tf.cast(tape.gradient(y, x, tf.cast(dy, tf.float32)), dtype)

    @tf.custom_gradient
    def apply(x: Any) -> Any:
        flat = tf.reshape(x, [-1])
        # TensorFlow's swish takes one pass as well, and is faster than XLA's.
        y = activation(x) if activation is keras.activations.silu else _like(forward(flat), x)
        # ReLU6 has the same gradient at its output, which the next layer keeps in any case.
        saved = tf.reshape(y, [-1]) if activation is keras.activations.relu6 else flat
        return y, lambda dy: _like(backward(saved, tf.reshape(dy, [-1])), x)

    def _like(flat: Any, x: Any) -> Any:
        y = tf.reshape(flat, tf.shape(x))
        y.set_shape(x.shape)
        return y

    return apply
