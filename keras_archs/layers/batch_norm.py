"""Batch normalisation in one kernel."""

from typing import Any

import keras

from .base import on_cpu, recomputing, register

# oneDNN has no fast kernel for bfloat16 with a number of channels that is no multiple of this; two
# casts around that for float32 cost a fraction of the one it then takes.
VECTOR = 16


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' `BatchNormalization` through TensorFlow's fused kernel: one pass in place of several.

    Arguments, weights, config and results are Keras'. The fused kernel does the work for feature
    maps `(batch, height, width, channels)` of float32, float16 or bfloat16 on the TensorFlow
    backend; Keras' own code does it for everything else: other ranks and axes, float64, masks,
    `renorm`, `synchronized=True` and other backends.

    Half precision goes into the kernel and comes out of it; statistics are float32, as in Keras.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        learning = bool(training and self.trainable)
        # On GPUs TensorFlow refuses the kernel's gradient with given statistics as soon as
        # operations have to be deterministic.
        refused = training and not learning and not on_cpu()
        if mask is not None or refused or not self._fits_kernel(inputs):
            return super().call(inputs, training=training, mask=mask)
        # Keras runs on other backends without TensorFlow.
        import tensorflow as tf  # noqa: PLC0415

        channels = (inputs.shape[-1],)
        if channels[0] % VECTOR and inputs.dtype == tf.bfloat16 and on_cpu():
            inputs = tf.cast(inputs, tf.float32)
        # A statistic that the kernel computes anew is handed in empty.
        given = tf.zeros((0,)) if learning else None
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(channels) if self.gamma is None else self.gamma,
            offset=tf.zeros(channels) if self.beta is None else self.beta,
            mean=self.moving_mean if given is None else given,
            variance=self.moving_variance if given is None else given,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning and not recomputing():
            # The kernel estimates the variance of the population, Keras keeps that of the batch.
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
            and not (self.renorm or self.synchronized)
            and self.variable_dtype == "float32"
            and keras.backend.standardize_dtype(inputs.dtype) in {"float32", "float16", "bfloat16"}
        )
