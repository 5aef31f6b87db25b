"""ResNetV2: pre-activation, so that the skip path has only additions.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, figure 4e. Batch norm and ReLU
come before each convolution, and once more after the last block.

The 50, 101 and 152 layer networks are those of keras.applications, weight for weight: the map
shrinks in the last block of a stage, and the convolutions that no batch norm follows have a bias.
The 18 and 34 layer networks, which keras.applications lacks, have two 3x3 convolutions a block,
shrink the map in the first block of a stage, and have no bias, as in timm.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers.drop_in.batch_norm import BatchNormalization
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import TF
from ..registry import Family
from .common.convolution import MakeLayer, bn_act, conv2d, drop_rates
from .common.network import Scaffold
from .common.weights import ImageNet
from .resnet import DEPTHS, KERNELS, STOCHASTIC_DEPTH, WIDTHS, max_pool

FAMILY = Family(
    name="resnet_v2",
    paper="He et al. 2016, arXiv:1603.05027, figure 4e",
    preprocessing=TF,
    arguments=STOCHASTIC_DEPTH,
)
preprocess_input = FAMILY.preprocessing

BN = partial(BatchNormalization, epsilon=1.001e-5)
_bn_relu = partial(bn_act, bn=BN)
_conv = partial(conv2d, initializer=KERNELS)
_biased_conv = partial(_conv, use_bias=True)


@dataclass(frozen=True)
class Variant:
    """Number of blocks in each stage, and whether they are bottlenecks."""

    name: str
    depths: tuple[int, int, int, int]
    bottleneck: bool = True
    published: ImageNet | None = None


def _resnet_v2(
    variant: Variant, *, drop_connect_rate: float = 0.0, **shared: Unpack[Shared]
) -> keras.Model:
    """A 7x7 stem and four stages of pre-activated residual blocks."""
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    scaffold = Scaffold(FAMILY, shared, name=variant.name.lower(), published=variant.published)
    x = _conv(scaffold.inputs, 64, 7, 2, use_bias=variant.bottleneck, name="conv1")
    x = max_pool(x)
    block = _bottleneck if variant.bottleneck else basic_block
    rates = drop_rates(drop_connect_rate, sum(variant.depths))
    for stage, (depth, width) in enumerate(zip(variant.depths, WIDTHS, strict=True), 2):
        for index in range(1, depth + 1):
            if variant.bottleneck:
                shrink = index == depth and stage < 5
            else:
                shrink = index == 1 and stage > 2
            x = block(x, width, 2 if shrink else 1, next(rates), f"conv{stage}_block{index}")
    return scaffold.finish(_bn_relu(x, name="post"))


def basic_block(
    x: Any,
    width: int,
    stride: int,
    drop_rate: float,
    name: str,
    *,
    dropout_rate: float = 0.0,
    bn: MakeLayer = BN,
) -> Any:
    """Two 3x3 convolutions, each after a batch norm and a ReLU, that wide ResNets have as well.

    Args:
        dropout_rate: of the dropout between the two.
        bn: makes the batch norms.
    """
    preact, shortcut = bn_act(x, bn=bn, name=f"{name}_preact"), x
    if stride > 1 or x.shape[-1] != width:
        shortcut = _conv(preact, width, 1, stride, name=f"{name}_0")
    x = _conv(preact, width, 3, stride, name=f"{name}_1")
    x = bn_act(x, bn=bn, name=f"{name}_1")
    if dropout_rate:
        x = layers.Dropout(dropout_rate, name=f"{name}_dropout")(x)
    x = _conv(x, width, 3, name=f"{name}_2")
    return layers.Add(name=f"{name}_out")([shortcut, stochastic_depth(x, drop_rate, name)])


def _bottleneck(x: Any, width: int, stride: int, drop_rate: float, name: str) -> Any:
    preact = _bn_relu(x, name=f"{name}_preact")
    if x.shape[-1] != 4 * width:
        shortcut = _biased_conv(preact, 4 * width, 1, stride, name=f"{name}_0")
    elif stride > 1:
        shortcut = layers.MaxPooling2D(1, strides=stride, name=f"{name}_0_pool")(x)
    else:
        shortcut = x
    x = _conv(preact, width, 1, name=f"{name}_1")
    x = _bn_relu(x, name=f"{name}_1")
    x = _conv(x, width, 3, stride, name=f"{name}_2")
    x = _bn_relu(x, name=f"{name}_2")
    x = _biased_conv(x, 4 * width, 1, name=f"{name}_3")
    return layers.Add(name=f"{name}_out")([shortcut, stochastic_depth(x, drop_rate, name)])


# fmt: off
ResNet18V2 = FAMILY.variant(_resnet_v2, Variant("ResNet18V2", DEPTHS[18], bottleneck=False))
ResNet34V2 = FAMILY.variant(_resnet_v2, Variant("ResNet34V2", DEPTHS[34], bottleneck=False))
ResNet50V2 = FAMILY.variant(_resnet_v2, Variant(
    "ResNet50V2", DEPTHS[50], published=ImageNet.tf_kernels(
        "resnet/resnet50v2",
        "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917")))
ResNet101V2 = FAMILY.variant(_resnet_v2, Variant(
    "ResNet101V2", DEPTHS[101], published=ImageNet.tf_kernels(
        "resnet/resnet101v2",
        "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5")))
ResNet152V2 = FAMILY.variant(_resnet_v2, Variant(
    "ResNet152V2", DEPTHS[152], published=ImageNet.tf_kernels(
        "resnet/resnet152v2",
        "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33")))
# fmt: on
