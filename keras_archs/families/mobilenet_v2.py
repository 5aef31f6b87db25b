"""MobileNetV2: inverted residuals between linear bottlenecks.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2. A
thin map is expanded six times by a 1x1 convolution, filtered channel by channel, and projected
back without an activation, which would destroy information in so few channels. The skip
connection joins the thin maps.
"""

from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_positive
from ..layers.activation import Activation
from ..layers.batch_norm import BatchNormalization
from ..layers.depthwise import DepthwiseConv2D
from ..preprocessing import TF
from ..registry import Family
from ..rounding import make_divisible
from ..scaffold import Scaffold
from ..weights import ImageNet, WeightsFile

FAMILY = Family(
    name="mobilenet_v2",
    paper="Sandler et al. 2018, arXiv:1801.04381, table 2",
    preprocessing=TF,
    first=("input_shape",),
    arguments="""
alpha: width multiplier; the filters of each layer are `alpha * filters`, rounded to a multiple of
    8. 1.4, 1, 0.75, 0.5 and 0.35 in the paper. The last convolution keeps its 1280 filters below
    an alpha of 1.
""",
)
preprocess_input = FAMILY.preprocessing

STEM, LAST = 32, 1280
# t (expansion), c (channels), n (repeats), s (stride of the first), the columns of table 2
TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
PUBLISHED_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
PUBLISHED_SIZES = (224, 192, 160, 128, 96)


@FAMILY.register
def MobileNetV2(alpha: float = 1.0, **shared: Unpack[Shared]) -> keras.Model:
    """MobileNetV2. Seventeen inverted residual blocks."""
    alpha = check_positive("alpha", alpha)
    shape = shared["input_shape"]
    side = shape[0] if shape and shape[0] == shape[1] and shape[0] else FAMILY.size
    scaffold = Scaffold(
        FAMILY, shared, name=f"mobilenetv2_{alpha:.2f}_{side}", published=_imagenet(alpha, side)
    )
    x = layers.Conv2D(
        make_divisible(STEM * alpha), 3, strides=2, padding="same", use_bias=False, name="Conv1"
    )(scaffold.inputs)
    x = _bn(x, "bn_Conv1")
    x = Activation("relu6", name="Conv1_relu")(x)

    block = 0
    for expansion, channels, repeats, stride in TABLE:
        filters = make_divisible(int(channels * alpha))
        for repeat in range(repeats):
            name = f"block_{block}" if block else "expanded_conv"
            x = _inverted_residual(x, filters, stride if repeat == 0 else 1, expansion, name)
            block += 1

    last = make_divisible(LAST * max(alpha, 1))
    x = layers.Conv2D(last, 1, use_bias=False, name="Conv_1")(x)
    x = _bn(x, "Conv_1_bn")
    x = Activation("relu6", name="out_relu")(x)
    return scaffold.finish(x)


def _inverted_residual(x: Any, filters: int, stride: int, expansion: int, name: str) -> Any:
    inputs = x
    if expansion > 1:
        x = layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False, name=f"{name}_expand")(x)
        x = _bn(x, f"{name}_expand_BN")
        x = Activation("relu6", name=f"{name}_expand_relu")(x)
    x = DepthwiseConv2D(
        3, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = _bn(x, f"{name}_depthwise_BN")
    x = Activation("relu6", name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _bn(x, f"{name}_project_BN")
    if inputs.shape[-1] == filters and stride == 1:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _bn(x: Any, name: str) -> Any:
    return BatchNormalization(epsilon=1e-3, momentum=0.999, name=name)(x)


def _imagenet(alpha: float, side: int) -> ImageNet | None:
    if alpha not in PUBLISHED_ALPHAS:
        return None
    side = side if side in PUBLISHED_SIZES else FAMILY.size
    stem = "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels"
    stem = f"{stem}_{float(alpha)}_{side}"
    return ImageNet(WeightsFile(f"{stem}.h5"), WeightsFile(f"{stem}_no_top.h5"))
