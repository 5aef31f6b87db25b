"""CoAtNet: convolutions while the map is large, attention once it is small.

Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", NeurIPS 2021, table 3
and appendix A.1. What the paper leaves open (the hidden layer of the classifier, the kind of the
pooling) is as in timm.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_rate
from ..layers import MultiHeadSelfAttention2D, SqueezeExcite
from ..layers.drop_in.batch_norm import BatchNormalization
from ..layers.stochastic_depth import stochastic_depth
from ..preprocessing import TF
from ..registry import Family
from .common.convolution import conv2d, conv_bn_act, drop_rates
from .common.network import Scaffold

FAMILY = Family(
    name="coatnet",
    paper="Dai et al. 2021, arXiv:2106.04803, table 3",
    preprocessing=TF,
    arguments="""
drop_connect_rate: rate at which the last block's residual branch is dropped for an image
    (stochastic depth); it grows linearly with the block. The paper uses 0.2 to 0.7.
""",
)
preprocess_input = FAMILY.preprocessing

HEAD_DIM = 32
EXPANSION = 4
DEPTHWISE = ("{}", "{}_bn", "{}_act")
BN = partial(BatchNormalization, momentum=0.9, epsilon=1e-5)
_conv = partial(conv_bn_act, activation="gelu", bn=BN, names=("{}_conv", "{}_bn", "{}_act"))


@dataclass(frozen=True)
class Variant:
    """A column of table 3: filters of the stem, then blocks and filters of the four stages."""

    name: str
    stem: int
    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]


def _coatnet(
    variant: Variant, *, drop_connect_rate: float = 0.0, **shared: Unpack[Shared]
) -> keras.Model:
    """Two stages of inverted residuals and two of self-attention with relative positions."""
    drop_connect_rate = check_rate("drop_connect_rate", drop_connect_rate)
    scaffold = Scaffold(FAMILY, shared, name=variant.name.lower(), static="always")
    x = _conv(scaffold.inputs, variant.stem, 3, 2, name="stem1")
    x = conv2d(x, variant.stem, 3, name="stem2")
    rates = drop_rates(drop_connect_rate, sum(variant.depths))
    for stage, (depth, width) in enumerate(zip(variant.depths, variant.widths, strict=True), 1):
        build = _inverted_residual if stage <= 2 else _transformer
        for block in range(1, depth + 1):
            name = f"stage{stage}_block{block}"
            x = build(x, width, 2 if block == 1 else 1, next(rates), name)

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.LayerNormalization(epsilon=1e-6, name="head_norm")(x)
        x = layers.Dense(x.shape[-1], activation="tanh", name="head")(x)
        return scaffold.classify(x)

    return scaffold.finish(x, top)


def _inverted_residual(x: Any, width: int, stride: int, rate: float, name: str) -> Any:
    shortcut = _shortcut(x, width, stride, name)
    x = BN(name=f"{name}_preact_bn")(x)
    x = _conv(x, EXPANSION * width, 1, stride, name=f"{name}_expand")
    x = _conv(x, None, 3, names=DEPTHWISE, name=f"{name}_depthwise")
    x = SqueezeExcite(squeezed_channels=width // 4, activation="swish", name=f"{name}_se")(x)
    x = layers.Conv2D(width, 1, name=f"{name}_project")(x)
    return layers.Add(name=f"{name}_add")([shortcut, stochastic_depth(x, rate, name)])


def _transformer(x: Any, width: int, stride: int, rate: float, name: str) -> Any:
    shortcut = _shortcut(x, width, stride, name)
    x = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    if stride > 1:
        x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(x)
    x = MultiHeadSelfAttention2D(
        num_heads=width // HEAD_DIM,
        value_dim=HEAD_DIM,
        position="bias",
        use_bias=True,
        output_dim=width,
        name=f"{name}_attention",
    )(x)
    x = stochastic_depth(x, rate, f"{name}_attention")
    shortcut = x = layers.Add(name=f"{name}_attention_add")([shortcut, x])
    x = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    x = layers.Dense(EXPANSION * width, activation="gelu", name=f"{name}_mlp1")(x)
    x = layers.Dense(width, name=f"{name}_mlp2")(x)
    return layers.Add(name=f"{name}_add")([shortcut, stochastic_depth(x, rate, f"{name}_mlp")])


def _shortcut(x: Any, width: int, stride: int, name: str) -> Any:
    if stride == 1:
        return x
    x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(x)
    return x if x.shape[-1] == width else layers.Conv2D(width, 1, name=f"{name}_shortcut")(x)


# fmt: off
CoAtNet0 = FAMILY.variant(_coatnet, Variant("CoAtNet0", 64,  (2, 3, 5, 2),   (96, 192, 384, 768)))
CoAtNet1 = FAMILY.variant(_coatnet, Variant("CoAtNet1", 64,  (2, 6, 14, 2),  (96, 192, 384, 768)))
CoAtNet2 = FAMILY.variant(_coatnet, Variant("CoAtNet2", 128, (2, 6, 14, 2),  (128, 256, 512, 1024)))
CoAtNet3 = FAMILY.variant(_coatnet, Variant("CoAtNet3", 192, (2, 6, 14, 2),  (192, 384, 768, 1536)))
CoAtNet4 = FAMILY.variant(_coatnet, Variant("CoAtNet4", 192, (2, 12, 28, 2), (192, 384, 768, 1536)))
# fmt: on
