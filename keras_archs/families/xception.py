"""Xception: Inception taken to its end, every channel filtered alone and then mixed by 1x1.

Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, figure 5.
"""

from functools import partial
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared
from ..layers.drop_in.batch_norm import BatchNormalization
from ..preprocessing import TF
from ..registry import Family
from .common.convolution import conv_bn_act
from .common.network import Scaffold
from .common.weights import ImageNet

FAMILY = Family(
    name="xception",
    paper="Chollet 2017, arXiv:1610.02357, figure 5",
    preprocessing=TF,
    min_size=71,
    size=299,
)
preprocess_input = FAMILY.preprocessing

IMAGENET = ImageNet.tf_kernels(
    "xception/xception", "0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"
)
# Filters of the two separable convolutions of each block that halves the map.
ENTRY = ((128, 128), (256, 256), (728, 728))
MIDDLE = 8
EXIT = (728, 1024)

_conv = partial(conv_bn_act, names=("{}", "{}_bn", "{}_act"))


@FAMILY.register
def Xception(**shared: Unpack[Shared]) -> keras.Model:
    """Xception. Residual blocks of depthwise separable convolutions."""
    scaffold = Scaffold(FAMILY, shared, name="xception", published=IMAGENET)
    x = scaffold.inputs
    for conv, (filters, stride) in enumerate(((32, 2), (64, 1)), 1):
        x = _conv(x, filters, 3, stride, padding="valid", name=f"block1_conv{conv}")
    for block, widths in enumerate(ENTRY, 2):
        # The first block follows a ReLU already.
        x = _shrink(x, widths, activate_first=block > 2, name=f"block{block}")
    for block in range(5, 5 + MIDDLE):
        x = _middle(x, f"block{block}")
    x = _shrink(x, EXIT, activate_first=True, name="block13")
    for conv, width in enumerate((1536, 2048), 1):
        x = _separable(x, width, f"block14_sepconv{conv}")
        x = layers.ReLU(name=f"block14_sepconv{conv}_act")(x)
    return scaffold.finish(x)


def _shrink(x: Any, filters: tuple[int, int], activate_first: bool, name: str) -> Any:
    shortcut = _conv(x, filters[1], 1, 2, None, padding="same", name=f"{name}_shortcut")
    for conv, width in enumerate(filters, 1):
        if conv > 1 or activate_first:
            x = layers.ReLU(name=f"{name}_sepconv{conv}_act")(x)
        x = _separable(x, width, f"{name}_sepconv{conv}")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, shortcut])


def _middle(x: Any, name: str) -> Any:
    shortcut = x
    for conv in (1, 2, 3):
        x = layers.ReLU(name=f"{name}_sepconv{conv}_act")(x)
        x = _separable(x, shortcut.shape[-1], f"{name}_sepconv{conv}")
    return layers.Add(name=f"{name}_add")([x, shortcut])


def _separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return BatchNormalization(name=f"{name}_bn")(x)
