"""Efficient channel attention: a gate for each channel, computed from its neighbours."""

import math
from typing import Any

from keras import layers, ops

from ..arguments import check_positive_int, if_given
from ..errors import InputError
from .block import Block, Shape, channels_of, register


@register
class ECA(Block):
    """Scales each channel by a gate that one convolution along the channels computes.

    The convolution filters the means of the channels by a single kernel of a few weights, without
    reduction and without a bias.

    Args:
        kernel_size: odd number of neighbouring channels that a gate depends on; by default
            `log2(channels) / 2 + 1 / 2` rounded to an odd number, at least 3.

    Input and output: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: the kernel size is not an odd positive number, or the input is not a feature
            map.

    Source: Wang et al. 2020, arXiv:1910.03151, equations 9 and 12.
    """

    def __init__(self, kernel_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size = if_given(check_positive_int, "kernel_size", kernel_size)
        if self.kernel_size is not None and self.kernel_size % 2 == 0:
            raise InputError(f"kernel_size must be odd, got {kernel_size!r}.")

    def build(self, input_shape: Shape) -> None:
        channels = channels_of(input_shape, self)
        self.conv = self.inner(
            layers.Conv1D,
            1,
            self.kernel_size or _kernel_size(channels),
            padding="same",
            use_bias=False,
            activation="sigmoid",
            name="conv",
        )
        self.conv.build((None, channels, 1))

    def call(self, inputs: Any) -> Any:
        means = ops.mean(inputs, axis=(1, 2))
        gate = self.conv(ops.expand_dims(means, -1))
        return inputs * ops.reshape(gate, (-1, 1, 1, inputs.shape[-1]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}


def _kernel_size(channels: int) -> int:
    """The default, as in the authors' code: truncated, then rounded up to an odd number."""
    truncated = int(abs((math.log2(channels) + 1) / 2))
    return max(3, truncated if truncated % 2 else truncated + 1)
