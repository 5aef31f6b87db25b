"""EfficientNet: one searched network, scaled in depth, width and resolution together.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
table 1 (B0). Its blocks are MobileNetV2's with squeeze-and-excitation and swish.

The paper scales by powers of alpha, beta and gamma. The networks that its authors released, B0 to
B7, have coefficients near those powers but not equal to them; `compound_scaling` gives both.

EfficientNet-Lite is the authors' form for quantised inference: no squeeze-and-excitation, ReLU6,
and a stem, a head, a first and a last stage that are not scaled.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase
from typing import Any, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_positive, check_positive_int, check_rate
from ..errors import InputError
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import TORCH, Preprocessing
from ..registry import Family
from .common.channels import make_divisible
from .common.convolution import conv_bn_act, drop_rates, squeeze_excite
from .common.network import Scaffold
from .common.weights import ImageNet, WeightsFile

FAMILY = Family(
    name="efficientnet",
    paper="Tan & Le 2019, arXiv:1905.11946, table 1 and section 3.3",
    preprocessing=TORCH,
    arguments="""
dropout_rate: rate of the dropout before the classifier; that of the released network unless given.
drop_connect_rate: rate at which the last block's residual branch is dropped for an image
    (stochastic depth); it grows linearly from 0 at the first block.
""",
)
LITE = dataclasses.replace(
    FAMILY, name="efficientnet_lite", preprocessing=Preprocessing(mean=(127.0,), scale=128.0)
)
preprocess_input = FAMILY.preprocessing

_SCALED = keras.initializers.VarianceScaling
conv_initializer = partial(_SCALED, 2.0, mode="fan_out", distribution="truncated_normal")
dense_initializer = partial(_SCALED, 1 / 3, mode="fan_out", distribution="uniform")

conv = partial(
    conv_bn_act,
    names=("{}_conv", "{}_bn", "{}_activation"),
    padding="same",
    initializer=conv_initializer,
)
DEPTHWISE = ("{}_dwconv", "{}_bn", "{}_activation")


class Stage(NamedTuple):
    """A row of table 1."""

    expansion: int
    kernel: int
    filters: int
    repeats: int
    stride: int


# fmt: off
STEM, LAST = 32, 1280
STAGES = (
    Stage(1, 3, 16,  1, 1),
    Stage(6, 3, 24,  2, 2),
    Stage(6, 5, 40,  2, 2),
    Stage(6, 3, 80,  3, 2),
    Stage(6, 5, 112, 3, 1),
    Stage(6, 5, 192, 4, 2),
    Stage(6, 3, 320, 1, 1),
)
# fmt: on


@dataclass(frozen=True)
class Variant:
    """Coefficients of one network: a row of the released table.

    `md5` holds the sums of the published ImageNet weights with the top and without.
    """

    name: str
    width_coefficient: float
    depth_coefficient: float
    resolution: int
    dropout_rate: float
    lite: bool = False
    md5: tuple[str, str] | None = None

    @property
    def imagenet(self) -> ImageNet | None:
        if not self.md5:
            return None
        file = partial(WeightsFile, folder="keras-applications", without="normalization")
        stem, (top, no_top) = self.name.lower(), self.md5
        return ImageNet(file(f"{stem}.h5", top), file(f"{stem}_notop.h5", no_top))

    def filters(self, filters: int) -> int:
        return make_divisible(filters * self.width_coefficient)

    def end_filters(self, filters: int) -> int:
        return filters if self.lite else self.filters(filters)

    @property
    def repeats(self) -> list[int]:
        scaled = [math.ceil(self.depth_coefficient * stage.repeats) for stage in STAGES]
        return [1, *scaled[1:-1], 1] if self.lite else scaled


def _efficientnet(
    variant: Variant,
    *,
    dropout_rate: float | None = None,
    drop_connect_rate: float = 0.2,
    **shared: Unpack[Shared],
) -> keras.Model:
    """Seven stages of inverted residual blocks."""
    dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    scaffold = Scaffold(
        LITE if variant.lite else FAMILY,
        shared,
        name=variant.name.lower(),
        top_size=variant.resolution,
        published=variant.imagenet,
    )
    activation = "relu6" if variant.lite else "swish"
    x = conv(scaffold.inputs, variant.end_filters(STEM), 3, 2, activation, name="stem")
    rates = drop_rates(drop_connect_rate, sum(variant.repeats), start=0)
    for index, (stage, repeats) in enumerate(zip(STAGES, variant.repeats, strict=True), 1):
        scaled = stage._replace(filters=variant.filters(stage.filters))
        for repeat in range(repeats):
            x = _inverted_residual(
                x,
                scaled if repeat == 0 else scaled._replace(stride=1),
                activation,
                squeeze=not variant.lite,
                drop_rate=next(rates),
                name=block_name(index, repeat),
            )
    x = conv(x, variant.end_filters(LAST), 1, 1, activation, name="top")

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(dropout_rate, name="top_dropout")(x)
        return scaffold.classify(x, kernel_initializer=dense_initializer())

    return scaffold.finish(x, top)


def _inverted_residual(
    x: Any, stage: Stage, activation: str, squeeze: bool, drop_rate: float, name: str
) -> Any:
    inputs, channels = x, x.shape[-1]
    if stage.expansion > 1:
        x = conv(x, stage.expansion * channels, 1, 1, activation, name=f"{name}_expand")
    x = conv(x, None, stage.kernel, stage.stride, activation, name=name, names=DEPTHWISE)
    if squeeze:
        # The ratio of 1/4 is of the block's input, not of the expanded map.
        x = gate(x, max(1, channels // 4), name)
    x = conv(x, stage.filters, 1, activation=None, name=f"{name}_project")
    return residual(inputs, x, stage.stride, drop_rate, name)


def block_name(stage: int, repeat: int) -> str:
    """block1a, block1b and so on, as in keras.applications; after block1z comes block1aa."""
    letters = ""
    while repeat >= 0:
        letters = ascii_lowercase[repeat % 26] + letters
        repeat = repeat // 26 - 1
    return f"block{stage}{letters}"


def residual(inputs: Any, x: Any, stride: int, drop_rate: float, name: str) -> Any:
    """The skip connection with stochastic depth, where the two maps fit."""
    if stride > 1 or inputs.shape[-1] != x.shape[-1]:
        return x
    return layers.Add(name=f"{name}_add")([stochastic_depth(x, drop_rate, name), inputs])


def gate(x: Any, filters: int, name: str) -> Any:
    """Squeeze-and-excitation."""
    names = [f"{name}_se_{part}" for part in ("squeeze", "reduce", "expand", "excite")]
    return squeeze_excite(x, filters, "swish", "sigmoid", names=names, initializer=conv_initializer)


# fmt: off
RELEASED = (
    Variant("EfficientNetB0", 1.0, 1.0, 224, 0.2,
            md5=("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d")),
    Variant("EfficientNetB1", 1.0, 1.1, 240, 0.2,
            md5=("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432")),
    Variant("EfficientNetB2", 1.1, 1.2, 260, 0.3,
            md5=("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39")),
    Variant("EfficientNetB3", 1.2, 1.4, 300, 0.3,
            md5=("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226")),
    Variant("EfficientNetB4", 1.4, 1.8, 380, 0.4,
            md5=("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba")),
    Variant("EfficientNetB5", 1.6, 2.2, 456, 0.4,
            md5=("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f")),
    Variant("EfficientNetB6", 1.8, 2.6, 528, 0.5,
            md5=("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743")),
    Variant("EfficientNetB7", 2.0, 3.1, 600, 0.5,
            md5=("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a")),
)
EfficientNetB0 = FAMILY.variant(_efficientnet, RELEASED[0])
EfficientNetB1 = FAMILY.variant(_efficientnet, RELEASED[1])
EfficientNetB2 = FAMILY.variant(_efficientnet, RELEASED[2])
EfficientNetB3 = FAMILY.variant(_efficientnet, RELEASED[3])
EfficientNetB4 = FAMILY.variant(_efficientnet, RELEASED[4])
EfficientNetB5 = FAMILY.variant(_efficientnet, RELEASED[5])
EfficientNetB6 = FAMILY.variant(_efficientnet, RELEASED[6])
EfficientNetB7 = FAMILY.variant(_efficientnet, RELEASED[7])

EfficientNetLite0 = LITE.variant(_efficientnet, Variant(
    "EfficientNetLite0", 1.0, 1.0, 224, 0.2, lite=True))
EfficientNetLite1 = LITE.variant(_efficientnet, Variant(
    "EfficientNetLite1", 1.0, 1.1, 240, 0.2, lite=True))
EfficientNetLite2 = LITE.variant(_efficientnet, Variant(
    "EfficientNetLite2", 1.1, 1.2, 260, 0.3, lite=True))
EfficientNetLite3 = LITE.variant(_efficientnet, Variant(
    "EfficientNetLite3", 1.2, 1.4, 280, 0.3, lite=True))
EfficientNetLite4 = LITE.variant(_efficientnet, Variant(
    "EfficientNetLite4", 1.4, 1.8, 300, 0.3, lite=True))
# fmt: on


ANY_SIZE = dataclasses.replace(
    FAMILY,
    arguments="""
width_coefficient: factor of the filters of each layer, rounded to a multiple of 8.
depth_coefficient: factor of the number of blocks in each stage, rounded up.
resolution: default height and width in pixels with the top.
"""
    + FAMILY.arguments.lstrip(),
)


@ANY_SIZE.register
def EfficientNet(
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    resolution: int = 224,
    *,
    dropout_rate: float = 0.2,
    drop_connect_rate: float = 0.2,
    **shared: Unpack[Shared],
) -> keras.Model:
    """EfficientNet of any size: B0 with its width, depth and default resolution scaled.

    `EfficientNet(1.8, 2.6, 528)` is B6; `compound_scaling` gives coefficients for any phi.
    """
    resolution = check_positive_int("resolution", resolution)
    if resolution < FAMILY.min_size:
        raise InputError(f"resolution must be at least {FAMILY.min_size}, got {resolution}.")
    row = Variant(
        "EfficientNet",
        check_positive("width_coefficient", width_coefficient),
        check_positive("depth_coefficient", depth_coefficient),
        resolution,
        check_rate("dropout_rate", dropout_rate),
    )
    return _efficientnet(row, drop_connect_rate=drop_connect_rate, **shared)
