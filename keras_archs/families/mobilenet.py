"""MobileNet: depthwise separable convolutions, thinned by alpha and fed smaller images by rho.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, table 1. A 3x3 convolution of each channel alone and a 1x1 convolution across
channels do the work of a full 3x3 convolution with about an eighth of its multiply-adds. Strides
alone shrink the map: there is no max-pooling.

As in the published weights the activation is ReLU6, where the paper says ReLU.
"""

from functools import partial
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import (
    Shape,
    Shared,
    SharedButShape,
    check_number,
    check_positive,
    check_positive_int,
    check_rate,
)
from ..errors import InputError
from ..preprocessing import TF
from ..registry import Family
from .common.convolution import conv_bn_act
from .common.network import Scaffold
from .common.weights import ImageNet, WeightsFile

FAMILY = Family(
    name="mobilenet",
    paper="Howard et al. 2017, arXiv:1704.04861, tables 1, 6 and 7",
    preprocessing=TF,
    arguments="""
alpha: width multiplier; each layer has `int(alpha * filters)` filters. 1, 0.75, 0.5 and 0.25 in
    the paper.
rho: resolution multiplier in (0, 1]; sets the input to `224 * rho` pixels each way, which must be
    a multiple of 32: 1, 6/7, 5/7 and 4/7 give the paper's 224, 192, 160 and 128. An error beside
    an `input_shape` or `input_tensor` of another size.
depth_multiplier: depthwise filters for each input channel, a positive integer.
dropout: rate of the dropout before the classifier.
""",
)
preprocess_input = FAMILY.preprocessing

STEM = 32
# (filters of the 1x1 convolution, stride of the depthwise convolution) of each block
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# That of the authors' code. Keras' default counts a depthwise kernel's inputs as if it mixed
# channels, makes it too small, and each step of Adam on it too large.
DEPTHWISE = partial(keras.initializers.TruncatedNormal, stddev=0.09)
_conv = partial(conv_bn_act, activation="relu6", names=("{}", "{}_bn", "{}_relu"))
PUBLISHED_SIZES = (224, 192, 160, 128)
PUBLISHED_ALPHAS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}


@FAMILY.register
def MobileNet(
    input_shape: Shape | None = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 1e-3,
    *,
    rho: float | None = None,
    **shared: Unpack[SharedButShape],
) -> keras.Model:
    """MobileNet. Thirteen depthwise separable convolutions after a strided stem."""
    alpha = check_positive("alpha", alpha)
    if alpha * STEM < 1:
        raise InputError(
            f"alpha must be at least 1/{STEM}, for at least one filter in the stem, got {alpha!r}."
        )
    depth_multiplier = check_positive_int("depth_multiplier", depth_multiplier)
    dropout = check_rate("dropout", dropout)
    size = None if rho is None else _size_of(check_number("rho", rho), input_shape)
    side = FAMILY.size if input_shape is None else input_shape[0] or FAMILY.size
    scaffold = Scaffold(
        FAMILY,
        Shared(input_shape=input_shape, **shared),
        name=f"mobilenet_{alpha:.2f}_{size or side}",
        size=size,
        published=_imagenet(alpha, depth_multiplier, size, input_shape),
    )
    x = _conv(scaffold.inputs, int(alpha * STEM), 3, 2, padding="same", name="conv1")
    for i, (filters, stride) in enumerate(BLOCKS, 1):
        x = _separable(x, int(alpha * filters), stride, depth_multiplier, i)
    return scaffold.finish(x, lambda x: _top(x, scaffold, dropout))


def _separable(x: Any, filters: int, stride: int, depth_multiplier: int, block: int) -> Any:
    if stride > 1:
        # The published weights pad below and to the right, at odd sizes too ("same" would not).
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{block}")(x)
    x = _conv(
        x,
        None,
        3,
        stride,
        name=f"conv_dw_{block}",
        padding="valid" if stride > 1 else "same",
        depth_multiplier=depth_multiplier,
        initializer=DEPTHWISE,
    )
    return _conv(x, filters, 1, padding="valid", name=f"conv_pw_{block}")


def _top(x: Any, scaffold: Scaffold, dropout: float) -> Any:
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return scaffold.classify_map(x, name="conv_preds")


def _size_of(rho: float, shape: Shape | None) -> int:
    size = 32 * round(FAMILY.size * rho / 32)
    # A rho such as 0.857, rounded from 6/7, means the size next to it.
    if not 0 < rho <= 1 or size < FAMILY.min_size or abs(FAMILY.size * rho - size) > 0.5:
        raise InputError(
            f"rho must be in (0, 1] and make 224 * rho a multiple of 32 (1, 6/7, 5/7 and 4/7 give"
            f" {', '.join(map(str, PUBLISHED_SIZES))}), got {rho!r}."
        )
    if shape is not None and shape[:2] != (size, size):
        raise InputError(
            f"rho={rho!r} asks for {size}x{size} pixels and contradicts the input shape"
            f" {shape}; give one of the two."
        )
    return size


def _imagenet(
    alpha: float, depth_multiplier: int, size: int | None, shape: Shape | None
) -> ImageNet | None:
    if alpha not in PUBLISHED_ALPHAS or depth_multiplier != 1:
        return None
    height, width = (size, size) if shape is None else shape[:2]
    side = height if height == width and height in PUBLISHED_SIZES else FAMILY.size
    stem = f"mobilenet/mobilenet_{PUBLISHED_ALPHAS[alpha]}_{side}_tf"
    return ImageNet(WeightsFile(f"{stem}.h5"), WeightsFile(f"{stem}_no_top.h5"))
