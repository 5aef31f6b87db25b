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

from functools import partial
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared
from ..layers import SqueezeExcite
from ..preprocessing import TORCH
from ..registry import Family
from .resnet import (
    DEPTHS,
    STOCHASTIC_DEPTH,
    Conv,
    Variant,
    basic,
    bottleneck,
    conv,
    max_pool,
    projection,
    residual_network,
    stem,
)


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
    return residual_network(variant, shared, drop_connect_rate, dropout_rate=dropout_rate)


def _three_convolutions(x: Any) -> Any:
    for index, (width, stride) in enumerate(((32, 2), (32, 1), (64, 1)), 1):
        x = conv(x, width, 3, stride, name=f"conv1_{index}")
    return x


def _stem_d(x: Any) -> Any:
    return max_pool(_three_convolutions(x))


def _stem_rs(x: Any) -> Any:
    return conv(_three_convolutions(x), 64, 3, 2, name="pool1")


def _averaged(x: Any, width: int, stride: int, name: str, conv: Conv) -> Any:
    """A shortcut whose 1x1 convolution sees every pixel."""
    if stride > 1:
        x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_0_pool")(x)
    return projection(x, width, 1, name, conv)


_basic_d = partial(basic, shortcut=_averaged)
_bottleneck_d = partial(bottleneck, shortcut=_averaged)
_rs = partial(_bottleneck_d, gate=partial(SqueezeExcite, squeeze_ratio=1 / 4))
_next = partial(bottleneck, groups=32, base_width=4)
_wide = partial(bottleneck, base_width=128)
_se_basic = partial(basic, gate=SqueezeExcite)
_se = partial(bottleneck, gate=SqueezeExcite)
_se_next = partial(_next, gate=SqueezeExcite)

# fmt: off
ResNet18D = D.variant(_resnet, Variant(D, "ResNet18D", DEPTHS[18], _basic_d, _stem_d))
ResNet34D = D.variant(_resnet, Variant(D, "ResNet34D", DEPTHS[34], _basic_d, _stem_d))
ResNet50D = D.variant(_resnet, Variant(D, "ResNet50D", DEPTHS[50], _bottleneck_d, _stem_d))
ResNet101D = D.variant(_resnet, Variant(D, "ResNet101D", DEPTHS[101], _bottleneck_d, _stem_d))
ResNet152D = D.variant(_resnet, Variant(D, "ResNet152D", DEPTHS[152], _bottleneck_d, _stem_d))

ResNetRS50 = RS.variant(_resnet_rs, Variant(RS, "ResNetRS50", DEPTHS[50], _rs, _stem_rs, 160))
ResNetRS101 = RS.variant(_resnet_rs, Variant(RS, "ResNetRS101", DEPTHS[101], _rs, _stem_rs, 192))
ResNetRS152 = RS.variant(_resnet_rs, Variant(RS, "ResNetRS152", DEPTHS[152], _rs, _stem_rs, 256))
ResNetRS200 = RS.variant(_resnet_rs, Variant(RS, "ResNetRS200", (3, 24, 36, 3), _rs, _stem_rs, 256))
ResNetRS270 = RS.variant(_resnet_rs, Variant(RS, "ResNetRS270", (4, 29, 53, 4), _rs, _stem_rs, 256))
ResNetRS350 = RS.variant(_resnet_rs, Variant(RS, "ResNetRS350", (4, 36, 72, 4), _rs, _stem_rs, 288))
ResNetRS420 = RS.variant(_resnet_rs, Variant(RS, "ResNetRS420", (4, 44, 87, 4), _rs, _stem_rs, 320))

ResNeXt50 = NEXT.variant(_resnet, Variant(NEXT, "ResNeXt50", DEPTHS[50], _next, stem))
ResNeXt101 = NEXT.variant(_resnet, Variant(NEXT, "ResNeXt101", DEPTHS[101], _next, stem))

WideResNet50 = WIDE.variant(_resnet, Variant(WIDE, "WideResNet50", DEPTHS[50], _wide, stem))
WideResNet101 = WIDE.variant(_resnet, Variant(WIDE, "WideResNet101", DEPTHS[101], _wide, stem))

SEResNet18 = SE.variant(_resnet, Variant(SE, "SEResNet18", DEPTHS[18], _se_basic, stem))
SEResNet34 = SE.variant(_resnet, Variant(SE, "SEResNet34", DEPTHS[34], _se_basic, stem))
SEResNet50 = SE.variant(_resnet, Variant(SE, "SEResNet50", DEPTHS[50], _se, stem))
SEResNet101 = SE.variant(_resnet, Variant(SE, "SEResNet101", DEPTHS[101], _se, stem))
SEResNet152 = SE.variant(_resnet, Variant(SE, "SEResNet152", DEPTHS[152], _se, stem))

SEResNeXt50 = SE_NEXT.variant(
    _resnet, Variant(SE_NEXT, "SEResNeXt50", DEPTHS[50], _se_next, stem))
SEResNeXt101 = SE_NEXT.variant(
    _resnet, Variant(SE_NEXT, "SEResNeXt101", DEPTHS[101], _se_next, stem))
# fmt: on
