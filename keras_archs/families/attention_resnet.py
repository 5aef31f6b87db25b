"""ResNets with attention: positions or channels that look beyond a 3x3 kernel.

- Non-local: 1, 5 or 10 blocks in which every position attends to every other, behind blocks of
  the third and fourth stage.
- GC: one attention map for all positions, added to each block of the last three stages.
- CBAM, ECA: light gates at the end of each residual branch.
- BoTNet: self-attention with relative positions in place of the last three 3x3 convolutions.
- AANet: self-attention beside the 3x3 convolutions of the last three stages.

The ResNet below them has the stride in the 3x3 convolution and no bias, as in torchvision. The
papers of the non-local block and of most others give no ImageNet accuracy for exactly this form.
"""

import dataclasses
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
from .resnet import DEPTHS, STOCHASTIC_DEPTH, Variant, residual_network


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


def _gc(name: str) -> keras.layers.Layer:
    return GlobalContext(name=name)


def _cbam(name: str) -> keras.layers.Layer:
    return CBAM(name=name)


def _eca(name: str) -> keras.layers.Layer:
    return ECA(name=name)


# fmt: off
GCResNet50, GCResNet101 = (
    GC.variant(_gated, Variant(GC, f"GCResNet{depth}", DEPTHS[depth], gate=_gc, gate_from=3))
    for depth in (50, 101)
)
CBAMResNet50, CBAMResNet101 = (
    CBAM_RESNET.variant(
        _gated, Variant(CBAM_RESNET, f"CBAMResNet{depth}", DEPTHS[depth], gate=_cbam)
    )
    for depth in (50, 101)
)
ECAResNet50, ECAResNet101 = (
    ECA_RESNET.variant(_gated, Variant(ECA_RESNET, f"ECAResNet{depth}", DEPTHS[depth], gate=_eca))
    for depth in (50, 101)
)
# fmt: on

# (stage, block) that a non-local block follows, by the number of non-local blocks and of layers.
# One stands right before the last block of the fourth stage; five are spread over every second
# (ResNet-101: every seventh) block. The paper does not say where ten stand among 23 blocks; evenly.
PLACES = {
    (1, 50): {(4, 5)},
    (5, 50): {(3, 2), (3, 4), (4, 2), (4, 4), (4, 6)},
    (10, 50): {*((3, block) for block in range(1, 5)), *((4, block) for block in range(1, 7))},
    (1, 101): {(4, 22)},
    (5, 101): {(3, 2), (3, 4), (4, 7), (4, 14), (4, 21)},
    (10, 101): {*((3, block) for block in range(1, 5)), *((4, 3 * third) for third in range(1, 7))},
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
    places = PLACES[blocks, 50 if variant.depths == DEPTHS[50] else 101]

    def behind(x: Any, stage: int, block: int, name: str) -> Any:
        if (stage, block) not in places:
            return x
        return NonLocalBlock(pairing, sub_sample=sub_sample, name=f"{name}_non_local")(x)

    return residual_network(dataclasses.replace(variant, behind=behind), shared, drop_connect_rate)


NonLocalResNet50, NonLocalResNet101 = (
    NON_LOCAL.variant(_non_local, Variant(NON_LOCAL, f"NonLocalResNet{depth}", DEPTHS[depth]))
    for depth in (50, 101)
)


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

    def middle(x: Any, stage: int, _: int, stride: int, name: str) -> Any:
        if stage < 5:
            return None
        x = MultiHeadSelfAttention2D(num_heads, name=f"{name}_attention")(x)
        if stride > 1:
            x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(x)
        return x

    variant = dataclasses.replace(variant, middle=middle, last_stride=last_stride)
    return residual_network(variant, shared, drop_connect_rate, needs_size=True)


BoTNet50, BoTNet101 = (
    BOT.variant(_botnet, Variant(BOT, f"BoTNet{depth}", DEPTHS[depth])) for depth in (50, 101)
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

    def middle(x: Any, stage: int, width: int, stride: int, name: str) -> Any:
        if stage < 3:
            return None
        return AttentionAugmentedConv2D(
            width, 3, kappa, nu, num_heads, stride, pool=stage == 3, name=f"{name}_augmented"
        )(x)

    variant = dataclasses.replace(variant, middle=middle)
    return residual_network(variant, shared, drop_connect_rate, needs_size=True)


AAResNet50 = AA.variant(_aa_resnet, Variant(AA, "AAResNet50", DEPTHS[50]))
