"""InceptionV2 (BN-Inception): batch norm, and two 3x3 convolutions where V1 has 5x5.

Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", ICML 2015, section 4.2 and figure 5. The convolutions keep their bias before
the batch norm, as in the authors' Caffe model of 11,295,240 parameters.
"""

from functools import partial
from typing import Any, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import Shared
from ..layers.drop_in.batch_norm import BatchNormalization
from ..preprocessing import CAFFE
from ..registry import Family
from .common.convolution import conv_bn_act
from .common.network import Scaffold

FAMILY = Family(
    name="inception_v2",
    paper="Ioffe & Szegedy 2015, arXiv:1502.03167, figure 5",
    preprocessing=CAFFE,
)
preprocess_input = FAMILY.preprocessing


class Block(NamedTuple):
    """A row of figure 5; the blocks without direct filters halve the map."""

    name: str
    direct: int
    reduce: int
    single: int
    reduce_double: int
    double: int
    pooling: str
    pooled: int


# fmt: off
BLOCKS = (
    Block("3a", 64,  64,  64,  64,  96,  "avg", 32),
    Block("3b", 64,  64,  96,  64,  96,  "avg", 64),
    Block("3c", 0,   128, 160, 64,  96,  "max", 0),
    Block("4a", 224, 64,  96,  96,  128, "avg", 128),
    Block("4b", 192, 96,  128, 96,  128, "avg", 128),
    Block("4c", 160, 128, 160, 128, 160, "avg", 128),
    Block("4d", 96,  128, 192, 160, 192, "avg", 128),
    Block("4e", 0,   128, 192, 192, 256, "max", 0),
    Block("5a", 352, 192, 320, 160, 224, "avg", 128),
    Block("5b", 352, 192, 320, 192, 224, "max", 128),
)
# fmt: on
_conv = partial(
    conv_bn_act, use_bias=True, bn=partial(BatchNormalization, momentum=0.9, epsilon=1e-5)
)


@FAMILY.register
def InceptionV2(**shared: Unpack[Shared]) -> keras.Model:
    """InceptionV2 (BN-Inception). Ten blocks of parallel 1x1 and 3x3 convolutions."""
    scaffold = Scaffold(FAMILY, shared, name="inception_v2")
    x = _conv(scaffold.inputs, 64, 7, 2, name="conv1")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    x = _conv(x, 64, 1, name="conv2_reduce")
    x = _conv(x, 192, 3, name="conv2")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool2")(x)
    for block in BLOCKS:
        x = _inception(x, block)
    return scaffold.finish(x)


def _inception(x: Any, block: Block) -> Any:
    name = f"inception_{block.name}"
    stride = 1 if block.direct else 2
    single = _conv(x, block.reduce, 1, name=f"{name}_3x3_reduce")
    single = _conv(single, block.single, 3, stride, name=f"{name}_3x3")
    double = _conv(x, block.reduce_double, 1, name=f"{name}_double_3x3_reduce")
    double = _conv(double, block.double, 3, name=f"{name}_double_3x3_1")
    double = _conv(double, block.double, 3, stride, name=f"{name}_double_3x3_2")
    kind = layers.AveragePooling2D if block.pooling == "avg" else layers.MaxPooling2D
    pooled = kind(3, strides=stride, padding="same", name=f"{name}_pool")(x)
    if not block.direct:
        return layers.Concatenate(name=name)([single, double, pooled])
    direct = _conv(x, block.direct, 1, name=f"{name}_1x1")
    pooled = _conv(pooled, block.pooled, 1, name=f"{name}_pool_proj")
    return layers.Concatenate(name=name)([direct, single, double, pooled])
