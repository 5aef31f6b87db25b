"""Attention-augmented convolution: some channels from a kernel, others from attention."""

from typing import Any

from keras import layers, ops

from ..arguments import check_choice, check_flag, check_positive_int, check_share
from ..errors import InputError
from .attention import POSITIONS, MultiHeadSelfAttention2D
from .block import Block, Shape, channels_of, register

HEADS_KEY_DIM = 20


@register
class AttentionAugmentedConv2D(Block):
    """Concatenates a "same" convolution and multi-head self-attention on the channel axis.

    Args:
        filters: channels of the output.
        kernel_size: kernel size of the convolution.
        kappa: channels of the keys of all heads together, as a share of `filters`; each head has
            at least 20, as in the paper.
        nu: share of `filters` that comes from attention.
        num_heads: number of heads; divides `nu * filters`.
        position: see `MultiHeadSelfAttention2D`.
        strides: strides of the convolution, 1 or 2. With 2, attention takes a map averaged over
            3x3 at stride 2.
        pool: whether attention takes a map averaged over 3x3 at stride 2, and its result is
            enlarged bilinearly, as in the paper for large maps.

    Input: `(batch, height, width, channels)`. Output: `(batch, height / strides, width / strides,
    filters)`, rounded up.

    Raises:
        ValueError: an argument is out of range, or attention would have all filters, or less than
            one filter for each head.

    Source: Bello et al. 2019, arXiv:1904.09925, sections 3.2, 4.1 and 4.2.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        kappa: float = 0.2,
        nu: float = 0.1,
        num_heads: int = 8,
        strides: int = 1,
        position: str | None = "relative",
        pool: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = check_positive_int("filters", filters)
        self.kernel_size = check_positive_int("kernel_size", kernel_size)
        self.num_heads = check_positive_int("num_heads", num_heads)
        self.kappa, self.nu = check_share("kappa", kappa), check_share("nu", nu)
        self.pool = check_flag("pool", pool)
        self.strides = check_choice("strides", strides, (1, 2))
        self.position = check_choice("position", position, POSITIONS)
        self.halvings = (self.strides == 2) + self.pool
        value_dim = int(self.nu * self.filters) // self.num_heads
        if value_dim < 1:
            raise InputError(
                f"nu={self.nu} of filters={self.filters} gives num_heads={self.num_heads} less than"
                " one channel each."
            )
        attended = self.num_heads * value_dim
        self.conv = self.inner(
            layers.Conv2D,
            self.filters - attended,
            self.kernel_size,
            strides=self.strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv",
        )
        self.attention = self.inner(
            MultiHeadSelfAttention2D,
            self.num_heads,
            key_dim=max(HEADS_KEY_DIM, int(self.kappa * self.filters) // self.num_heads),
            value_dim=value_dim,
            position=self.position,
            output_dim=attended,
            name="attention",
        )

    def build(self, input_shape: Shape) -> None:
        channels_of(input_shape, self)
        self.conv.build(input_shape)
        self.attention.build(_halved(input_shape, self.halvings))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        convolved, x = self.conv(inputs), inputs
        for _ in range(self.halvings):
            x = ops.average_pool(x, 3, strides=2, padding="same")
        x = self.attention(x, training=training)
        if self.pool:
            _, height, width, _ = ops.shape(convolved)
            x = ops.image.resize(x, (height, width), interpolation="bilinear")
        return ops.concatenate([convolved, ops.cast(x, self.compute_dtype)], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*_halved(input_shape, self.strides == 2)[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "kappa": self.kappa,
            "nu": self.nu,
            "num_heads": self.num_heads,
            "strides": self.strides,
            "position": self.position,
            "pool": self.pool,
        }


def _halved(shape: Shape, times: int) -> Shape:
    """The shape of a map after `times` "same" operations of stride 2."""
    batch, height, width, channels = shape
    for _ in range(times):
        height, width = (side and -(-side // 2) for side in (height, width))
    return batch, height, width, channels
