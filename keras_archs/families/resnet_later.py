"""What later papers made of ResNet: each changes a part of the block or the stem.

- ResNet-D: three 3x3 convolutions make up the stem, and averaging shrinks the shortcuts, so that
  no pixel goes unseen.
- ResNet-RS: ResNet-D with squeeze-and-excitation and a strided convolution for the stem's pooling,
  scaled in depth before resolution.
- ResNeXt: many narrow transformations side by side, written as a grouped convolution.
- Wide ResNet: wider blocks rather than more of them.
- SE-ResNet, SE-ResNeXt: each block weighs its channels by what the whole map holds.

All of them have the stride in the 3x3 convolution and no bias, as in torchvision and timm.
"""

from typing import Unpack

import keras

from ..arguments import Shared
from ..layers import SqueezeExcite
from ..preprocessing import TORCH
from ..registry import Family
from .resnet import DEPTHS, STOCHASTIC_DEPTH, Variant, residual_network


def _family(name: str, paper: str, arguments: str = "") -> Family:
    arguments = STOCHASTIC_DEPTH + arguments
    return Family(name=name, paper=paper, preprocessing=TORCH, arguments=arguments)


D = _family("resnet_d", "He et al. 2019, arXiv:1812.01187, figure 2")
RS = _family(
    "resnet_rs",
    "Bello et al. 2021, arXiv:2103.07579, section 3",
    "dropout_rate: rate of the dropout before the classifier. The paper uses 0.25 to 0.4.",
)
NEXT = _family("resnext", "Xie et al. 2017, arXiv:1611.05431, table 1")
WIDE = _family("wide_resnet", "Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 8")
SE = _family("se_resnet", "Hu et al. 2018, arXiv:1709.01507, table 1")
SE_NEXT = _family("se_resnext", "Hu et al. 2018, arXiv:1709.01507, table 1")
preprocess_input = TORCH


def _resnet(
    variant: Variant, *, drop_connect_rate: float = 0.0, **shared: Unpack[Shared]
) -> keras.Model:
    """A ResNet with one part changed."""
    return residual_network(variant, shared, drop_connect_rate)


def _resnet_rs(
    variant: Variant,
    *,
    drop_connect_rate: float = 0.0,
    dropout_rate: float = 0.25,
    **shared: Unpack[Shared],
) -> keras.Model:
    """ResNet-D without pooling in the stem, and with squeeze-and-excitation."""
    return residual_network(variant, shared, drop_connect_rate, dropout_rate)


def _se(name: str) -> keras.layers.Layer:
    return SqueezeExcite(name=name)


def _se_quarter(name: str) -> keras.layers.Layer:
    return SqueezeExcite(squeeze_ratio=1 / 4, name=name)


# fmt: off
ResNet18D, ResNet34D, ResNet50D, ResNet101D, ResNet152D = (
    D.variant(_resnet, Variant(D, name, DEPTHS[depth], bottleneck, deep_stem=True,
                               pool_shortcut=True))
    for name, depth, bottleneck in (
        ("ResNet18D",  18,  False),
        ("ResNet34D",  50,  False),
        ("ResNet50D",  50,  True),
        ("ResNet101D", 101, True),
        ("ResNet152D", 152, True),
    )
)
(ResNetRS50, ResNetRS101, ResNetRS152, ResNetRS200, ResNetRS270, ResNetRS350, ResNetRS420) = (
    RS.variant(_resnet_rs, Variant(RS, name, depths, deep_stem=True, stem_pool=False,
                                   pool_shortcut=True, gate=_se_quarter, resolution=resolution))
    for name, depths, resolution in (
        ("ResNetRS50",  DEPTHS[50],      160),
        ("ResNetRS101", DEPTHS[101],     192),
        ("ResNetRS152", DEPTHS[152],     256),
        ("ResNetRS200", (3, 24, 36, 3),  256),
        ("ResNetRS270", (4, 29, 53, 4),  256),
        ("ResNetRS350", (4, 36, 72, 4),  288),
        ("ResNetRS420", (4, 44, 87, 4),  320),
    )
)
ResNeXt50, ResNeXt101 = (
    NEXT.variant(_resnet, Variant(NEXT, f"ResNeXt{depth}", DEPTHS[depth], groups=32, base_width=4))
    for depth in (50, 101)
)
WideResNet50, WideResNet101 = (
    WIDE.variant(_resnet, Variant(WIDE, f"WideResNet{depth}", DEPTHS[depth], base_width=128))
    for depth in (50, 101)
)
SEResNet18, SEResNet34, SEResNet50, SEResNet101, SEResNet152 = (
    SE.variant(_resnet, Variant(SE, name, DEPTHS[depth], bottleneck, gate=_se))
    for name, depth, bottleneck in (
        ("SEResNet18",  18,  False),
        ("SEResNet34",  50,  False),
        ("SEResNet50",  50,  True),
        ("SEResNet101", 101, True),
        ("SEResNet152", 152, True),
    )
)
SEResNeXt50, SEResNeXt101 = (
    SE_NEXT.variant(_resnet, Variant(SE_NEXT, f"SEResNeXt{depth}", DEPTHS[depth], groups=32,
                                     base_width=4, gate=_se))
    for depth in (50, 101)
)
# fmt: on
