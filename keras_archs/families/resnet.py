"""ResNet: blocks that learn a residual, added to a skip connection.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.

The 50, 101 and 152 layer networks are those of keras.applications, weight for weight: stride in
the first 1x1 convolution of a stage (as in the paper), and a bias in each convolution, which the
batch norm behind it makes redundant, because the published weights have one. The 18 and 34 layer
networks, which keras.applications lacks, have none, as in torchvision.

Later papers changed a part of the block or the stem; their networks are rows of `Variant`, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers.batch_norm import BatchNormalization
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import CAFFE
from ..registry import Family
from ..scaffold import Scaffold
from ..weights import ImageNet
from .convolutions import conv2d

STOCHASTIC_DEPTH = """
drop_connect_rate: rate at which the last block's residual branch is dropped for an image
    (stochastic depth); it grows linearly with the block.
"""
FAMILY = Family(
    name="resnet",
    paper="He et al. 2016, arXiv:1512.03385, table 1",
    preprocessing=CAFFE,
    arguments=STOCHASTIC_DEPTH,
)
preprocess_input = FAMILY.preprocessing

WIDTHS = (64, 128, 256, 512)
# The variance of He et al. 2015. A uniform draw is four times as fast as Keras' truncated Gaussian,
# and building a network is mostly drawing weights.
KERNELS = "he_uniform"
# Blocks of each stage, by the number of layers; 34 layers have those of 50.
DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@dataclass(frozen=True)
class Variant:
    """A column of table 1, or of the table of a later paper.

    Attributes:
        family: the paper's.
        depths: number of blocks in each stage.
        bottleneck: whether a block is 1x1, 3x3, 1x1 convolutions with four times the width at its
            end, or two of 3x3.
        groups, base_width: number of groups of the 3x3 convolution of a bottleneck, and the width
            of each in the first stage.
        stride_first: whether the first convolution of a bottleneck has the stride, not the second.
        bias: whether the convolutions have one.
        deep_stem: whether the stem is three 3x3 convolutions.
        stem_pool: whether the stem ends in max pooling, or in one more strided convolution.
        pool_shortcut: whether averaging shrinks the shortcut, so that its 1x1 sees every pixel.
        last_stride: stride of the last stage.
        gate: makes the layer of a name that stands at the end of the residual branch.
        gate_from: first stage with a gate.
        middle: `(x, stage, width, stride, name)` to what stands in place of the 3x3 convolution,
            or to None for the convolution.
        behind: `(x, stage, block, name)` to the map behind a block.
        epsilon, momentum: of the batch norms.
        resolution: default height and width with the top.
        md5: sums of the published ImageNet weights with the top and without.
    """

    family: Family
    name: str
    depths: tuple[int, int, int, int]
    bottleneck: bool = True
    groups: int = 1
    base_width: int = 64
    stride_first: bool = False
    bias: bool = False
    deep_stem: bool = False
    stem_pool: bool = True
    pool_shortcut: bool = False
    last_stride: int = 2
    gate: Callable[[str], keras.layers.Layer] | None = None
    gate_from: int = 2
    middle: Callable[[Any, int, int, int, str], Any] = lambda *_: None
    behind: Callable[[Any, int, int, str], Any] = lambda x, *_: x
    epsilon: float = 1e-5
    momentum: float = 0.9
    resolution: int = 224
    md5: tuple[str, str] | None = None

    @property
    def imagenet(self) -> ImageNet | None:
        stem = f"resnet/{self.name.lower()}"
        return ImageNet.tf_kernels(stem, *self.md5) if self.md5 else None


def residual_network(
    variant: Variant,
    shared: Shared,
    drop_connect_rate: float,
    dropout_rate: float = 0.0,
    needs_size: bool = False,
) -> keras.Model:
    """The network of a row: a stem and four stages of residual blocks.

    Args:
        dropout_rate: rate of the dropout before the classifier.
        needs_size: whether some weights depend on the height and width.
    """
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    scaffold = Scaffold(
        variant.family,
        shared,
        name=variant.name.lower(),
        top_size=variant.resolution,
        static="always" if needs_size else None,
        published=variant.imagenet,
    )
    x = _stem(scaffold.inputs, variant)
    build = _bottleneck if variant.bottleneck else _basic
    count, blocks = 0, sum(variant.depths)
    for stage, (depth, width) in enumerate(zip(variant.depths, WIDTHS, strict=True), 2):
        for block in range(1, depth + 1):
            stride = {2: 1, 5: variant.last_stride}.get(stage, 2) if block == 1 else 1
            name = f"conv{stage}_block{block}"
            count += 1
            x = build(x, variant, stage, width, stride, drop_connect_rate * count / blocks, name)
            x = variant.behind(x, stage, block, name)

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if dropout_rate:
            x = layers.Dropout(dropout_rate, name="top_dropout")(x)
        return scaffold.classify(x)

    return scaffold.finish(x, top)


def _stem(x: Any, variant: Variant) -> Any:
    if variant.deep_stem:
        for index, (width, stride) in enumerate(((32, 2), (32, 1), (64, 1)), 1):
            x = _conv_bn(x, variant, width, 3, stride, name=f"conv1_{index}")
            x = layers.ReLU(name=f"conv1_{index}_relu")(x)
    else:
        x = _conv_bn(x, variant, 64, 7, 2, name="conv1")
        x = layers.ReLU(name="conv1_relu")(x)
    if variant.stem_pool:
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
        return layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    x = _conv_bn(x, variant, 64, 3, 2, name="pool1")
    return layers.ReLU(name="pool1_relu")(x)


def _basic(
    x: Any, variant: Variant, stage: int, width: int, stride: int, drop_rate: float, name: str
) -> Any:
    shortcut = _shortcut(x, variant, width, stride, name)
    x = _conv_bn(x, variant, width, 3, stride, name=f"{name}_1")
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_bn(x, variant, width, 3, 1, name=f"{name}_2")
    return _join(shortcut, x, variant, stage, drop_rate, name)


def _bottleneck(
    x: Any, variant: Variant, stage: int, width: int, stride: int, drop_rate: float, name: str
) -> Any:
    shortcut = _shortcut(x, variant, 4 * width, stride, name)
    first, second = (stride, 1) if variant.stride_first else (1, stride)
    inner = width * variant.base_width // 64 * variant.groups
    x = _conv_bn(x, variant, inner, 1, first, name=f"{name}_1")
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    middle = variant.middle(x, stage, inner, second, f"{name}_2")
    if middle is None:
        x = _conv_bn(x, variant, inner, 3, second, variant.groups, name=f"{name}_2")
    else:
        x = _bn(middle, variant, f"{name}_2")
    x = layers.ReLU(name=f"{name}_2_relu")(x)
    x = _conv_bn(x, variant, 4 * width, 1, 1, name=f"{name}_3")
    return _join(shortcut, x, variant, stage, drop_rate, name)


def _shortcut(x: Any, variant: Variant, width: int, stride: int, name: str) -> Any:
    if stride == 1 and x.shape[-1] == width:
        return x
    if variant.pool_shortcut and stride > 1:
        x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_0_pool")(x)
        stride = 1
    return _conv_bn(x, variant, width, 1, stride, name=f"{name}_0")


def _join(shortcut: Any, x: Any, variant: Variant, stage: int, drop_rate: float, name: str) -> Any:
    if variant.gate and stage >= variant.gate_from:
        x = variant.gate(f"{name}_gate")(x)
    x = stochastic_depth(x, drop_rate, name)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)


def _conv_bn(
    x: Any, variant: Variant, width: int, kernel: int, stride: int, groups: int = 1, *, name: str
) -> Any:
    x = conv2d(
        x,
        width,
        kernel,
        stride,
        groups=groups,
        use_bias=variant.bias,
        kernel_initializer=KERNELS,
        name=name,
    )
    return _bn(x, variant, name)


def _bn(x: Any, variant: Variant, name: str) -> Any:
    return BatchNormalization(
        momentum=variant.momentum, epsilon=variant.epsilon, name=f"{name}_bn"
    )(x)


def _resnet(
    variant: Variant, *, drop_connect_rate: float = 0.0, **shared: Unpack[Shared]
) -> keras.Model:
    """A 7x7 stem and four stages of residual blocks."""
    return residual_network(variant, shared, drop_connect_rate)


def _small(name: str, depths: tuple[int, int, int, int]) -> Variant:
    return Variant(FAMILY, name, depths, bottleneck=False, epsilon=1.001e-5, momentum=0.99)


def _published(name: str, depths: tuple[int, int, int, int], top: str, no_top: str) -> Variant:
    return Variant(
        FAMILY,
        name,
        depths,
        stride_first=True,
        bias=True,
        epsilon=1.001e-5,
        momentum=0.99,
        md5=(top, no_top),
    )


# fmt: off
ResNet18 = FAMILY.variant(_resnet, _small("ResNet18", DEPTHS[18]))
ResNet34 = FAMILY.variant(_resnet, _small("ResNet34", DEPTHS[50]))
ResNet50 = FAMILY.variant(_resnet, _published("ResNet50", DEPTHS[50],
    "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"))
ResNet101 = FAMILY.variant(_resnet, _published("ResNet101", DEPTHS[101],
    "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"))
ResNet152 = FAMILY.variant(_resnet, _published("ResNet152", DEPTHS[152],
    "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"))
# fmt: on
