"""MobileNetV2: inverted residuals between linear bottlenecks.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2. A
thin map is expanded six times by a 1x1 convolution, filtered channel by channel, and projected
back without an activation, which would destroy information in so few channels. The skip
connection joins the thin maps.
"""

from functools import partial
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shape, Shared, SharedButShape, check_positive
from ..layers.drop_in.batch_norm import BatchNormalization
from ..preprocessing import TF
from ..registry import Family
from .common.channels import make_divisible
from .common.convolution import conv_bn_act
from .common.network import Scaffold
from .common.weights import ImageNet, WeightsFile

FAMILY = Family(
    name="mobilenet_v2",
    paper="Sandler et al. 2018, arXiv:1801.04381, table 2",
    preprocessing=TF,
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


_conv = partial(
    conv_bn_act,
    bn=partial(BatchNormalization, epsilon=1e-3, momentum=0.999),
    names=("{}", "{}_BN", "{}_relu"),
    padding="valid",
)


@FAMILY.register
def MobileNetV2(
    input_shape: Shape | None = None, alpha: float = 1.0, **shared: Unpack[SharedButShape]
) -> keras.Model:
    """MobileNetV2. Seventeen inverted residual blocks."""
    alpha = check_positive("alpha", alpha)
    height, width, _ = input_shape or (None, None, 3)
    side = height if height == width and height else FAMILY.size
    scaffold = Scaffold(
        FAMILY,
        Shared(input_shape=input_shape, **shared),
        name=f"mobilenetv2_{alpha:.2f}_{side}",
        published=_imagenet(alpha, side),
    )
    stem, names = make_divisible(STEM * alpha), ("Conv1", "bn_Conv1", "Conv1_relu")
    x = _conv(scaffold.inputs, stem, 3, 2, "relu6", name="", names=names, padding="same")

    block = 0
    for expansion, channels, repeats, stride in TABLE:
        filters = make_divisible(int(channels * alpha))
        for repeat in range(repeats):
            name = f"block_{block}" if block else "expanded_conv"
            x = _inverted_residual(x, filters, stride if repeat == 0 else 1, expansion, name)
            block += 1

    last, names = make_divisible(LAST * max(alpha, 1)), ("Conv_1", "Conv_1_bn", "out_relu")
    return scaffold.finish(_conv(x, last, 1, 1, "relu6", name="", names=names))


def _inverted_residual(x: Any, filters: int, stride: int, expansion: int, name: str) -> Any:
    inputs = x
    if expansion > 1:
        x = _conv(x, expansion * x.shape[-1], 1, 1, "relu6", name=f"{name}_expand")
    x = _conv(x, None, 3, stride, "relu6", name=f"{name}_depthwise", padding="same")
    x = _conv(x, filters, 1, activation=None, name=f"{name}_project")
    if inputs.shape[-1] == filters and stride == 1:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _imagenet(alpha: float, side: int) -> ImageNet | None:
    if alpha not in PUBLISHED_ALPHAS:
        return None
    side = side if side in PUBLISHED_SIZES else FAMILY.size
    stem = "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels"
    stem = f"{stem}_{float(alpha)}_{side}"
    return ImageNet(WeightsFile(f"{stem}.h5"), WeightsFile(f"{stem}_no_top.h5"))
