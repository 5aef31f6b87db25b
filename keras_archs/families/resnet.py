"""ResNet: blocks that learn a residual, added to a skip connection.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.

The 50, 101 and 152 layer networks are those of keras.applications, weight for weight: stride in
the first 1x1 convolution of a stage (as in the paper), and a bias in each convolution, which the
batch norm behind it makes redundant, because the published weights have one. The 18 and 34 layer
networks, which keras.applications lacks, have none, as in torchvision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import keras
from keras import layers

from keras_archs.arguments import Shared
from keras_archs.preprocessing import CAFFE
from keras_archs.registry import Family
from keras_archs.scaffold import Scaffold
from keras_archs.weights import ImageNet

FAMILY = Family(
    name="resnet",
    paper="He et al. 2016, arXiv:1512.03385, table 1",
    preprocessing=CAFFE,
)
preprocess_input = FAMILY.preprocessing

WIDTHS = (64, 128, 256, 512)


def _resnet(variant: "Variant", **shared: Unpack[Shared]) -> keras.Model:
    """A 7x7 stem and four stages of residual blocks."""
    scaffold = Scaffold(FAMILY, shared, name=variant.name.lower(), published=variant.imagenet)
    x = _conv_bn(scaffold.inputs, 64, 7, 2, variant.bias, name="conv1")
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (depth, width) in enumerate(zip(variant.depths, WIDTHS, strict=True), 2):
        for block in range(1, depth + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            x = variant.block(x, width, stride, variant.bias, f"conv{stage}_block{block}")
    return scaffold.finish(x)


def _basic(x: Any, width: int, stride: int, bias: bool, name: str) -> Any:
    shortcut = _shortcut(x, width, stride, bias, name)
    x = _conv_bn(x, width, 3, stride, bias, name=f"{name}_1")
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_bn(x, width, 3, 1, bias, name=f"{name}_2")
    return _join(shortcut, x, name)


def _bottleneck(x: Any, width: int, stride: int, bias: bool, name: str) -> Any:
    shortcut = _shortcut(x, 4 * width, stride, bias, name)
    x = _conv_bn(x, width, 1, stride, bias, name=f"{name}_1")
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_bn(x, width, 3, 1, bias, name=f"{name}_2")
    x = layers.ReLU(name=f"{name}_2_relu")(x)
    x = _conv_bn(x, 4 * width, 1, 1, bias, name=f"{name}_3")
    return _join(shortcut, x, name)


def _shortcut(x: Any, width: int, stride: int, bias: bool, name: str) -> Any:
    if stride == 1 and x.shape[-1] == width:
        return x
    return _conv_bn(x, width, 1, stride, bias, name=f"{name}_0")


def _join(shortcut: Any, x: Any, name: str) -> Any:
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)


def _conv_bn(x: Any, width: int, kernel: int, stride: int, bias: bool, name: str) -> Any:
    # "same" pads an even map on one side only; the published networks pad both sides.
    both_sides = stride > 1 and kernel > 1
    if both_sides:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="valid" if both_sides else "same",
        use_bias=bias,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(x)


@dataclass(frozen=True)
class Variant:
    """A column of table 1.

    Attributes:
        block: the residual block of all stages.
        depths: number of blocks in each stage.
        bias: whether the convolutions have one.
        md5: sums of the published ImageNet weights with the top and without.
    """

    name: str
    block: Callable[[Any, int, int, bool, str], Any]
    depths: tuple[int, int, int, int]
    bias: bool = False
    md5: tuple[str, str] | None = None

    @property
    def imagenet(self) -> ImageNet | None:
        stem = f"resnet/{self.name.lower()}"
        return ImageNet.tf_kernels(stem, *self.md5) if self.md5 else None


# fmt: off
ResNet18 = FAMILY.variant(_resnet, Variant("ResNet18", _basic, (2, 2, 2, 2)))
ResNet34 = FAMILY.variant(_resnet, Variant("ResNet34", _basic, (3, 4, 6, 3)))
ResNet50 = FAMILY.variant(_resnet, Variant("ResNet50", _bottleneck, (3, 4, 6, 3), bias=True,
    md5=("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626")))
ResNet101 = FAMILY.variant(_resnet, Variant("ResNet101", _bottleneck, (3, 4, 23, 3), bias=True,
    md5=("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21")))
ResNet152 = FAMILY.variant(_resnet, Variant("ResNet152", _bottleneck, (3, 8, 36, 3), bias=True,
    md5=("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c")))
# fmt: on
