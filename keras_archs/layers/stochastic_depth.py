"""Stochastic depth: drops whole residual branches during training."""

from typing import Any

import keras
from keras import ops

from ..arguments import check_int, check_rate, if_given
from .block import Shape, register
from .recompute import draw_once


@register
class StochasticDepth(keras.layers.Dropout):
    """Drops the branch of an image with probability `rate` in training; scales up the others.

    It is the last layer of a residual branch, before the addition. EfficientNet's code calls it
    "drop connect".

    Args:
        rate: probability of dropping the branch of an image, in [0, 1).
        seed: seed of the random numbers; None draws one.

    Input and output: `(batch, ...)` of any rank.

    Raises:
        ValueError: `rate` is outside [0, 1), or `seed` is not an integer.

    Source: Huang et al. 2016, arXiv:1603.09382, section 3; scaled during training, as in all
    later code, not at inference.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        rate = check_rate("rate", rate)
        super().__init__(rate, seed=if_given(check_int, "seed", seed), **kwargs)

    def build(self, input_shape: Shape) -> None:
        self.noise_shape = (None, *[1] * (len(input_shape) - 1))

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        # One factor for each image, drawn as Keras draws it, and one pass over the map.
        images = ops.ones((ops.shape(inputs)[0], *self.noise_shape[1:]), inputs.dtype)
        dropout = super().call
        return inputs * draw_once(lambda: dropout(images, training=True))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        return config


def stochastic_depth(x: Any, rate: float, name: str) -> Any:
    """Applies `StochasticDepth` to the branch `x` of the block `name`, unless the rate is 0."""
    return StochasticDepth(rate, name=f"{name}_drop")(x) if rate else x
