"""EfficientNet: one searched network, scaled in depth, width and resolution together.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
table 1 (B0). Its blocks are MobileNetV2's with squeeze-and-excitation and swish.

The paper scales by powers of alpha, beta and gamma. The networks that its authors released, B0 to
B7, have coefficients near those powers but not equal to them; `compound_scaling` gives both.

EfficientNet-Lite is the authors' form for quantised inference: no squeeze-and-excitation, ReLU6,
and a stem, a head, a first and a last stage that are not scaled.
"""

import bisect
import dataclasses
import functools
import math
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import (
    Shared,
    check_flag,
    check_number,
    check_positive,
    check_positive_int,
    check_rate,
)
from ..errors import InputError
from ..layers.activation import Activation
from ..layers.batch_norm import BatchNormalization
from ..layers.depthwise import DepthwiseConv2D
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import TORCH, Preprocessing
from ..registry import Family
from ..rounding import make_divisible
from ..scaffold import Scaffold
from ..weights import ImageNet, WeightsFile

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

# Made anew for each layer: an initializer draws its seed when it is made, and would draw it before
# anybody can set one, and the same for all layers of a shape.
_SCALED = keras.initializers.VarianceScaling
conv_initializer = functools.partial(_SCALED, 2.0, mode="fan_out", distribution="truncated_normal")
dense_initializer = functools.partial(_SCALED, 1 / 3, mode="fan_out", distribution="uniform")


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
        files = (f"{self.name.lower()}{suffix}.h5" for suffix in ("", "_notop"))
        top, no_top = (
            WeightsFile(path, md5, folder="keras-applications", without="normalization")
            for path, md5 in zip(files, self.md5, strict=True)
        )
        return ImageNet(top, no_top)

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
    x = scaffold.inputs
    x = conv(x, variant.end_filters(STEM), 3, stride=2, name="stem_conv")
    x = bn_act(x, activation, "stem_bn", "stem_activation")

    block, blocks = 0, sum(variant.repeats)
    for index, (stage, repeats) in enumerate(zip(STAGES, variant.repeats, strict=True), 1):
        scaled = stage._replace(filters=variant.filters(stage.filters))
        for repeat in range(repeats):
            x = _inverted_residual(
                x,
                scaled if repeat == 0 else scaled._replace(stride=1),
                activation,
                squeeze=not variant.lite,
                drop_rate=drop_connect_rate * block / blocks,
                name=block_name(index, repeat),
            )
            block += 1

    x = conv(x, variant.end_filters(LAST), 1, name="top_conv")
    x = bn_act(x, activation, "top_bn", "top_activation")

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
        x = conv(x, stage.expansion * channels, 1, name=f"{name}_expand_conv")
        x = bn_act(x, activation, f"{name}_expand_bn", f"{name}_expand_activation")
    x = DepthwiseConv2D(
        stage.kernel,
        strides=stage.stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=conv_initializer(),
        name=f"{name}_dwconv",
    )(x)
    x = bn_act(x, activation, f"{name}_bn", f"{name}_activation")
    if squeeze:
        # The ratio of 1/4 is of the block's input, not of the expanded map.
        x = squeeze_excite(x, max(1, channels // 4), activation, f"{name}_se")
    x = conv(x, stage.filters, 1, name=f"{name}_project_conv")
    x = BatchNormalization(name=f"{name}_project_bn")(x)
    return residual(inputs, x, stage.stride, drop_rate, name)


def block_name(stage: int, repeat: int) -> str:
    """block1a, block1b and so on, as in keras.applications; behind block1z comes block1aa."""
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


def squeeze_excite(x: Any, squeezed: int, activation: str, name: str) -> Any:
    """Gates the channels by what the whole map holds."""
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    gate = layers.Conv2D(
        squeezed,
        1,
        activation=activation,
        kernel_initializer=conv_initializer(),
        name=f"{name}_reduce",
    )(gate)
    gate = layers.Conv2D(
        x.shape[-1],
        1,
        activation="sigmoid",
        kernel_initializer=conv_initializer(),
        name=f"{name}_expand",
    )(gate)
    return layers.Multiply(name=f"{name}_excite")([x, gate])


def conv(x: Any, filters: int, kernel: int, *, name: str, stride: int = 1) -> Any:
    """A "same" convolution without bias, for a batch norm to follow."""
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=conv_initializer(),
        name=name,
    )(x)


def bn_act(x: Any, activation: str, bn_name: str, name: str, momentum: float = 0.99) -> Any:
    """Batch norm and activation."""
    x = BatchNormalization(momentum=momentum, name=bn_name)(x)
    return Activation(activation, name=name)(x)


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
(EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3, EfficientNetB4, EfficientNetB5,
 EfficientNetB6, EfficientNetB7) = (FAMILY.variant(_efficientnet, row) for row in RELEASED)
EfficientNetLite0, EfficientNetLite1, EfficientNetLite2, EfficientNetLite3, EfficientNetLite4 = (
    LITE.variant(_efficientnet, row) for row in (
        Variant("EfficientNetLite0", 1.0, 1.0, 224, 0.2, lite=True),
        Variant("EfficientNetLite1", 1.0, 1.1, 240, 0.2, lite=True),
        Variant("EfficientNetLite2", 1.1, 1.2, 260, 0.3, lite=True),
        Variant("EfficientNetLite3", 1.2, 1.4, 280, 0.3, lite=True),
        Variant("EfficientNetLite4", 1.4, 1.8, 300, 0.3, lite=True),
    )
)
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


# The phi at which the paper's rule comes nearest to each released network.
PHI = (0, 0.5, 1, 2, 3.5, 5, 6, 7)


@dataclass(frozen=True)
class Scaling:
    """What `EfficientNet` takes; `width_coefficient` and `depth_coefficient` scale B0."""

    width_coefficient: float
    depth_coefficient: float
    resolution: int
    dropout_rate: float


def compound_scaling(
    phi: float,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    *,
    released: bool = True,
) -> Scaling:
    """Coefficients for a network that costs about 2**phi times B0.

    B0 to B7 stand at phi = 0, 0.5, 1, 2, 3.5, 5, 6 and 7. Their released coefficients do not
    follow the powers (B7 has depth 3.1, not 1.2**7 = 3.58), hence the two answers.

    Args:
        phi: compound coefficient, 0 to 7 for the released table and any for the powers.
        alpha, beta, gamma: bases of depth, width and resolution; those of the paper by default.
            Others have no released table.
        released: whether to give the released coefficients, linearly interpolated between two
            networks and with the resolution rounded to a multiple of 4, or the paper's powers
            `alpha**phi`, `beta**phi` and `224 * gamma**phi`. The dropout is that of the table.

    Returns:
        `EfficientNet(**dataclasses.asdict(scaling))` builds the network.

    Raises:
        ValueError: phi lies outside the released table, or the bases are not the paper's.

    Source: Tan & Le 2019, equation 3, and the authors' table of coefficients.
    """
    alpha, beta, gamma = (
        check_positive(name, base)
        for name, base in {"alpha": alpha, "beta": beta, "gamma": gamma}.items()
    )
    phi = check_number("phi", phi)
    released = check_flag("released", released)
    if released and (alpha, beta, gamma) != (1.2, 1.1, 1.15):
        raise InputError(
            f"alpha={alpha}, beta={beta}, gamma={gamma} have no released networks; allowed with"
            " released=True are 1.2, 1.1 and 1.15."
        )
    if released and not PHI[0] <= phi <= PHI[-1]:
        raise InputError(
            f"phi must lie in 0..{PHI[-1]} (B0 to B7), got {phi!r}; released=False takes any."
        )
    inside = min(max(phi, PHI[0]), PHI[-1])
    row = min(bisect.bisect_right(PHI, inside) - 1, len(PHI) - 2)
    share = (inside - PHI[row]) / (PHI[row + 1] - PHI[row])

    def between(field: str) -> float:
        low, high = (getattr(variant, field) for variant in RELEASED[row : row + 2])
        return round(low + share * (high - low), 6)

    dropout = between("dropout_rate")
    if not released:
        try:
            side = max(FAMILY.min_size, round(FAMILY.size * gamma**phi))
            return Scaling(beta**phi, alpha**phi, side, dropout)
        except OverflowError as error:
            raise InputError(f"phi={phi!r} gives coefficients without bound.") from error
    return Scaling(
        between("width_coefficient"),
        between("depth_coefficient"),
        4 * round(between("resolution") / 4),
        dropout,
    )
