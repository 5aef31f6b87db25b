"""InceptionV1 (GoogLeNet): several kernels look at the same map, 1x1 convolutions keep them cheap.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1 and figures 2b and 3.
"""

from functools import partial
from typing import Any, Literal, NamedTuple, Unpack

import keras
from keras import layers

from ..arguments import Shared, check_choice, check_flag, check_rate
from ..errors import InputError
from ..layers.drop_in.batch_norm import BatchNormalization
from ..layers.local_response import LocalResponseNormalization
from ..preprocessing import CAFFE
from ..registry import Family
from .common.convolution import conv_bn_act
from .common.network import Scaffold

FAMILY = Family(
    name="inception_v1",
    paper="Szegedy et al. 2015, arXiv:1409.4842, table 1",
    preprocessing=CAFFE,
    arguments="""
batch_norm: whether a batch norm follows each convolution, in place of its bias and of the local
    response normalisation in the stem.
auxiliary: whether the model also returns the classifiers after blocks 4a and 4d, which the paper
    trains with a loss weight of 0.3: `[predictions, auxiliary_4a, auxiliary_4d]`.
large_kernel: the kernel of the third branch: 5 as in the paper, or 3 as in torchvision.
dropout_rate: rate of the dropout before the classifier.
""",
)
preprocess_input = FAMILY.preprocessing

BN = partial(BatchNormalization, momentum=0.9, epsilon=1e-3)


class Block(NamedTuple):
    """A row of table 1: filters of each convolution, the reductions before the kernels included."""

    name: str
    direct: int
    reduce_3: int
    conv_3: int
    reduce_5: int
    conv_5: int
    pooled: int


# fmt: off
# Max pooling halves the map before 4a and 5a.
BLOCKS = (
    Block("3a", 64,  96,  128, 16, 32,  32),
    Block("3b", 128, 128, 192, 32, 96,  64),
    Block("4a", 192, 96,  208, 16, 48,  64),
    Block("4b", 160, 112, 224, 24, 64,  64),
    Block("4c", 128, 128, 256, 24, 64,  64),
    Block("4d", 112, 144, 288, 32, 64,  64),
    Block("4e", 256, 160, 320, 32, 128, 128),
    Block("5a", 256, 160, 320, 32, 128, 128),
    Block("5b", 384, 192, 384, 48, 128, 128),
)
# fmt: on


@FAMILY.register
def InceptionV1(
    *,
    batch_norm: bool = False,
    auxiliary: bool = False,
    large_kernel: Literal[3, 5] = 5,
    dropout_rate: float = 0.4,
    **shared: Unpack[Shared],
) -> keras.Model:
    """InceptionV1 (GoogLeNet). Nine blocks of parallel 1x1, 3x3 and 5x5 convolutions."""
    batch_norm = check_flag("batch_norm", batch_norm)
    auxiliary = check_flag("auxiliary", auxiliary)
    large_kernel = check_choice("large_kernel", large_kernel, (3, 5))
    dropout_rate = check_rate("dropout_rate", dropout_rate)
    if auxiliary and not shared["include_top"]:
        raise InputError("auxiliary=True needs include_top=True: its outputs are classifiers.")
    scaffold = Scaffold(FAMILY, shared, name="inception_v1", static="always" if auxiliary else None)
    conv_act = partial(conv_bn_act, bn=BN if batch_norm else None, use_bias=not batch_norm)
    x = conv_act(scaffold.inputs, 64, 7, 2, name="conv1")
    x = _shrink(x, "pool1")
    if not batch_norm:
        x = LocalResponseNormalization(name="norm1")(x)
    x = conv_act(x, 64, 1, name="conv2_reduce")
    x = conv_act(x, 192, 3, name="conv2")
    if not batch_norm:
        x = LocalResponseNormalization(name="norm2")(x)
    x = _shrink(x, "pool2")
    side_maps = []
    for block in BLOCKS:
        if block.name in {"4a", "5a"}:
            x = _shrink(x, f"pool{int(block.name[0]) - 1}")
        x = _inception(x, block, large_kernel, conv_act)
        if block.name in {"4a", "4d"}:
            side_maps.append(x)

    def top(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(dropout_rate, name="dropout")(x)
        predictions = scaffold.classify(x)
        if not auxiliary:
            return predictions
        names = ("auxiliary_4a", "auxiliary_4d")
        sides = [
            _auxiliary(*each, conv_act, scaffold) for each in zip(side_maps, names, strict=True)
        ]
        return [predictions, *sides]

    return scaffold.finish(x, top)


def _inception(x: Any, block: Block, large_kernel: int, conv_act: Any) -> Any:
    name = f"inception_{block.name}"
    direct = conv_act(x, block.direct, 1, name=f"{name}_1x1")
    medium = conv_act(x, block.reduce_3, 1, name=f"{name}_3x3_reduce")
    medium = conv_act(medium, block.conv_3, 3, name=f"{name}_3x3")
    large = conv_act(x, block.reduce_5, 1, name=f"{name}_5x5_reduce")
    large = conv_act(large, block.conv_5, large_kernel, name=f"{name}_5x5")
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    pooled = conv_act(pooled, block.pooled, 1, name=f"{name}_pool_proj")
    return layers.Concatenate(name=name)([direct, medium, large, pooled])


def _auxiliary(x: Any, name: str, conv_act: Any, scaffold: Scaffold) -> Any:
    """Page 6: a classifier on a 4x4 map, for a gradient in the middle of the network."""
    if min(x.shape[1:3]) < 5:
        raise InputError(
            f"auxiliary=True averages 5x5 pixels of the map after {name[-2:]}, which is"
            f" {x.shape[1]}x{x.shape[2]}; input_shape needs about 80 pixels each way."
        )
    x = layers.AveragePooling2D(5, strides=3, name=f"{name}_pool")(x)
    x = conv_act(x, 128, 1, name=f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return scaffold.classify(x, name=name)


def _shrink(x: Any, name: str) -> Any:
    return layers.MaxPooling2D(3, strides=2, padding="same", name=name)(x)
