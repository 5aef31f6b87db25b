"""Squeeze-and-excitation: a gate for each channel, computed from the means of the channels."""

from typing import Any

import keras
from keras import layers, ops

from ..arguments import (
    check_activation,
    check_positive,
    check_positive_int,
    if_given,
)
from .block import Block, Shape, channels_of, reduced, register


@register
class SqueezeExcite(Block):
    """Scales each channel by a gate that two dense layers compute from the channels' means.

    Args:
        squeeze_ratio: channels between the two layers, as a share of the input's channels; 1/16 in
            the paper.
        squeezed_channels: the number of these channels, in place of the ratio.
        activation: activation between the two layers.
        gate_activation: activation of the gate.

    Input and output: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: the ratio or the number is not positive, or the input is not a feature map.

    Source: Hu et al. 2018, arXiv:1709.01507, equations 2 to 4.
    """

    def __init__(
        self,
        squeeze_ratio: float = 1 / 16,
        squeezed_channels: int | None = None,
        activation: Any = "relu",
        gate_activation: Any = "sigmoid",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.squeeze_ratio = check_positive("squeeze_ratio", squeeze_ratio)
        self.squeezed_channels = if_given(
            check_positive_int, "squeezed_channels", squeezed_channels
        )
        self.activation = keras.activations.get(check_activation("activation", activation))
        self.gate_activation = keras.activations.get(
            check_activation("gate_activation", gate_activation)
        )

    def build(self, input_shape: Shape) -> None:
        channels = channels_of(input_shape, self)
        squeezed = self.squeezed_channels or reduced(channels, self.squeeze_ratio)
        self.reduce = self.inner(
            layers.Dense,
            squeezed,
            activation=self.activation,
            kernel_initializer="he_normal",
            name="reduce",
        )
        self.expand = self.inner(
            layers.Dense, channels, activation=self.gate_activation, name="expand"
        )
        self.reduce.build((None, channels))
        self.expand.build((None, squeezed))

    def call(self, inputs: Any) -> Any:
        gate = self.expand(self.reduce(ops.mean(inputs, axis=(1, 2))))
        return inputs * ops.reshape(gate, (-1, 1, 1, inputs.shape[-1]))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "squeeze_ratio": self.squeeze_ratio,
            "squeezed_channels": self.squeezed_channels,
            "activation": keras.activations.serialize(self.activation),
            "gate_activation": keras.activations.serialize(self.gate_activation),
        }
