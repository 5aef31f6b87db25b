"""MobileNetV4: one block of optional depthwise kernels, searched for phones of all makers.

Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem", ECCV 2024, tables 11 to 15.
The universal inverted bottleneck is MobileNetV2's block, ConvNeXt's, a feed-forward one or a new
one with two depthwise convolutions, by which of its two depthwise kernels it has. The hybrid
networks add attention whose heads share their keys and values.

Without the top, the features end before the last 1x1 convolution, which comes after the pooling.
Padding is that of timm, whose weights are the published ones.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers.drop_in.batch_norm import BatchNormalization
from ..layers.layer_scale import LayerScale
from ..layers.multi_query import MultiQueryAttention2D
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import TORCH
from ..registry import Family
from .common.convolution import conv_bn_act
from .common.network import Scaffold

FAMILY = Family(
    name="mobilenet_v4",
    paper="Qin et al. 2024, arXiv:2404.10518, tables 11 to 15",
    preprocessing=TORCH,
    arguments="""
dropout_rate: rate of the dropout before the classifier.
drop_connect_rate: rate at which the last block's residual branch is dropped for an image
    (stochastic depth); it grows linearly with the block.
""",
)
preprocess_input = FAMILY.preprocessing


class Conv(NamedTuple):
    """A plain convolution."""

    kernel: int
    filters: int
    stride: int = 1


class Fused(NamedTuple):
    """A 3x3 convolution that expands the channels four times at stride 2, and a projection."""

    filters: int


class Universal(NamedTuple):
    """The kernels of the depthwise convolutions before and after the expansion, 0 for none."""

    start: int
    middle: int
    expansion: int
    filters: int
    stride: int = 1


class Attention(NamedTuple):
    """Multi-query attention; its keys and values come from a map `kv_strides` times smaller."""

    heads: int
    key_dim: int
    kv_strides: int = 1


Row = Conv | Fused | Universal | Attention


def _stage(filters: int, *kernels: tuple[int, int, int], first: int = 2) -> list[Row]:
    """Universal blocks `(start, middle, expansion)` of equal width; the first halves the map."""
    return [
        Universal(*block, filters, stride=first if index == 0 else 1)
        for index, block in enumerate(kernels)
    ]


def _with_attention(blocks: list[Row], attention: Attention, count: int) -> list[Row]:
    """`attention` before each of the last `count` blocks."""
    plain, last = blocks[:-count], blocks[-count:]
    return [*plain, *(row for block in last for row in (attention, block))]


# fmt: off
SMALL: tuple[Row, ...] = (
    Conv(3, 32, 2), Conv(1, 32),
    Conv(3, 96, 2), Conv(1, 64),
    *_stage(96, (5, 5, 3), *[(0, 3, 2)] * 4, (3, 0, 4)),
    *_stage(128, (3, 3, 6), (5, 5, 4), (0, 5, 4), (0, 5, 3), (0, 3, 4), (0, 3, 4)),
    Conv(1, 960),
)
MEDIUM: tuple[Row, ...] = (
    Fused(48),
    *_stage(80, (3, 5, 4), (3, 3, 2)),
    *_stage(160, (3, 5, 6), (3, 3, 4), (3, 3, 4), (3, 5, 4), (3, 3, 4), (3, 0, 4), (0, 0, 2),
            (3, 0, 4)),
    *_stage(256, (5, 5, 6), (5, 5, 4), (3, 5, 4), (3, 5, 4), (0, 0, 4), (3, 0, 4), (3, 5, 2),
            (5, 5, 4), (0, 0, 4), (0, 0, 4), (5, 0, 2)),
    Conv(1, 960),
)
LARGE: tuple[Row, ...] = (
    Fused(48),
    *_stage(96, (3, 5, 4), (3, 3, 4)),
    *_stage(192, (3, 5, 4), *[(3, 3, 4)] * 3, (3, 5, 4), *[(5, 3, 4)] * 5, (3, 0, 4)),
    *_stage(512, *[(5, 5, 4)] * 4, (5, 0, 4), (5, 3, 4), *[(5, 0, 4)] * 2, (5, 3, 4), (5, 5, 4),
            *[(5, 0, 4)] * 3),
    Conv(1, 960),
)
HYBRID_MEDIUM: tuple[Row, ...] = (
    Fused(48),
    *_stage(80, (3, 5, 4), (3, 3, 2)),
    *_with_attention(
        _stage(160, (3, 5, 6), (0, 0, 2), (3, 3, 4), (3, 5, 4), (3, 3, 4), (3, 0, 4), (3, 3, 4),
               (3, 0, 4)),
        Attention(4, 64, kv_strides=2), 4),
    *_with_attention(
        _stage(256, (5, 5, 6), (5, 5, 4), (3, 5, 4), (3, 5, 4), (0, 0, 2), (3, 5, 2), (0, 0, 2),
               (0, 0, 4), (3, 0, 4), (5, 5, 4), (5, 0, 4), (5, 0, 4)),
        Attention(4, 64), 4),
    Conv(1, 960),
)
HYBRID_LARGE: tuple[Row, ...] = (
    Fused(48),
    *_stage(96, (3, 5, 4), (3, 3, 4)),
    *_with_attention(
        _stage(192, (3, 5, 4), *[(3, 3, 4)] * 3, (3, 5, 4), *[(5, 3, 4)] * 5, (3, 0, 4)),
        Attention(8, 48, kv_strides=2), 4),
    *_with_attention(
        _stage(512, *[(5, 5, 4)] * 4, (5, 0, 4), (5, 3, 4), *[(5, 0, 4)] * 2, (5, 3, 4), (5, 5, 4),
               *[(5, 0, 4)] * 4),
        Attention(8, 64), 4),
    Conv(1, 960),
)
# fmt: on
HEAD = 1280
BN = partial(BatchNormalization, momentum=0.9, epsilon=1e-5)
_conv = partial(
    conv_bn_act,
    bn=BN,
    initializer=keras.initializers.HeNormal,
    names=("{}_conv", "{}_bn", "{}_act"),
)
_depthwise = partial(_conv, names=("{}_dw", "{}_bn", "{}_act"))


@dataclass(frozen=True)
class Variant:
    """A table of blocks."""

    name: str
    rows: tuple[Row, ...]
    stem: int
    resolution: int
    activation: str = "relu"

    @property
    def hybrid(self) -> bool:
        return any(isinstance(row, Attention) for row in self.rows)


def _mobilenet_v4(
    variant: Variant,
    *,
    dropout_rate: float = 0.2,
    drop_connect_rate: float = 0.0,
    **shared: Unpack[Shared],
) -> keras.Model:
    """Universal inverted bottlenecks after a strided stem."""
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    scaffold = Scaffold(FAMILY, shared, name=variant.name.lower(), top_size=variant.resolution)
    act = variant.activation
    x = _conv(scaffold.inputs, variant.stem, 3, 2, act, name="stem")
    for index, row in enumerate(variant.rows, 1):
        rate = drop_connect_rate * index / len(variant.rows)
        name = f"block{index}"
        match row:
            case Conv(kernel, filters, stride):
                x = _conv(x, filters, kernel, stride, act, name=name)
            case Fused(filters):
                x = _conv(x, 4 * x.shape[-1], 3, 2, act, name=f"{name}_expand")
                x = _conv(x, filters, 1, activation=None, name=f"{name}_project")
            case Universal():
                branch = _universal(x, row, act, name)
                if variant.hybrid:
                    branch = LayerScale(name=f"{name}_scale")(branch)
                fits = row.stride == 1 and x.shape[-1] == row.filters
                x = _join(x, branch, rate, name) if fits else branch
            case Attention():
                branch = BN(name=f"{name}_bn")(x)
                branch = MultiQueryAttention2D(*row, name=f"{name}_attention")(branch)
                branch = LayerScale(name=f"{name}_scale")(branch)
                x = _join(x, branch, rate, name)

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
        x = _conv(x, HEAD, 1, 1, act, name="head")
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dropout(dropout_rate, name="dropout")(x)
        return scaffold.classify(x)

    return scaffold.finish(x, top)


def _universal(x: Any, row: Universal, act: str, name: str) -> Any:
    """Figure 4; the stride is in the last depthwise convolution."""
    if row.start:
        stride = 1 if row.middle else row.stride
        x = _depthwise(x, None, row.start, stride, None, name=f"{name}_start")
    x = _conv(x, row.expansion * x.shape[-1], 1, 1, act, name=f"{name}_expand")
    if row.middle:
        x = _depthwise(x, None, row.middle, row.stride, act, name=f"{name}_middle")
    return _conv(x, row.filters, 1, activation=None, name=f"{name}_project")


def _join(x: Any, branch: Any, rate: float, name: str) -> Any:
    return layers.Add(name=f"{name}_add")([x, stochastic_depth(branch, rate, name)])


# fmt: off
MobileNetV4ConvSmall = FAMILY.variant(
    _mobilenet_v4, Variant("MobileNetV4ConvSmall", SMALL, 32, 224))
MobileNetV4ConvMedium = FAMILY.variant(
    _mobilenet_v4, Variant("MobileNetV4ConvMedium", MEDIUM, 32, 256))
MobileNetV4ConvLarge = FAMILY.variant(
    _mobilenet_v4, Variant("MobileNetV4ConvLarge", LARGE, 24, 384))
MobileNetV4HybridMedium = FAMILY.variant(
    _mobilenet_v4, Variant("MobileNetV4HybridMedium", HYBRID_MEDIUM, 32, 256))
MobileNetV4HybridLarge = FAMILY.variant(
    _mobilenet_v4, Variant("MobileNetV4HybridLarge", HYBRID_LARGE, 24, 384, "gelu"))
# fmt: on
