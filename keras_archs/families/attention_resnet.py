"""ResNets with attention: positions or channels that look beyond a 3x3 kernel.

- Non-local: 1, 5 or 10 blocks in which every position attends to every other, after blocks of
  the third and fourth stage.
- GC: one attention map for all positions, added to each block of the last three stages.
- CBAM, ECA: light gates at the end of each residual branch.
- BoTNet: self-attention with relative positions in place of the last three 3x3 convolutions.
- AANet: self-attention beside the 3x3 convolutions of the last three stages.

The ResNet below them has the stride in the 3x3 convolution and no bias, as in torchvision. The
papers of the non-local block and of most others give no ImageNet accuracy for exactly this form.
"""

import dataclasses
from functools import partial
from typing import Any, Literal, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_choice, check_flag, check_positive_int, check_share
from ..layers import (
    CBAM,
    ECA,
    AttentionAugmentedConv2D,
    GlobalContext,
    MultiHeadSelfAttention2D,
    NonLocalBlock,
)
from ..layers.non_local import PAIRINGS
from ..preprocessing import TORCH
from ..registry import Family
from .common.convolution import bn_act
from .resnet import BN, DEPTHS, STOCHASTIC_DEPTH, Variant, bottleneck, residual_network, stem


def _family(name: str, paper: str, arguments: str = "") -> Family:
    arguments += STOCHASTIC_DEPTH.lstrip()
    return Family(name=name, paper=paper, preprocessing=TORCH, arguments=arguments)


NON_LOCAL = _family(
    "non_local_resnet",
    "Wang et al. 2018, arXiv:1711.07971, sections 3.3 and 4",
    """
blocks: number of non-local blocks, 1, 5 or 10, where the paper puts them.
pairing: the function of two positions, see `NonLocalBlock`.
sub_sample: whether keys and values come from a max-pooled map.
""",
)
GC = _family("gc_resnet", "Cao et al. 2019, arXiv:1904.11492, section 4.2")
CBAM_RESNET = _family("cbam_resnet", "Woo et al. 2018, arXiv:1807.06521, figure 3")
ECA_RESNET = _family("eca_resnet", "Wang et al. 2020, arXiv:1910.03151, table 3")
BOT = _family(
    "botnet",
    "Srinivas et al. 2021, arXiv:2101.11605, table 1",
    """
last_stride: stride of the last stage; 1 is the paper's BoTNet-S1.
num_heads: number of heads of each attention.
""",
)
AA = _family(
    "aa_resnet",
    "Bello et al. 2019, arXiv:1904.09925, section 4.2",
    """
kappa: share of a convolution's filters that attention has as keys.
nu: share of a convolution's filters that come from attention.
num_heads: number of heads of each attention.
""",
)
preprocess_input = TORCH


def _gated(
    variant: Variant, *, drop_connect_rate: float = 0.0, **shared: Unpack[Shared]
) -> keras.Model:
    """A ResNet with a light block at the end of each residual branch."""
    return residual_network(variant, shared, drop_connect_rate)


_gc = partial(bottleneck, gate=GlobalContext)
_gc_blocks = (bottleneck, _gc, _gc, _gc)
_cbam = partial(bottleneck, gate=CBAM)
_eca = partial(bottleneck, gate=ECA)

# (stage, block) that a non-local block follows, by the ResNet and the number of non-local blocks.
# One stands right before the last block of the fourth stage; five are spread over every second
# (ResNet-101: every seventh) block. The paper does not say where ten stand among 23 blocks; evenly.
PLACES = {
    DEPTHS[50]: {
        1: {(4, 5)},
        5: {(3, 2), (3, 4), (4, 2), (4, 4), (4, 6)},
        10: {*((3, block) for block in range(1, 5)), *((4, block) for block in range(1, 7))},
    },
    DEPTHS[101]: {
        1: {(4, 22)},
        5: {(3, 2), (3, 4), (4, 7), (4, 14), (4, 21)},
        10: {*((3, block) for block in range(1, 5)), *((4, 3 * third) for third in range(1, 7))},
    },
}


def _non_local(
    variant: Variant,
    blocks: Literal[1, 5, 10] = 5,
    *,
    pairing: str = "embedded_gaussian",
    sub_sample: bool = True,
    drop_connect_rate: float = 0.0,
    **shared: Unpack[Shared],
) -> keras.Model:
    """A ResNet with non-local blocks in its third and fourth stage."""
    blocks = check_choice("blocks", blocks, (1, 5, 10))
    pairing = check_choice("pairing", pairing, PAIRINGS)
    sub_sample = check_flag("sub_sample", sub_sample)
    places = {f"conv{stage}_block{block}" for stage, block in PLACES[variant.depths][blocks]}

    def block(x: Any, width: int, stride: int, drop_rate: float, name: str) -> Any:
        x = bottleneck(x, width, stride, drop_rate, name)
        if name not in places:
            return x
        return NonLocalBlock(pairing, sub_sample=sub_sample, name=f"{name}_non_local")(x)

    return residual_network(dataclasses.replace(variant, block=block), shared, drop_connect_rate)


def _botnet(
    variant: Variant,
    *,
    last_stride: Literal[1, 2] = 2,
    num_heads: int = 4,
    drop_connect_rate: float = 0.0,
    **shared: Unpack[Shared],
) -> keras.Model:
    """A ResNet whose last three 3x3 convolutions are self-attention with relative positions."""
    last_stride = check_choice("last_stride", last_stride, (1, 2))
    num_heads = check_positive_int("num_heads", num_heads)

    def attention(x: Any, _: int, stride: int, name: str) -> Any:
        x = MultiHeadSelfAttention2D(num_heads, name=f"{name}_attention")(x)
        if stride > 1:
            x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(x)
        return bn_act(x, bn=BN, name=name)

    last = partial(bottleneck, middle=attention)
    return residual_network(
        dataclasses.replace(variant, block=(bottleneck, bottleneck, bottleneck, last)),
        shared,
        drop_connect_rate,
        last_stride=last_stride,
        static="always",
    )


def _aa_resnet(
    variant: Variant,
    kappa: float = 0.2,
    nu: float = 0.1,
    *,
    num_heads: int = 8,
    drop_connect_rate: float = 0.0,
    **shared: Unpack[Shared],
) -> keras.Model:
    """A ResNet with self-attention beside the 3x3 convolutions of its last three stages."""
    kappa, nu = check_share("kappa", kappa), check_share("nu", nu)
    num_heads = check_positive_int("num_heads", num_heads)

    def augmented(x: Any, width: int, stride: int, name: str, pool: bool = False) -> Any:
        x = AttentionAugmentedConv2D(
            width, 3, kappa, nu, num_heads, stride, pool=pool, name=f"{name}_augmented"
        )(x)
        return bn_act(x, bn=BN, name=name)

    third = partial(bottleneck, middle=partial(augmented, pool=True))
    later = partial(bottleneck, middle=augmented)
    variant = dataclasses.replace(variant, block=(bottleneck, third, later, later))
    return residual_network(variant, shared, drop_connect_rate, static="always")


# fmt: off
GCResNet50 = GC.variant(_gated, Variant(GC, "GCResNet50", DEPTHS[50], _gc_blocks, stem))
GCResNet101 = GC.variant(_gated, Variant(GC, "GCResNet101", DEPTHS[101], _gc_blocks, stem))
CBAMResNet50 = CBAM_RESNET.variant(
    _gated, Variant(CBAM_RESNET, "CBAMResNet50", DEPTHS[50], _cbam, stem))
CBAMResNet101 = CBAM_RESNET.variant(
    _gated, Variant(CBAM_RESNET, "CBAMResNet101", DEPTHS[101], _cbam, stem))
ECAResNet50 = ECA_RESNET.variant(
    _gated, Variant(ECA_RESNET, "ECAResNet50", DEPTHS[50], _eca, stem))
ECAResNet101 = ECA_RESNET.variant(
    _gated, Variant(ECA_RESNET, "ECAResNet101", DEPTHS[101], _eca, stem))
NonLocalResNet50 = NON_LOCAL.variant(
    _non_local, Variant(NON_LOCAL, "NonLocalResNet50", DEPTHS[50], bottleneck, stem))
NonLocalResNet101 = NON_LOCAL.variant(
    _non_local, Variant(NON_LOCAL, "NonLocalResNet101", DEPTHS[101], bottleneck, stem))
BoTNet50 = BOT.variant(_botnet, Variant(BOT, "BoTNet50", DEPTHS[50], bottleneck, stem))
BoTNet101 = BOT.variant(_botnet, Variant(BOT, "BoTNet101", DEPTHS[101], bottleneck, stem))
AAResNet50 = AA.variant(_aa_resnet, Variant(AA, "AAResNet50", DEPTHS[50], bottleneck, stem))
# fmt: on
