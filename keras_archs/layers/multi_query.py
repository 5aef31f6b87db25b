"""Multi-query attention: many heads of queries share one head of keys and values."""

from typing import Any

from keras import layers, ops

from ..arguments import check_positive_int
from .block import (
    Block,
    Shape,
    channels_of,
    flatten,
    full_precision,
    register,
)
from .drop_in.batch_norm import BatchNormalization
from .drop_in.dense import Dense


@register
class MultiQueryAttention2D(Block):
    """Self-attention whose heads share their keys and values.

    Attention is slow on phones because it loads keys and values. Shared keys and values, on a map
    that a strided depthwise convolution has made smaller, reduce that cost.

    Args:
        num_heads: number of heads of queries.
        key_dim: channels of each query, key and value.
        kv_strides: stride of the depthwise 3x3 convolutions before keys and values; 1 leaves the
            convolutions out.

    Input and output: `(batch, height, width, channels)`; height and width may be unknown.

    Raises:
        ValueError: an argument is not positive, or the input is not a feature map.

    Source: Qin et al. 2024, arXiv:2404.10518, section 3.3 and equation 2.
    """

    def __init__(
        self, num_heads: int = 4, key_dim: int = 64, kv_strides: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = check_positive_int("num_heads", num_heads)
        self.key_dim = check_positive_int("key_dim", key_dim)
        self.kv_strides = check_positive_int("kv_strides", kv_strides)

    def build(self, input_shape: Shape) -> None:
        channels = channels_of(input_shape, self)
        wide = self.num_heads * self.key_dim
        self.query = self._projection(channels, wide, "query")
        self.key = self._projection(channels, self.key_dim, "key")
        self.value = self._projection(channels, self.key_dim, "value")
        self.project = self._projection(wide, channels, "project")
        if self.kv_strides > 1:
            self.key_down, self.key_norm = self._down(input_shape, "key")
            self.value_down, self.value_norm = self._down(input_shape, "value")

    def _projection(self, channels: int, filters: int, name: str) -> Any:
        layer = self.inner(Dense, filters, use_bias=False, name=name)
        layer.build((None, None, None, channels))
        return layer

    def _down(self, input_shape: Shape, name: str) -> tuple[Any, Any]:
        conv = self.inner(
            layers.DepthwiseConv2D,
            3,
            strides=self.kv_strides,
            use_bias=False,
            name=f"{name}_down",
        )
        norm = self.inner(BatchNormalization, momentum=0.9, epsilon=1e-5, name=f"{name}_norm")
        # Any height and width: `call` pads maps that would be smaller than the kernel.
        shape = (None, None, None, input_shape[-1])
        conv.build(shape)
        norm.build(shape)
        return conv, norm

    def call(
        self, inputs: Any, training: bool | None = None, return_attention_scores: bool = False
    ) -> Any:
        """Returns the output and, with `return_attention_scores`, the attention scores.

        The scores are after the softmax. Their shape is
        `(batch, height, width, num_heads, rows, columns)`, with the rows and columns
        of the map that the keys come from.
        """
        _, height, width, _ = ops.shape(inputs)
        keys = values = inputs
        if self.kv_strides > 1:
            # Pad on both sides: "same" would pad an even map on one side only.
            padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
            keys = self.key_norm(self.key_down(padded), training=training)
            values = self.value_norm(self.value_down(padded), training=training)
        _, rows, columns, _ = ops.shape(keys)
        keys, values = flatten(self.key(keys)), flatten(self.value(values))
        # All heads share the keys, so heads are computed as additional queries.
        queries = ops.reshape(
            self.query(inputs), (-1, height * width * self.num_heads, self.key_dim)
        )
        queries = full_precision(queries) * self.key_dim**-0.5
        scores = ops.matmul(queries, ops.transpose(full_precision(keys), (0, 2, 1)))
        scores = ops.softmax(scores, axis=-1)
        x = ops.matmul(ops.cast(scores, values.dtype), values)
        x = self.project(ops.reshape(x, (-1, height, width, self.num_heads * self.key_dim)))
        if return_attention_scores:
            shape = (-1, height, width, self.num_heads, rows, columns)
            return x, ops.reshape(scores, shape)
        return x

    def scores_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, _ = input_shape
        keys = [side and -(-side // self.kv_strides) for side in (height, width)]
        return (batch, height, width, self.num_heads, *keys)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "kv_strides": self.kv_strides,
        }
