"""MobileNetV3: searched blocks with squeeze-and-excitation and hard-swish.

Howard et al., "Searching for MobileNetV3", ICCV 2019, tables 1 and 2. Inverted residuals as in
MobileNetV2; a search chose kernels and widths, and the expensive ends of the network were
redesigned by hand. `minimalistic` is the authors' form for hardware that is slow at anything but
3x3 kernels and ReLU.

Without the top the features end before the last 1x1 convolution, which stands behind the pooling.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_flag, check_positive, check_rate
from ..layers.activation import Activation
from ..layers.batch_norm import BatchNormalization
from ..layers.depthwise import DepthwiseConv2D
from ..preprocessing import TF
from ..registry import Family
from ..rounding import make_divisible
from ..scaffold import Scaffold
from ..weights import ImageNet, WeightsFile

FAMILY = Family(
    name="mobilenet_v3",
    paper="Howard et al. 2019, arXiv:1905.02244, tables 1 and 2",
    preprocessing=TF,
    first=("input_shape",),
    arguments="""
alpha: width multiplier; the filters of each layer are `alpha * filters`, rounded to a multiple of
    8. 1 and 0.75 in the paper. The last convolution keeps its filters below an alpha of 1.
minimalistic: whether to use 3x3 kernels and ReLU alone, without squeeze-and-excitation.
dropout_rate: rate of the dropout before the classifier.
""",
)
preprocess_input = FAMILY.preprocessing


class Block(NamedTuple):
    """A row of table 1 or 2; the expansion is relative to the channels of the input."""

    kernel: int
    expansion: float
    filters: int
    squeeze: bool
    activation: str
    stride: int


HS, RE = "hard_swish", "relu"
# fmt: off
LARGE = (
    Block(3, 1,   16,  False, RE, 1),
    Block(3, 4,   24,  False, RE, 2),
    Block(3, 3,   24,  False, RE, 1),
    Block(5, 3,   40,  True,  RE, 2),
    Block(5, 3,   40,  True,  RE, 1),
    Block(5, 3,   40,  True,  RE, 1),
    Block(3, 6,   80,  False, HS, 2),
    Block(3, 2.5, 80,  False, HS, 1),
    Block(3, 2.3, 80,  False, HS, 1),
    Block(3, 2.3, 80,  False, HS, 1),
    Block(3, 6,   112, True,  HS, 1),
    Block(3, 6,   112, True,  HS, 1),
    Block(5, 6,   160, True,  HS, 2),
    Block(5, 6,   160, True,  HS, 1),
    Block(5, 6,   160, True,  HS, 1),
)
SMALL = (
    Block(3, 1,       16, True,  RE, 2),
    Block(3, 72 / 16, 24, False, RE, 2),
    Block(3, 88 / 24, 24, False, RE, 1),
    Block(5, 4,       40, True,  HS, 2),
    Block(5, 6,       40, True,  HS, 1),
    Block(5, 6,       40, True,  HS, 1),
    Block(5, 3,       48, True,  HS, 1),
    Block(5, 3,       48, True,  HS, 1),
    Block(5, 6,       96, True,  HS, 2),
    Block(5, 6,       96, True,  HS, 1),
    Block(5, 6,       96, True,  HS, 1),
)
# fmt: on


@dataclass(frozen=True)
class Variant:
    """A table of blocks and the width of the last 1x1 convolution.

    `md5` holds the sums of the published ImageNet weights with the top and without, by network.
    """

    name: str
    size: str
    blocks: tuple[Block, ...]
    last: int
    md5: dict[str, tuple[str, str]] = field(default_factory=dict)

    def imagenet(self, alpha: float, minimalistic: bool) -> ImageNet | None:
        form = f"{self.size}{'_minimalistic' * minimalistic}_224_{float(alpha)}_float"
        if form not in self.md5:
            return None
        stem, (top, no_top) = f"mobilenet_v3/weights_mobilenet_v3_{form}", self.md5[form]
        return ImageNet(WeightsFile(f"{stem}.h5", top), WeightsFile(f"{stem}_no_top_v2.h5", no_top))


def _mobilenet_v3(
    variant: Variant,
    alpha: float = 1.0,
    minimalistic: bool = False,
    *,
    dropout_rate: float = 0.2,
    **shared: Unpack[Shared],
) -> keras.Model:
    """Searched inverted residual blocks behind a strided stem."""
    alpha = check_positive("alpha", alpha)
    minimalistic = check_flag("minimalistic", minimalistic)
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    scaffold = Scaffold(
        FAMILY,
        shared,
        name=variant.name.lower() + "_minimalistic" * minimalistic,
        published=variant.imagenet(alpha, minimalistic),
    )
    activation = RE if minimalistic else HS
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv")(
        scaffold.inputs
    )
    x = _bn_act(x, activation, "conv")
    for index, block in enumerate(variant.blocks):
        if minimalistic:
            block = block._replace(kernel=3, squeeze=False, activation=RE)  # noqa: PLW2901
        filters = make_divisible(block.filters * alpha)
        x = _inverted_residual(x, block, filters, f"expanded_conv_{index}".removesuffix("_0"))
    x = layers.Conv2D(make_divisible(6 * x.shape[-1]), 1, use_bias=False, name="conv_1")(x)
    x = _bn_act(x, activation, "conv_1")

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
        x = layers.Conv2D(make_divisible(variant.last * max(alpha, 1)), 1, name="conv_2")(x)
        x = Activation(activation, name="conv_2_act")(x)
        x = layers.Dropout(dropout_rate, name="dropout")(x)
        return scaffold.classify_map(x, name="logits")

    return scaffold.finish(x, top)


def _inverted_residual(x: Any, block: Block, filters: int, name: str) -> Any:
    inputs = x
    expanded = make_divisible(x.shape[-1] * block.expansion)
    if block.expansion != 1:
        x = layers.Conv2D(expanded, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _bn_act(x, block.activation, f"{name}_expand")
    x = DepthwiseConv2D(
        block.kernel, strides=block.stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = _bn_act(x, block.activation, f"{name}_depthwise")
    if block.squeeze:
        x = _squeeze_excite(x, make_divisible(expanded / 4), f"{name}_squeeze_excite")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _bn(x, f"{name}_project")
    if block.stride == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _squeeze_excite(x: Any, squeezed: int, name: str) -> Any:
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_avg_pool")(x)
    gate = layers.Conv2D(squeezed, 1, activation="relu", name=f"{name}_conv")(gate)
    gate = layers.Conv2D(x.shape[-1], 1, activation="hard_sigmoid", name=f"{name}_conv_1")(gate)
    return layers.Multiply(name=f"{name}_mul")([x, gate])


def _bn(x: Any, name: str) -> Any:
    return BatchNormalization(epsilon=1e-3, momentum=0.999, name=f"{name}_bn")(x)


def _bn_act(x: Any, activation: str, name: str) -> Any:
    return Activation(activation, name=f"{name}_act")(_bn(x, name))


# fmt: off
MobileNetV3Small = FAMILY.variant(_mobilenet_v3, Variant("MobileNetV3Small", "small", SMALL, 1024, {
    "small_224_1.0_float":
        ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    "small_224_0.75_float":
        ("cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
    "small_minimalistic_224_1.0_float":
        ("99cd97fb2fcdad2bf028eb838de69e37", "cde8136e733e811080d9fcd8a252f7e4"),
}))
MobileNetV3Large = FAMILY.variant(_mobilenet_v3, Variant("MobileNetV3Large", "large", LARGE, 1280, {
    "large_224_1.0_float":
        ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    "large_224_0.75_float":
        ("765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
    "large_minimalistic_224_1.0_float":
        ("675e7b876c45c57e9e63e6d90a36599c", "ec5221f64a2f6d1ef965a614bdae7973"),
}))
# fmt: on
