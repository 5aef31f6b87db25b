"""ResNet: blocks that learn a residual, added to a skip connection.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.

The 50, 101 and 152 layer networks are those of keras.applications, weight for weight: stride in
the first 1x1 convolution of a stage (as in the paper), and a bias in each convolution, which the
batch norm after it makes redundant, because the published weights have one. The 18 and 34 layer
networks, which keras.applications lacks, have none, as in torchvision.

A network is put together from a stem and blocks. Later papers changed one of these parts; their
networks hand in their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers.drop_in.batch_norm import BatchNormalization
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import CAFFE
from ..registry import Family
from .common.convolution import MakeLayer, conv_bn_act, drop_rates
from .common.network import Scaffold
from .common.weights import ImageNet

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
KERNELS = keras.initializers.HeUniform
# Blocks of each stage, by the number of layers.
DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

# The convolution of torchvision, and those of keras.applications without a bias and with one.
BN = partial(BatchNormalization, momentum=0.9, epsilon=1e-5)
conv = partial(conv_bn_act, bn=BN, initializer=KERNELS)
_keras_conv = partial(
    conv_bn_act, bn=partial(BatchNormalization, epsilon=1.001e-5), initializer=KERNELS
)
_biased_conv = partial(_keras_conv, use_bias=True)

Conv = Callable[..., Any]  # `conv` or another of its kind
Stem = Callable[[Any], Any]
Shortcut = Callable[[Any, int, int, str, Conv], Any]  # (x, width, stride, name, conv)
Block = Callable[[Any, int, int, float, str], Any]  # (x, width, stride, drop_rate, name)


@dataclass(frozen=True)
class Variant:
    """A column of table 1, or of the table of a later paper.

    Attributes:
        family: the paper's.
        depths: number of blocks in each stage.
        block: builds a block; a tuple holds one function for each stage.
        stem: builds the layers before the first stage.
        resolution: default height and width with the top.
        published: the ImageNet weights.
    """

    family: Family
    name: str
    depths: tuple[int, int, int, int]
    block: Block | tuple[Block, Block, Block, Block]
    stem: Stem
    resolution: int = 224
    published: ImageNet | None = None


def residual_network(
    variant: Variant,
    shared: Shared,
    drop_connect_rate: float,
    *,
    dropout_rate: float = 0.0,
    last_stride: int = 2,
    static: Literal["always"] | None = None,
) -> keras.Model:
    """A stem and four stages of residual blocks.

    Args:
        dropout_rate: rate of the dropout before the classifier.
        last_stride: stride of the last stage.
        static: `"always"` if some weights depend on the height and width.
    """
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    scaffold = Scaffold(
        variant.family,
        shared,
        name=variant.name.lower(),
        top_size=variant.resolution,
        static=static,
        published=variant.published,
    )
    x = variant.stem(scaffold.inputs)
    blocks = variant.block if isinstance(variant.block, tuple) else (variant.block,) * 4
    strides = (1, 2, 2, last_stride)
    rates = drop_rates(drop_connect_rate, sum(variant.depths))
    stages = zip(blocks, variant.depths, WIDTHS, strides, strict=True)
    for stage, (build, depth, width, stride) in enumerate(stages, 2):
        for block in range(1, depth + 1):
            name = f"conv{stage}_block{block}"
            x = build(x, width, stride if block == 1 else 1, next(rates), name)

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if dropout_rate:
            x = layers.Dropout(dropout_rate, name="top_dropout")(x)
        return scaffold.classify(x)

    return scaffold.finish(x, top)


def stem(x: Any, conv: Conv = conv) -> Any:
    """A 7x7 convolution and max pooling."""
    return max_pool(conv(x, 64, 7, 2, name="conv1"))


def max_pool(x: Any) -> Any:
    """The end of the stem."""
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)


def projection(x: Any, width: int, stride: int, name: str, conv: Conv) -> Any:
    """The shortcut: a 1x1 convolution where the map changes its shape."""
    if stride == 1 and x.shape[-1] == width:
        return x
    return conv(x, width, 1, stride, activation=None, name=f"{name}_0")


def basic(
    x: Any,
    width: int,
    stride: int,
    drop_rate: float,
    name: str,
    *,
    conv: Conv = conv,
    shortcut: Shortcut = projection,
    gate: MakeLayer | None = None,
) -> Any:
    """Two 3x3 convolutions beside a shortcut.

    Args:
        gate: makes the layer at the end of the residual branch.
    """
    skip = shortcut(x, width, stride, name, conv)
    x = conv(x, width, 3, stride, name=f"{name}_1")
    x = conv(x, width, 3, activation=None, name=f"{name}_2")
    return _join(skip, x, gate, drop_rate, name)


def bottleneck(
    x: Any,
    width: int,
    stride: int,
    drop_rate: float,
    name: str,
    *,
    conv: Conv = conv,
    shortcut: Shortcut = projection,
    gate: MakeLayer | None = None,
    groups: int = 1,
    base_width: int = 64,
    stride_first: bool = False,
    middle: Callable[..., Any] | None = None,
) -> Any:
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, with four times the width at their end.

    Args:
        gate: makes the layer at the end of the residual branch.
        groups, base_width: number of groups of the 3x3 convolution, and the width of each in the
            first stage.
        stride_first: whether the first convolution has the stride, not the second.
        middle: `(x, filters, stride=, name=)` to what takes the place of the 3x3 convolution, its
            batch norm and its ReLU.
    """
    skip = shortcut(x, 4 * width, stride, name, conv)
    first, second = (stride, 1) if stride_first else (1, stride)
    middle = middle or partial(conv, kernel=3, groups=groups)
    inner = width * base_width // 64 * groups
    x = conv(x, inner, 1, first, name=f"{name}_1")
    x = middle(x, inner, stride=second, name=f"{name}_2")
    x = conv(x, 4 * width, 1, activation=None, name=f"{name}_3")
    return _join(skip, x, gate, drop_rate, name)


def _join(skip: Any, x: Any, gate: MakeLayer | None, drop_rate: float, name: str) -> Any:
    if gate:
        x = gate(name=f"{name}_gate")(x)
    x = stochastic_depth(x, drop_rate, name)
    x = layers.Add(name=f"{name}_add")([skip, x])
    return layers.ReLU(name=f"{name}_out")(x)


def _resnet(
    variant: Variant, *, drop_connect_rate: float = 0.0, **shared: Unpack[Shared]
) -> keras.Model:
    """A 7x7 stem and four stages of residual blocks."""
    return residual_network(variant, shared, drop_connect_rate)


_basic = partial(basic, conv=_keras_conv)
_small_stem = partial(stem, conv=_keras_conv)
_bottleneck = partial(bottleneck, conv=_biased_conv, stride_first=True)
_stem = partial(stem, conv=_biased_conv)

# fmt: off
ResNet18 = FAMILY.variant(_resnet, Variant(FAMILY, "ResNet18", DEPTHS[18], _basic, _small_stem))
ResNet34 = FAMILY.variant(_resnet, Variant(FAMILY, "ResNet34", DEPTHS[34], _basic, _small_stem))
ResNet50 = FAMILY.variant(_resnet, Variant(
    FAMILY, "ResNet50", DEPTHS[50], _bottleneck, _stem, published=ImageNet.tf_kernels(
        "resnet/resnet50",
        "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626")))
ResNet101 = FAMILY.variant(_resnet, Variant(
    FAMILY, "ResNet101", DEPTHS[101], _bottleneck, _stem, published=ImageNet.tf_kernels(
        "resnet/resnet101",
        "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21")))
ResNet152 = FAMILY.variant(_resnet, Variant(
    FAMILY, "ResNet152", DEPTHS[152], _bottleneck, _stem, published=ImageNet.tf_kernels(
        "resnet/resnet152",
        "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c")))
# fmt: on
