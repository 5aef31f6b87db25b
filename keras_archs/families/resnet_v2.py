"""ResNetV2: pre-activation, so that nothing but additions stands on the skip path.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, figure 4e. Batch norm and ReLU
come before each convolution, and once more behind the last block.

The 50, 101 and 152 layer networks are those of keras.applications, weight for weight: the map
shrinks in the last block of a stage, and the convolutions that no batch norm follows have a bias.
The 18 and 34 layer networks, which keras.applications lacks, have two 3x3 convolutions a block,
shrink the map in the first block of a stage, and have no bias, as in timm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers.batch_norm import BatchNormalization
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import TF
from ..registry import Family
from ..scaffold import Scaffold
from ..weights import ImageNet
from .convolutions import conv2d
from .resnet import KERNELS, STOCHASTIC_DEPTH

FAMILY = Family(
    name="resnet_v2",
    paper="He et al. 2016, arXiv:1603.05027, figure 4e",
    preprocessing=TF,
    arguments=STOCHASTIC_DEPTH,
)
preprocess_input = FAMILY.preprocessing

WIDTHS = (64, 128, 256, 512)


def _resnet_v2(
    variant: "Variant", *, drop_connect_rate: float = 0.0, **shared: Unpack[Shared]
) -> keras.Model:
    """A 7x7 stem and four stages of pre-activated residual blocks."""
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    scaffold = Scaffold(FAMILY, shared, name=variant.name.lower(), published=variant.imagenet)
    x = _conv(scaffold.inputs, 64, 7, 2, variant.bottleneck, name="conv1")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    block = _bottleneck if variant.bottleneck else basic_block
    count, blocks = 0, sum(variant.depths)
    for stage, (depth, width) in enumerate(zip(variant.depths, WIDTHS, strict=True), 2):
        for index in range(1, depth + 1):
            if variant.bottleneck:
                shrink = index == depth and stage < 5
            else:
                shrink = index == 1 and stage > 2
            count += 1
            drop_rate = drop_connect_rate * count / blocks
            x = block(x, width, 2 if shrink else 1, drop_rate, f"conv{stage}_block{index}")
    return scaffold.finish(_bn_relu(x, "post"))


def basic_block(
    x: Any,
    width: int,
    stride: int,
    drop_rate: float,
    name: str,
    *,
    dropout_rate: float = 0.0,
    bn_relu: Callable[[Any, str], Any] | None = None,
) -> Any:
    """Two 3x3 convolutions, each behind a batch norm and a ReLU, that wide ResNets have as well.

    Args:
        dropout_rate: of the dropout between the two.
        bn_relu: makes the batch norm and the ReLU; those of this family by default.
    """
    bn_relu = bn_relu or _bn_relu
    preact, shortcut = bn_relu(x, f"{name}_preact"), x
    if stride > 1 or x.shape[-1] != width:
        shortcut = _conv(preact, width, 1, stride, False, f"{name}_0")
    x = _conv(preact, width, 3, stride, False, f"{name}_1")
    x = bn_relu(x, f"{name}_1")
    if dropout_rate:
        x = layers.Dropout(dropout_rate, name=f"{name}_dropout")(x)
    x = _conv(x, width, 3, 1, False, f"{name}_2")
    return layers.Add(name=f"{name}_out")([shortcut, stochastic_depth(x, drop_rate, name)])


def _bottleneck(x: Any, width: int, stride: int, drop_rate: float, name: str) -> Any:
    preact = _bn_relu(x, f"{name}_preact")
    if x.shape[-1] != 4 * width:
        shortcut = _conv(preact, 4 * width, 1, stride, True, f"{name}_0")
    elif stride > 1:
        shortcut = layers.MaxPooling2D(1, strides=stride, name=f"{name}_0_pool")(x)
    else:
        shortcut = x
    x = _conv(preact, width, 1, 1, False, f"{name}_1")
    x = _bn_relu(x, f"{name}_1")
    x = _conv(x, width, 3, stride, False, f"{name}_2")
    x = _bn_relu(x, f"{name}_2")
    x = _conv(x, 4 * width, 1, 1, True, f"{name}_3")
    return layers.Add(name=f"{name}_out")([shortcut, stochastic_depth(x, drop_rate, name)])


def _bn_relu(x: Any, name: str) -> Any:
    x = BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _conv(x: Any, width: int, kernel: int, stride: int, bias: bool, name: str) -> Any:
    return conv2d(x, width, kernel, stride, use_bias=bias, kernel_initializer=KERNELS, name=name)


@dataclass(frozen=True)
class Variant:
    """Number of blocks in each stage, and whether they are bottlenecks.

    `md5` holds the sums of the published ImageNet weights with the top and without.
    """

    name: str
    depths: tuple[int, int, int, int]
    bottleneck: bool = True
    md5: tuple[str, str] | None = None

    @property
    def imagenet(self) -> ImageNet | None:
        return ImageNet.tf_kernels(f"resnet/{self.name.lower()}", *self.md5) if self.md5 else None


# fmt: off
ResNet18V2 = FAMILY.variant(_resnet_v2, Variant("ResNet18V2", (2, 2, 2, 2), bottleneck=False))
ResNet34V2 = FAMILY.variant(_resnet_v2, Variant("ResNet34V2", (3, 4, 6, 3), bottleneck=False))
ResNet50V2 = FAMILY.variant(_resnet_v2, Variant("ResNet50V2", (3, 4, 6, 3),
    md5=("3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917")))
ResNet101V2 = FAMILY.variant(_resnet_v2, Variant("ResNet101V2", (3, 4, 23, 3),
    md5=("6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5")))
ResNet152V2 = FAMILY.variant(_resnet_v2, Variant("ResNet152V2", (3, 8, 36, 3),
    md5=("a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33")))
# fmt: on
