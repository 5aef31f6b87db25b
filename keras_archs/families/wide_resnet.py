"""Wide residual networks for small images: few layers, each several times as wide.

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, table 1: a 3x3 stem that keeps the
resolution and three stages of pre-activated blocks, so that the last map of a 32x32 image is 8x8.
The bottlenecks of the same paper for ImageNet are `WideResNet50` and `WideResNet101`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Unpack

import keras

from ..arguments import Shared, check_rate
from ..preprocessing import TORCH
from ..registry import Family
from .common.convolution import bn_act, conv2d, drop_rates
from .common.network import Scaffold
from .resnet import BN, KERNELS, STOCHASTIC_DEPTH
from .resnet_v2 import basic_block

FAMILY = Family(
    name="wide_resnet_small",
    paper="Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 1",
    preprocessing=TORCH,
    arguments=f"""
dropout_rate: rate of the dropout between the two convolutions of a block (section 2.4).
{STOCHASTIC_DEPTH.strip()}
""",
    min_size=8,
    size=32,
)
preprocess_input = FAMILY.preprocessing

WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class Variant:
    """WRN-`depth`-`k`: the number of convolutions on the longest path, shortcuts among them, and
    the factor of the widths."""

    depth: int
    k: int

    @property
    def name(self) -> str:
        return f"WideResNet{self.depth}x{self.k}"


def _wide_resnet(
    variant: Variant,
    *,
    dropout_rate: float = 0.0,
    drop_connect_rate: float = 0.0,
    **shared: Unpack[Shared],
) -> keras.Model:
    """A 3x3 stem and three stages of wide, pre-activated residual blocks, for small images."""
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    scaffold = Scaffold(FAMILY, shared, name=variant.name.lower())
    x = conv2d(scaffold.inputs, WIDTHS[0], 3, initializer=KERNELS, name="conv1")
    depth = (variant.depth - 4) // 6
    build = partial(basic_block, dropout_rate=dropout_rate, bn=BN)
    rates = drop_rates(drop_connect_rate, 3 * depth)
    for stage, width in enumerate(WIDTHS, 2):
        for block in range(1, depth + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            x = build(x, width * variant.k, stride, next(rates), f"conv{stage}_block{block}")
    return scaffold.finish(bn_act(x, bn=BN, name="post"))


WideResNet16x4 = FAMILY.variant(_wide_resnet, Variant(16, 4))
WideResNet16x8 = FAMILY.variant(_wide_resnet, Variant(16, 8))
WideResNet28x10 = FAMILY.variant(_wide_resnet, Variant(28, 10))
WideResNet40x1 = FAMILY.variant(_wide_resnet, Variant(40, 1))
WideResNet40x2 = FAMILY.variant(_wide_resnet, Variant(40, 2))
WideResNet40x4 = FAMILY.variant(_wide_resnet, Variant(40, 4))
