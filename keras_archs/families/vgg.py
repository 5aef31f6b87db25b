"""VGG: plain stacks of 3x3 convolutions, the width doubled where max-pooling halves the map.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, table 1: columns A, B, D and E. Two 3x3 convolutions see as far as one 5x5 with fewer
weights and one more non-linearity.

`batch_norm` is not in the paper (2014): it is the form that torchvision made common, a batch norm
after each convolution, which keeps its bias.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_flag, check_rate
from ..layers.drop_in.batch_norm import BatchNormalization
from ..preprocessing import CAFFE
from ..registry import Family
from .common.convolution import conv_bn_act
from .common.network import Scaffold
from .common.weights import ImageNet

FAMILY = Family(
    name="vgg",
    paper="Simonyan & Zisserman 2015, arXiv:1409.1556, table 1",
    preprocessing=CAFFE,
    arguments="""
batch_norm: whether each convolution has a batch normalisation before its ReLU.
dropout: rate of the dropout after each of the two hidden dense layers of the top (section 3.1).
""",
)
preprocess_input = FAMILY.preprocessing

BN = partial(BatchNormalization, epsilon=1e-5, momentum=0.9)
WIDTHS = (64, 128, 256, 512, 512)


@dataclass(frozen=True)
class Variant:
    """A column of table 1: how many convolutions each of the five stacks has."""

    name: str
    depths: tuple[int, int, int, int, int]
    published: ImageNet | None = None


def _vgg(
    variant: Variant,
    *,
    batch_norm: bool = False,
    dropout: float = 0.5,
    **shared: Unpack[Shared],
) -> keras.Model:
    """Five stacks of 3x3 convolutions and three dense layers."""
    batch_norm = check_flag("batch_norm", batch_norm)
    dropout = check_rate("dropout", dropout)
    scaffold = Scaffold(
        FAMILY,
        shared,
        name=variant.name.lower() + ("_bn" if batch_norm else ""),
        static="top",
        published=None if batch_norm else variant.published,
    )
    x = scaffold.inputs
    for stack, (depth, width) in enumerate(zip(variant.depths, WIDTHS, strict=True), 1):
        for conv in range(1, depth + 1):
            x = _conv(x, width, batch_norm, name=f"block{stack}_conv{conv}")
        x = layers.MaxPooling2D(2, name=f"block{stack}_pool")(x)
    return scaffold.finish(x, lambda x: scaffold.classify(_dense(x, dropout)))


def _conv(x: Any, width: int, batch_norm: bool, name: str) -> Any:
    if not batch_norm:
        return layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(x)
    names = ("{}", "{}_bn", "{}_relu")
    return conv_bn_act(x, width, 3, name=name, bn=BN, names=names, padding="same", use_bias=True)


def _dense(x: Any, dropout: float) -> Any:
    x = layers.Flatten(name="flatten")(x)
    for layer in (1, 2):
        x = layers.Dense(4096, activation="relu", name=f"fc{layer}")(x)
        x = layers.Dropout(dropout, name=f"dropout{layer}")(x)
    return x


# fmt: off
VGG11 = FAMILY.variant(_vgg, Variant("VGG11", (1, 1, 2, 2, 2)))  # A
VGG13 = FAMILY.variant(_vgg, Variant("VGG13", (2, 2, 2, 2, 2)))  # B
VGG16 = FAMILY.variant(_vgg, Variant("VGG16", (2, 2, 3, 3, 3),  # D
    ImageNet.tf_kernels("vgg16/vgg16",
        "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc")))
VGG19 = FAMILY.variant(_vgg, Variant("VGG19", (2, 2, 4, 4, 4),  # E
    ImageNet.tf_kernels("vgg19/vgg19",
        "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6")))
# fmt: on
