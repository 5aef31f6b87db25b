"""Stochastic depth: whole residual branches dropped while training."""

from typing import Any

import keras
from keras import ops

from ..arguments import check_int, check_rate, if_given
from .base import Shape, draw_once, register


@register
class StochasticDepth(keras.layers.Dropout):
    """Drops the whole input of an image at `rate` while training, and scales up what it keeps.

    Stands at the end of a residual branch, in front of the addition. "Drop connect" in
    EfficientNet's code.

    Args:
        rate: probability of dropping an image's branch, in [0, 1).
        seed: of the random numbers; None draws one.

    Input and output: `(batch, ...)` of any rank.

    Raises:
        ValueError: `rate` lies outside [0, 1), or `seed` is not an integer.

    Source: Huang et al. 2016, arXiv:1603.09382, section 3; scaled while training, as in all later
    code, rather than at inference.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        rate = check_rate("rate", rate)
        super().__init__(rate, seed=if_given(check_int, "seed", seed), **kwargs)

    def build(self, input_shape: Shape) -> None:
        self.noise_shape = (None, *[1] * (len(input_shape) - 1))

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        # One factor an image, drawn as Keras draws it, and one pass over the map.
        images = ops.ones((ops.shape(inputs)[0], *self.noise_shape[1:]), inputs.dtype)
        dropout = super().call
        return inputs * draw_once(lambda: dropout(images, training=True))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        return config


def stochastic_depth(x: Any, rate: float, name: str) -> Any:
    """The branch `x` of the block `name` behind a `StochasticDepth`, or itself at a rate of 0."""
    return StochasticDepth(rate, name=f"{name}_drop")(x) if rate else x
