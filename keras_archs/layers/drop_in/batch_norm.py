"""Batch normalisation by a fused kernel."""

from typing import Any

import keras

from ..block import on_cpu, register
from ..recompute import recomputing

# oneDNN has a fast bfloat16 kernel only if the number of channels is a multiple of this. For other
# numbers, the float32 kernel and two casts take a fraction of the time of the slow kernel.
VECTOR = 16


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' `BatchNormalization` by TensorFlow's fused kernel, in one pass in place of several.

    Arguments, weights, config and results are those of Keras. The fused kernel is used for feature
    maps `(batch, height, width, channels)` of float32, float16 or bfloat16 on the TensorFlow
    backend. Keras' code is used for other ranks and axes, float64, masks, `renorm`,
    `synchronized=True` and other backends.

    Input and output of the kernel may be in half precision. Statistics are float32, as in Keras.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        learning = bool(training and self.trainable)
        # With deterministic operations on GPUs, TensorFlow refuses the gradient of a kernel that is
        # given its statistics.
        refused = training and not learning and not on_cpu()
        if mask is not None or refused or not self._fits_kernel(inputs):
            return super().call(inputs, training=training, mask=mask)
        # Keras runs on other backends without TensorFlow.
        import tensorflow as tf  # noqa: PLC0415

        channels = (inputs.shape[-1],)
        if channels[0] % VECTOR and inputs.dtype == tf.bfloat16 and on_cpu():
            inputs = tf.cast(inputs, tf.float32)
        # The kernel takes an empty tensor for a statistic that it computes itself.
        empty = tf.zeros((0,)) if learning else None
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(channels) if self.gamma is None else self.gamma,
            offset=tf.zeros(channels) if self.beta is None else self.beta,
            mean=self.moving_mean if empty is None else empty,
            variance=self.moving_variance if empty is None else empty,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning and not recomputing():
            # The kernel estimates the variance of the population; Keras averages that of the batch.
            count = tf.cast(tf.size(inputs) // channels[0], variance.dtype)
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance * ((count - 1.0) / count))
        return tf.cast(outputs, self.compute_dtype)

    def _move(self, average: Any, value: Any) -> None:
        average.assign(average * self.momentum + value * (1.0 - self.momentum))

    def _fits_kernel(self, inputs: Any) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in {-1, 3}
            and not (getattr(self, "renorm", False) or self.synchronized)  # Keras 3.14 or later
            and self.variable_dtype == "float32"
            and keras.backend.standardize_dtype(inputs.dtype) in {"float32", "float16", "bfloat16"}
        )
