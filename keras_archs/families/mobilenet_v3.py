"""MobileNetV3: searched blocks with squeeze-and-excitation and hard-swish.

Howard et al., "Searching for MobileNetV3", ICCV 2019, tables 1 and 2. Inverted residuals as in
MobileNetV2; a search chose kernels and widths, and the expensive ends of the network were
redesigned by hand. `minimalistic` is the authors' form for hardware that is slow at anything but
3x3 kernels and ReLU.

Without the top, the features end before the last 1x1 convolution, which comes after the pooling.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import Shape, Shared, SharedButShape, check_flag, check_positive, check_rate
from ..layers.drop_in.activation import Activation
from ..layers.drop_in.batch_norm import BatchNormalization
from ..preprocessing import TF
from ..registry import Family
from .common.channels import make_divisible
from .common.convolution import conv_bn_act, squeeze_excite
from .common.network import Scaffold
from .common.weights import ImageNet, WeightsFile

FAMILY = Family(
    name="mobilenet_v3",
    paper="Howard et al. 2019, arXiv:1905.02244, tables 1 and 2",
    preprocessing=TF,
    arguments="""
alpha: width multiplier; the filters of each layer are `alpha * filters`, rounded to a multiple of
    8. 1 and 0.75 in the paper. The last convolution keeps its filters below an alpha of 1.
minimalistic: whether to use 3x3 kernels and ReLU alone, without squeeze-and-excitation.
dropout_rate: rate of the dropout before the classifier.
""",
)
preprocess_input = FAMILY.preprocessing


class Block(NamedTuple):
    """A row of table 1 or 2: kernel, exp size, #out, SE, NL and s."""

    kernel: int
    exp_size: int
    filters: int
    squeeze: bool
    activation: str
    stride: int


STEM = 16
HS, RE = "hard_swish", "relu"
# fmt: off
LARGE = (
    Block(3, 16,  16,  False, RE, 1),
    Block(3, 64,  24,  False, RE, 2),
    Block(3, 72,  24,  False, RE, 1),
    Block(5, 72,  40,  True,  RE, 2),
    Block(5, 120, 40,  True,  RE, 1),
    Block(5, 120, 40,  True,  RE, 1),
    Block(3, 240, 80,  False, HS, 2),
    Block(3, 200, 80,  False, HS, 1),
    Block(3, 184, 80,  False, HS, 1),
    Block(3, 184, 80,  False, HS, 1),
    Block(3, 480, 112, True,  HS, 1),
    Block(3, 672, 112, True,  HS, 1),
    Block(5, 672, 160, True,  HS, 2),
    Block(5, 960, 160, True,  HS, 1),
    Block(5, 960, 160, True,  HS, 1),
)
SMALL = (
    Block(3, 16,  16, True,  RE, 2),
    Block(3, 72,  24, False, RE, 2),
    Block(3, 88,  24, False, RE, 1),
    Block(5, 96,  40, True,  HS, 2),
    Block(5, 240, 40, True,  HS, 1),
    Block(5, 240, 40, True,  HS, 1),
    Block(5, 120, 48, True,  HS, 1),
    Block(5, 144, 48, True,  HS, 1),
    Block(5, 288, 96, True,  HS, 2),
    Block(5, 576, 96, True,  HS, 1),
    Block(5, 576, 96, True,  HS, 1),
)
# fmt: on

_conv = partial(
    conv_bn_act,
    bn=partial(BatchNormalization, epsilon=1e-3, momentum=0.999),
    names=("{}", "{}_bn", "{}_act"),
    padding="valid",
)


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
    input_shape: Shape | None = None,
    alpha: float = 1.0,
    minimalistic: bool = False,
    *,
    dropout_rate: float = 0.2,
    **shared: Unpack[SharedButShape],
) -> keras.Model:
    """Searched inverted residual blocks after a strided stem."""
    alpha = check_positive("alpha", alpha)
    minimalistic = check_flag("minimalistic", minimalistic)
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    scaffold = Scaffold(
        FAMILY,
        Shared(input_shape=input_shape, **shared),
        name=variant.name.lower() + "_minimalistic" * minimalistic,
        published=variant.imagenet(alpha, minimalistic),
    )
    activation = RE if minimalistic else HS
    x = _conv(scaffold.inputs, STEM, 3, 2, activation, padding="same", name="conv")
    channels = STEM
    for index, block in enumerate(variant.blocks):
        # The tables hold for alpha = 1. The ratio to the block's input holds for any alpha.
        expansion, channels = block.exp_size / channels, block.filters
        if minimalistic:
            block = block._replace(kernel=3, squeeze=False, activation=RE)  # noqa: PLW2901
        filters = make_divisible(block.filters * alpha)
        name = f"expanded_conv_{index}" if index else "expanded_conv"
        x = _inverted_residual(x, block, expansion, filters, name)
    x = _conv(x, make_divisible(6 * x.shape[-1]), 1, 1, activation, name="conv_1")

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
        x = layers.Conv2D(make_divisible(variant.last * max(alpha, 1)), 1, name="conv_2")(x)
        x = Activation(activation, name="conv_2_act")(x)
        x = layers.Dropout(dropout_rate, name="dropout")(x)
        return scaffold.classify_map(x, name="logits")

    return scaffold.finish(x, top)


def _inverted_residual(x: Any, block: Block, expansion: float, filters: int, name: str) -> Any:
    inputs, act = x, block.activation
    expanded = make_divisible(x.shape[-1] * expansion)
    if expansion != 1:
        x = _conv(x, expanded, 1, 1, act, name=f"{name}_expand")
    x = _conv(x, None, block.kernel, block.stride, act, name=f"{name}_depthwise", padding="same")
    if block.squeeze:
        names = [f"{name}_squeeze_excite_{part}" for part in ("avg_pool", "conv", "conv_1", "mul")]
        x = squeeze_excite(x, make_divisible(expanded / 4), "relu", "hard_sigmoid", names=names)
    x = _conv(x, filters, 1, activation=None, name=f"{name}_project")
    if block.stride == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


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
