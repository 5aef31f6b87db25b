"""Global context: a non-local block with one attention map for all positions."""

from typing import Any

from keras import ops

from ..arguments import check_choice, check_positive
from .block import (
    Block,
    Shape,
    channels_of,
    flatten,
    full_precision,
    reduced,
    register,
)
from .drop_in.dense import Dense
from .drop_in.layer_norm import LayerNormalization


@register
class GlobalContext(Block):
    """Adds to each position the output of a small network on an attention-weighted mean of all.

    Args:
        squeeze_ratio: hidden channels of the small network, as a share of the input's channels;
            1/16 or 1/4 in the paper.
        fusion: `"add"` as in the paper, or `"mul"`: multiplies by a sigmoid gate for each channel.

    Input and output: `(batch, height, width, channels)`; height and width may be unknown. With
    `"add"` a new layer is the identity: its last kernel is zero.

    Raises:
        ValueError: an argument is out of range, or the input is not a feature map.

    Source: Cao et al. 2019, arXiv:1904.11492, equation 5 and figure 4d.
    """

    def __init__(self, squeeze_ratio: float = 1 / 16, fusion: str = "add", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.squeeze_ratio = check_positive("squeeze_ratio", squeeze_ratio)
        self.fusion = check_choice("fusion", fusion, ("add", "mul"))
        self.context = self.inner(Dense, 1, kernel_initializer="he_normal", name="context")
        self.norm = self.inner(LayerNormalization, epsilon=1e-5, name="norm")

    def build(self, input_shape: Shape) -> None:
        channels = channels_of(input_shape, self)
        hidden = reduced(channels, self.squeeze_ratio)
        self.reduce = self.inner(Dense, hidden, name="reduce")
        self.expand = self.inner(Dense, channels, kernel_initializer="zeros", name="expand")
        self.context.build((None, None, channels))
        self.reduce.build((None, channels))
        self.norm.build((None, hidden))
        self.expand.build((None, hidden))

    def call(self, inputs: Any, return_attention_scores: bool = False) -> Any:
        """Returns the output and, with `return_attention_scores`, the attention scores.

        The scores are after the softmax. Their shape is `(batch, height, width)`.
        """
        positions = flatten(inputs)
        scores = ops.softmax(full_precision(self.context(positions)), axis=1)
        summary = ops.matmul(ops.transpose(ops.cast(scores, positions.dtype), (0, 2, 1)), positions)
        hidden = ops.relu(self.norm(self.reduce(ops.squeeze(summary, 1))))
        change = ops.reshape(self.expand(hidden), (-1, 1, 1, inputs.shape[-1]))
        outputs = inputs + change if self.fusion == "add" else inputs * ops.sigmoid(change)
        if return_attention_scores:
            _, height, width, _ = ops.shape(inputs)
            return outputs, ops.reshape(scores, (-1, height, width))
        return outputs

    def scores_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:-1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "squeeze_ratio": self.squeeze_ratio,
            "fusion": self.fusion,
        }
