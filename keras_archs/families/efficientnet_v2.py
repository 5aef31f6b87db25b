"""EfficientNetV2: plain 3x3 convolutions where depthwise ones are slow, and fewer small kernels.

Tan & Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, table 4 (S); the authors'
code has the others. The early stages fuse the 1x1 expansion and the depthwise convolution into one
3x3 convolution, which trains faster on accelerators although it multiplies more.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers.drop_in.batch_norm import BatchNormalization
from ..preprocessing import TORCH, Preprocessing
from ..registry import Family
from .common.channels import make_divisible
from .common.convolution import drop_rates
from .common.network import Scaffold
from .common.weights import ImageNet, WeightsFile
from .efficientnet import block_name, conv, dense_initializer, gate, residual

FAMILY = Family(
    name="efficientnet_v2",
    paper="Tan & Le 2021, arXiv:2104.00298, table 4",
    preprocessing=Preprocessing(mean=(128.0,), scale=128.0),
    arguments="""
dropout_rate: rate of the dropout before the classifier; that of the authors unless given.
drop_connect_rate: rate at which a residual branch is dropped for an image (stochastic depth); it
    grows linearly over the blocks.
""",
)
# B0 to B3 keep the input range of EfficientNet.
FAMILY_B = dataclasses.replace(FAMILY, name="efficientnet_v2_b", preprocessing=TORCH)
preprocess_input = FAMILY.preprocessing

LAST = 1280
DEPTHWISE = ("{}_dwconv2", "{}_bn", "{}_activation")
_conv = partial(conv, bn=partial(BatchNormalization, momentum=0.9))


class Stage(NamedTuple):
    """A row of table 4; all stages that are not fused have squeeze-and-excitation."""

    fused: bool
    expansion: int
    filters: int
    repeats: int
    stride: int


# fmt: off
BASE = (
    Stage(True,  1, 16,  1, 1),
    Stage(True,  4, 32,  2, 2),
    Stage(True,  4, 48,  2, 2),
    Stage(False, 4, 96,  3, 2),
    Stage(False, 6, 112, 5, 1),
    Stage(False, 6, 192, 8, 2),
)
S = (
    Stage(True,  1, 24,  2,  1),
    Stage(True,  4, 48,  4,  2),
    Stage(True,  4, 64,  4,  2),
    Stage(False, 4, 128, 6,  2),
    Stage(False, 6, 160, 9,  1),
    Stage(False, 6, 256, 15, 2),
)
M = (
    Stage(True,  1, 24,  3,  1),
    Stage(True,  4, 48,  5,  2),
    Stage(True,  4, 80,  5,  2),
    Stage(False, 4, 160, 7,  2),
    Stage(False, 6, 176, 14, 1),
    Stage(False, 6, 304, 18, 2),
    Stage(False, 6, 512, 5,  1),
)
L = (
    Stage(True,  1, 32,  4,  1),
    Stage(True,  4, 64,  7,  2),
    Stage(True,  4, 96,  7,  2),
    Stage(False, 4, 192, 10, 2),
    Stage(False, 6, 224, 19, 1),
    Stage(False, 6, 384, 25, 2),
    Stage(False, 6, 640, 7,  1),
)
XL = (
    Stage(True,  1, 32,  4,  1),
    Stage(True,  4, 64,  8,  2),
    Stage(True,  4, 96,  8,  2),
    Stage(False, 4, 192, 16, 2),
    Stage(False, 6, 256, 24, 1),
    Stage(False, 6, 512, 32, 2),
    Stage(False, 6, 640, 8,  1),
)
# fmt: on


@dataclass(frozen=True)
class Variant:
    """A table of stages and its scale.

    `md5` holds the sums of the published ImageNet weights with the top and without.
    """

    name: str
    stages: tuple[Stage, ...]
    stem: int
    resolution: int
    dropout_rate: float
    width_coefficient: float = 1.0
    depth_coefficient: float = 1.0
    md5: tuple[str, str] | None = None

    def filters(self, filters: int) -> int:
        # Unlike EfficientNet's, this rounding may take more than a tenth away.
        return make_divisible(filters * self.width_coefficient, round_limit=0)

    @property
    def family(self) -> Family:
        return FAMILY_B if self.stages is BASE else FAMILY

    @property
    def imagenet(self) -> ImageNet | None:
        if not self.md5:
            return None
        size = self.name.removeprefix("EfficientNetV2").lower()
        stem = f"efficientnet_v2/efficientnetv2-{size}"
        return ImageNet(
            WeightsFile(f"{stem}.h5", self.md5[0]), WeightsFile(f"{stem}_notop.h5", self.md5[1])
        )


def _efficientnet_v2(
    variant: Variant,
    *,
    dropout_rate: float | None = None,
    drop_connect_rate: float = 0.2,
    **shared: Unpack[Shared],
) -> keras.Model:
    """Fused and depthwise inverted residual blocks."""
    dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    scaffold = Scaffold(
        variant.family,
        shared,
        name=variant.name.lower(),
        top_size=variant.resolution,
        published=variant.imagenet,
    )
    x = _conv(scaffold.inputs, variant.filters(variant.stem), 3, 2, "swish", name="stem")
    # The authors' rate counts the blocks before they are scaled in depth.
    blocks = sum(stage.repeats for stage in variant.stages)
    rates = drop_rates(drop_connect_rate, blocks, start=0)
    for index, stage in enumerate(variant.stages, 1):
        for repeat in range(math.ceil(variant.depth_coefficient * stage.repeats)):
            build = _fused if stage.fused else _inverted_residual
            x = build(
                x,
                variant.filters(stage.filters),
                stage.stride if repeat == 0 else 1,
                stage.expansion,
                next(rates),
                block_name(index, repeat),
            )
    x = _conv(x, variant.filters(LAST), 1, 1, "swish", name="top")

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(dropout_rate, name="top_dropout")(x)
        return scaffold.classify(x, kernel_initializer=dense_initializer())

    return scaffold.finish(x, top)


def _fused(x: Any, filters: int, stride: int, expansion: int, drop_rate: float, name: str) -> Any:
    inputs = x
    if expansion == 1:
        x = _conv(x, filters, 3, stride, "swish", name=f"{name}_project")
    else:
        x = _conv(x, expansion * x.shape[-1], 3, stride, "swish", name=f"{name}_expand")
        x = _conv(x, filters, 1, activation=None, name=f"{name}_project")
    return residual(inputs, x, stride, drop_rate, name)


def _inverted_residual(
    x: Any, filters: int, stride: int, expansion: int, drop_rate: float, name: str
) -> Any:
    inputs, channels = x, x.shape[-1]
    x = _conv(x, expansion * channels, 1, 1, "swish", name=f"{name}_expand")
    x = _conv(x, None, 3, stride, "swish", name=name, names=DEPTHWISE)
    x = gate(x, max(1, channels // 4), name)
    x = _conv(x, filters, 1, activation=None, name=f"{name}_project")
    return residual(inputs, x, stride, drop_rate, name)


# fmt: off
EfficientNetV2B0 = FAMILY_B.variant(_efficientnet_v2, Variant(
    "EfficientNetV2B0", BASE, 32, 224, 0.2, 1.0, 1.0,
    md5=("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff")))
EfficientNetV2B1 = FAMILY_B.variant(_efficientnet_v2, Variant(
    "EfficientNetV2B1", BASE, 32, 240, 0.2, 1.0, 1.1,
    md5=("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37")))
EfficientNetV2B2 = FAMILY_B.variant(_efficientnet_v2, Variant(
    "EfficientNetV2B2", BASE, 32, 260, 0.3, 1.1, 1.2,
    md5=("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb")))
EfficientNetV2B3 = FAMILY_B.variant(_efficientnet_v2, Variant(
    "EfficientNetV2B3", BASE, 32, 300, 0.3, 1.2, 1.4,
    md5=("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856")))
EfficientNetV2S = FAMILY.variant(_efficientnet_v2, Variant(
    "EfficientNetV2S", S, 24, 384, 0.2,
    md5=("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070")))
EfficientNetV2M = FAMILY.variant(_efficientnet_v2, Variant(
    "EfficientNetV2M", M, 24, 480, 0.3,
    md5=("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342")))
EfficientNetV2L = FAMILY.variant(_efficientnet_v2, Variant(
    "EfficientNetV2L", L, 32, 480, 0.4,
    md5=("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615")))
EfficientNetV2XL = FAMILY.variant(_efficientnet_v2, Variant(
    "EfficientNetV2XL", XL, 32, 512, 0.4))
# fmt: on
