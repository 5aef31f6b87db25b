"""Depthwise convolution with faster gradients on a CPU."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..block import on_cpu, register

# For this kernel size and larger ones, the filter gradient is faster as a convolution.
LARGE_KERNEL = 5


@register
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' `DepthwiseConv2D`, which computes the same gradients faster in training on a CPU.

    Arguments, weights, config and results are those of Keras. Two kernels of TensorFlow 2.21 are
    slow on a CPU, by factors that `make bench` prints:

    - the gradient of a filter of 5x5 or more, above all in bfloat16. At stride 1 it is computed as
      the convolution of the input by the gradient of the output;
    - the gradients of a strided convolution in bfloat16. They are computed in float32.

    Source: Howard et al. 2017, arXiv:1704.04861, section 3.1.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not (training and self._gains(inputs)):
            return super().call(inputs)
        outputs = _convolution(self.strides[0], self.padding.upper())(inputs, self.kernel)
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        return self.activation(outputs)

    def _gains(self, inputs: Any) -> bool:
        half = keras.backend.standardize_dtype(inputs.dtype) == "bfloat16"
        large = min(self.kernel_size) >= LARGE_KERNEL
        stride = self.strides[0]
        return (
            ((large and (half or stride == 1)) or (half and stride > 1))
            and on_cpu()
            and self.depth_multiplier == 1
            and self.data_format == "channels_last"
            and self.strides == (stride, stride)
            and self.dilation_rate == (1, 1)
            and all(side % 2 for side in self.kernel_size)
        )


@functools.cache
def _convolution(stride: int, padding: str) -> Callable[[Any, Any], Any]:
    import tensorflow as tf  # noqa: PLC0415  # Keras runs on other backends without it

    options: dict[str, Any] = {"strides": (1, stride, stride, 1), "padding": padding}

    @tf.custom_gradient
    def convolve(x: Any, kernel: Any) -> Any:
        def gradients(dy: Any) -> tuple[Any, Any]:
            dtype = tf.float32 if stride > 1 else x.dtype
            dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x),
                filter=tf.cast(kernel, dtype),
                out_backprop=tf.cast(dy, dtype),
                **options,
            )
            return tf.cast(dx, x.dtype), filter_gradient(x, dy, kernel)

        return tf.nn.depthwise_conv2d(x, kernel, **options), gradients

    def filter_gradient(x: Any, dy: Any, kernel: Any) -> Any:
        height, width, channels, _ = kernel.shape
        large = min(height, width) >= LARGE_KERNEL
        if large and stride == 1:
            return _as_convolution(x, dy, height, width, channels, padding)
        dtype = tf.float32 if large else x.dtype
        gradient = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=tf.cast(x, dtype),
            filter_sizes=kernel.shape,
            out_backprop=tf.cast(dy, dtype),
            **options,
        )
        return tf.cast(gradient, kernel.dtype)

    # A tensor: a custom gradient would need another argument for a variable.
    return lambda x, kernel: convolve(x, tf.convert_to_tensor(kernel))


def _as_convolution(x: Any, dy: Any, height: int, width: int, channels: int, padding: str) -> Any:
    """The filter's gradient: `x` filtered by `dy`, for each image and each channel."""
    import tensorflow as tf  # noqa: PLC0415

    images = tf.shape(x)[0]

    def images_as_channels(maps: Any) -> Any:
        rows, columns = tf.shape(maps)[1], tf.shape(maps)[2]
        return tf.reshape(tf.transpose(maps, (1, 2, 0, 3)), (1, rows, columns, images * channels))

    if padding == "SAME":
        x = tf.pad(x, ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)))
    filters = images_as_channels(dy)
    gradients = tf.nn.depthwise_conv2d(
        images_as_channels(x),
        tf.reshape(filters, tf.concat([tf.shape(filters)[1:], [1]], 0)),
        (1, 1, 1, 1),
        "VALID",
    )
    # The images are summed in float32: a sum in bfloat16 would lose small terms.
    gradients = tf.cast(tf.reshape(gradients, (height, width, images, channels)), tf.float32)
    return tf.cast(tf.reduce_sum(gradients, 2)[..., None], dy.dtype)
