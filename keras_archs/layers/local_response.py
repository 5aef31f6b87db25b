"""Local response normalisation, which networks used before batch norm."""

from typing import Any

from keras import ops

from ..arguments import check_number, check_positive_int
from ..errors import InputError
from .block import Block, full_precision, register


@register
class LocalResponseNormalization(Block):
    """Divides each value by the magnitude of its neighbours on the channel axis.

    The output is `x / (1 + alpha / size * sum of squares)**beta`, with the sum over a window of
    channels. It is computed in float32.

    Args:
        size: odd number of channels in the window.
        alpha, beta: see the formula.

    Input and output: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: `size` is not an odd positive number.

    Source: Krizhevsky et al. 2012, section 3.3, with the constants of Caffe's GoogLeNet.
    """

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size = check_positive_int("size", size)
        if self.size % 2 == 0:
            raise InputError(f"size must be odd, got {size!r}.")
        self.alpha, self.beta = check_number("alpha", alpha), check_number("beta", beta)

    def call(self, inputs: Any) -> Any:
        x = full_precision(inputs)
        side, channels = self.size // 2, inputs.shape[-1]
        squares = ops.pad(x * x, ((0, 0), (0, 0), (0, 0), (side, side)))
        total = sum(squares[..., i : i + channels] for i in range(self.size))
        # TFLite has no integer powers, and its roots take 150 times as long as exp and log.
        power = ops.exp(-self.beta * ops.log(1 + self.alpha / self.size * total))
        return ops.cast(x * power, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        config = {"size": self.size, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **config}
