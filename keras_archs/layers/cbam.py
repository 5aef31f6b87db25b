"""Convolutional block attention module: gates on channels, then gates on positions."""

from typing import Any

from keras import layers, ops

from ..arguments import check_positive, check_positive_int
from .block import Block, Shape, channels_of, reduced, register
from .drop_in.batch_norm import BatchNormalization


@register
class CBAM(Block):
    """Scales each channel, and then each position, by gates computed from means and maxima.

    One small network takes the means over all positions, and also the maxima. The sum of its two
    results gives the gates of the channels. A convolution of the maximum and the mean over all
    channels gives the gates of the positions.

    Args:
        squeeze_ratio: hidden channels of the small network, as a share of the input's channels.
        kernel_size: kernel size of the convolution over positions.

    Input and output: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: an argument is not positive, or the input is not a feature map.

    Source: Woo et al. 2018, arXiv:1807.06521, equations 2 and 3; the biases and the batch norm
    after the convolution follow the authors' code.
    """

    def __init__(self, squeeze_ratio: float = 1 / 16, kernel_size: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.squeeze_ratio = check_positive("squeeze_ratio", squeeze_ratio)
        self.kernel_size = check_positive_int("kernel_size", kernel_size)
        self.spatial = self.inner(
            layers.Conv2D, 1, self.kernel_size, padding="same", use_bias=False, name="spatial"
        )
        self.norm = self.inner(BatchNormalization, epsilon=1e-5, name="norm")

    def build(self, input_shape: Shape) -> None:
        channels = channels_of(input_shape, self)
        hidden = reduced(channels, self.squeeze_ratio)
        self.reduce = self.inner(
            layers.Dense, hidden, activation="relu", kernel_initializer="he_normal", name="reduce"
        )
        self.expand = self.inner(layers.Dense, channels, name="expand")
        self.reduce.build((None, channels))
        self.expand.build((None, hidden))
        self.spatial.build((None, None, None, 2))
        self.norm.build((None, None, None, 1))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        descriptors = (ops.mean(inputs, axis=(1, 2)), ops.max(inputs, axis=(1, 2)))
        gate = ops.sigmoid(sum(self.expand(self.reduce(x)) for x in descriptors))
        x = inputs * ops.reshape(gate, (-1, 1, 1, inputs.shape[-1]))
        maps = [ops.max(x, axis=-1, keepdims=True), ops.mean(x, axis=-1, keepdims=True)]
        gate = self.norm(self.spatial(ops.concatenate(maps, axis=-1)), training=training)
        return x * ops.sigmoid(gate)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "squeeze_ratio": self.squeeze_ratio,
            "kernel_size": self.kernel_size,
        }
