"""Wide residual networks for small images: few layers, each several times as wide.

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, table 1: a 3x3 stem that keeps the
resolution and three stages of pre-activated blocks, so that the last map of a 32x32 image is 8x8.
The bottlenecks of the same paper for ImageNet are `WideResNet50` and `WideResNet101`.
"""

from dataclasses import dataclass
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers.batch_norm import BatchNormalization
from ..preprocessing import TORCH
from ..registry import Family
from ..scaffold import Scaffold
from .convolutions import conv2d
from .resnet import KERNELS, STOCHASTIC_DEPTH
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
    x = conv2d(
        scaffold.inputs, WIDTHS[0], 3, use_bias=False, kernel_initializer=KERNELS, name="conv1"
    )
    depth = (variant.depth - 4) // 6
    for stage, width in enumerate(WIDTHS, 2):
        for block in range(1, depth + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            drop_rate = drop_connect_rate * ((stage - 2) * depth + block) / (3 * depth)
            name = f"conv{stage}_block{block}"
            x = basic_block(
                x,
                width * variant.k,
                stride,
                drop_rate,
                name,
                dropout_rate=dropout_rate,
                bn_relu=_bn_relu,
            )
    return scaffold.finish(_bn_relu(x, "post"))


def _bn_relu(x: Any, name: str) -> Any:
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


# fmt: off
WideResNet16x4, WideResNet16x8, WideResNet28x10, WideResNet40x1, WideResNet40x2, WideResNet40x4 = (
    FAMILY.variant(_wide_resnet, Variant(depth, k))
    for depth, k in ((16, 4), (16, 8), (28, 10), (40, 1), (40, 2), (40, 4))
)
# fmt: on
