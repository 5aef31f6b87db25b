"""What InceptionV3, V4 and Inception-ResNet are made of: branches of convolutions side by side.

`scale` says whether the batch norms have one. After a ReLU the next convolution can do the
scaling, so the published Keras networks have none.
"""

from functools import partial
from typing import Any

from keras import layers

from ...layers.drop_in.batch_norm import BatchNormalization
from .convolution import conv_bn_act

Conv = tuple[int, int, int]  # filters, kernel height, kernel width
Branch = tuple[Conv, ...]
Branches = tuple[Branch, ...]


def stem(x: Any) -> Any:
    """The first layers of InceptionV3 and Inception-ResNetV2: to an eighth of the size."""
    x = conv(x, (32, 3, 3), "stem1", stride=2, padding="valid")
    x = conv(x, (32, 3, 3), "stem2", padding="valid")
    x = conv(x, (64, 3, 3), "stem3")
    x = layers.MaxPooling2D(3, strides=2, name="stem3_pool")(x)
    x = conv(x, (80, 1, 1), "stem4", padding="valid")
    x = conv(x, (192, 3, 3), "stem5", padding="valid")
    return layers.MaxPooling2D(3, strides=2, name="stem5_pool")(x)


def mixed(x: Any, branches: Branches, name: str, scale: bool = False) -> Any:
    """All branches side by side. The last one has a single convolution, after average pooling."""
    *direct, (pooled,) = branches
    maps = [branch(x, convs, f"{name}_{i}", scale) for i, convs in enumerate(direct, 1)]
    maps.append(_pool_branch(x, pooled, name, scale))
    return layers.Concatenate(name=name)(maps)


def reduction(x: Any, branches: Branches, name: str, scale: bool = False) -> Any:
    """The same at half the size: by the last convolution of each branch, and by max pooling."""
    maps = []
    for i, (*convs, last) in enumerate(branches, 1):
        y = branch(x, tuple(convs), f"{name}_{i}", scale)
        maps.append(conv(y, last, f"{name}_{i}_shrink", scale, stride=2, padding="valid"))
    maps.append(layers.MaxPooling2D(3, strides=2, name=f"{name}_pool")(x))
    return layers.Concatenate(name=name)(maps)


def split(x: Any, branches: Branches, sides: int, name: str, scale: bool = False) -> Any:
    """The coarsest maps are filtered by 1x3 and 3x1 side by side.

    Args:
        branches: the direct one, those that end in two convolutions of `sides` filters, and the
            pooled one.
    """
    direct, *forked, (pooled,) = branches
    maps = [branch(x, direct, f"{name}_1", scale)]
    for i, convs in enumerate(forked, 2):
        y = branch(x, convs, f"{name}_{i}", scale)
        ends = [
            conv(y, (sides, height, width), f"{name}_{i}_{height}x{width}", scale)
            for height, width in ((1, 3), (3, 1))
        ]
        maps.append(layers.Concatenate(name=f"{name}_{i}_concat")(ends))
    maps.append(_pool_branch(x, pooled, name, scale))
    return layers.Concatenate(name=name)(maps)


def branch(x: Any, convs: Branch, name: str, scale: bool = False) -> Any:
    """Convolutions one after the other."""
    for i, each in enumerate(convs, 1):
        x = conv(x, each, f"{name}_{i}", scale)
    return x


def _pool_branch(x: Any, each: Conv, name: str, scale: bool) -> Any:
    x = layers.AveragePooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    return conv(x, each, f"{name}_pool_1", scale)


def conv(x: Any, conv: Conv, name: str, scale: bool = False, **options: Any) -> Any:
    """Convolution, batch norm and ReLU; `options` are those of `conv_bn_act`."""
    filters, *kernel = conv
    bn = partial(BatchNormalization, scale=scale)
    options = {"padding": "same", **options}
    return conv_bn_act(x, filters, kernel, name=name, bn=bn, **options)
