"""Layer scale: a learned factor for each channel of a residual branch."""

from typing import Any

import keras

from ..arguments import check_positive
from .block import Block, Shape, register


@register
class LayerScale(Block):
    """Multiplies each channel by a learned factor that starts small.

    Args:
        initial: initial value of all factors.

    Input and output: `(batch, ..., channels)`.

    Raises:
        ValueError: `initial` is not positive.

    Source: Touvron et al. 2021, arXiv:2103.17239, section 2.
    """

    def __init__(self, initial: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial = check_positive("initial", initial)

    def build(self, input_shape: Shape) -> None:
        self.gamma = self.add_weight(
            (input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial),
            name="gamma",
        )

    def call(self, inputs: Any) -> Any:
        return inputs * keras.ops.cast(self.gamma, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}
