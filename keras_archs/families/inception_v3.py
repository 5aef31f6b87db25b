"""InceptionV3: parallel kernels, large ones taken apart into 1x7 and 7x1.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, table 1 and
figures 5 to 7 and 10. Each block looks at its input through several kernels at once; 1x1
convolutions before them keep the cost down.
"""

from typing import Any, Unpack

import keras
from keras import layers

from keras_archs.arguments import Shared
from keras_archs.preprocessing import TF
from keras_archs.registry import Family
from keras_archs.scaffold import Scaffold
from keras_archs.weights import ImageNet

FAMILY = Family(
    name="inception_v3",
    paper="Szegedy et al. 2016, arXiv:1512.00567, table 1",
    preprocessing=TF,
    min_size=75,
    size=299,
)
preprocess_input = FAMILY.preprocessing

IMAGENET = ImageNet.tf_kernels(
    "inception_v3/inception_v3",
    "9a0d58056eeedaa3f26cb7ebd46da564",
    "bcbd6486424b2319ff4ef7d526e38f63",
)

Conv = tuple[int, int, int]  # filters, kernel height, kernel width
Branch = tuple[Conv, ...]


def _wide(pooled: int) -> tuple[Branch, ...]:
    """Figure 5; the last branch stands behind the pooling, here and below."""
    return (
        ((64, 1, 1),),
        ((48, 1, 1), (64, 5, 5)),
        ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
        ((pooled, 1, 1),),
    )


def _factorised(inner: int) -> tuple[Branch, ...]:
    """Figure 6 with n = 7."""
    return (
        ((192, 1, 1),),
        ((inner, 1, 1), (inner, 1, 7), (192, 7, 1)),
        ((inner, 1, 1), (inner, 7, 1), (inner, 1, 7), (inner, 7, 1), (192, 1, 7)),
        ((192, 1, 1),),
    )


# Figure 10: the last convolution of each branch and the pooling halve the map.
FIRST_REDUCTION: tuple[Branch, ...] = (((384, 3, 3),), ((64, 1, 1), (96, 3, 3), (96, 3, 3)))
SECOND_REDUCTION: tuple[Branch, ...] = (
    ((192, 1, 1), (320, 3, 3)),
    ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
)


@FAMILY.register
def InceptionV3(**shared: Unpack[Shared]) -> keras.Model:
    """InceptionV3. Eleven blocks of parallel convolutions."""
    scaffold = Scaffold(FAMILY, shared, name="inception_v3", published=IMAGENET)
    x = _conv(scaffold.inputs, (32, 3, 3), "stem1", stride=2, padding="valid")
    x = _conv(x, (32, 3, 3), "stem2", padding="valid")
    x = _conv(x, (64, 3, 3), "stem3")
    x = layers.MaxPooling2D(3, strides=2, name="stem3_pool")(x)
    x = _conv(x, (80, 1, 1), "stem4", padding="valid")
    x = _conv(x, (192, 3, 3), "stem5", padding="valid")
    x = layers.MaxPooling2D(3, strides=2, name="stem5_pool")(x)
    for block, pooled in enumerate((32, 64, 64)):
        x = _mixed(x, _wide(pooled), f"mixed{block}")
    x = _reduction(x, FIRST_REDUCTION, "mixed3")
    for block, inner in enumerate((128, 160, 160, 192), 4):
        x = _mixed(x, _factorised(inner), f"mixed{block}")
    x = _reduction(x, SECOND_REDUCTION, "mixed8")
    for block in (9, 10):
        x = _split(x, f"mixed{block}")
    return scaffold.finish(x)


def _mixed(x: Any, branches: tuple[Branch, ...], name: str) -> Any:
    *direct, (pooled,) = branches
    maps = [_branch(x, convs, f"{name}_{i}") for i, convs in enumerate(direct, 1)]
    maps.append(_pool_branch(x, pooled, name))
    return layers.Concatenate(name=name)(maps)


def _reduction(x: Any, branches: tuple[Branch, ...], name: str) -> Any:
    maps = []
    for i, (*convs, last) in enumerate(branches, 1):
        y = _branch(x, tuple(convs), f"{name}_{i}")
        maps.append(_conv(y, last, f"{name}_{i}_shrink", stride=2, padding="valid"))
    maps.append(layers.MaxPooling2D(3, strides=2, name=f"{name}_pool")(x))
    return layers.Concatenate(name=name)(maps)


def _split(x: Any, name: str) -> Any:
    """Figure 7: the coarsest maps are filtered by 1x3 and 3x1 side by side."""
    maps = [_branch(x, ((320, 1, 1),), f"{name}_1")]
    for i, convs in enumerate((((384, 1, 1),), ((448, 1, 1), (384, 3, 3))), 2):
        y = _branch(x, convs, f"{name}_{i}")
        sides = [
            _conv(y, (384, *kernel), f"{name}_{i}_{kernel[0]}x{kernel[1]}")
            for kernel in ((1, 3), (3, 1))
        ]
        maps.append(layers.Concatenate(name=f"{name}_{i}_concat")(sides))
    maps.append(_pool_branch(x, (192, 1, 1), name))
    return layers.Concatenate(name=name)(maps)


def _branch(x: Any, convs: Branch, name: str) -> Any:
    for i, conv in enumerate(convs, 1):
        x = _conv(x, conv, f"{name}_{i}")
    return x


def _pool_branch(x: Any, conv: Conv, name: str) -> Any:
    x = layers.AveragePooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    return _conv(x, conv, f"{name}_pool_1")


def _conv(x: Any, conv: Conv, name: str, stride: int = 1, padding: str = "same") -> Any:
    filters, *kernel = conv
    x = layers.Conv2D(
        filters, kernel, strides=stride, padding=padding, use_bias=False, name=f"{name}_conv"
    )(x)
    # Without a scale: the ReLU behind lets the next convolution take it over.
    x = layers.BatchNormalization(scale=False, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
