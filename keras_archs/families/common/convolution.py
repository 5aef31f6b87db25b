"""Convolution, batch norm and activation, once for all families.

Convolutions pad both sides by default, as torchvision, Caffe and ResNet do. TensorFlow's "same"
pads an even map on its far side only when the stride is 2, so that weights which were trained with
padding on both sides would see the map shifted by a pixel.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import keras
from keras import layers

from ...layers.drop_in.activation import Activation
from ...layers.drop_in.batch_norm import BatchNormalization
from ...layers.drop_in.depthwise import DepthwiseConv2D

MakeLayer = Callable[..., keras.layers.Layer]
MakeInitializer = Callable[[], keras.initializers.Initializer]
# Names of a convolution, its batch norm and its activation; the braces stand for that of the part.
Names = tuple[str, str, str]
NAMES: Names = ("{}_conv", "{}_bn", "{}_relu")


def conv_bn_act(
    x: Any,
    filters: int | None,
    kernel: Any,
    stride: int = 1,
    activation: str | MakeLayer | None = layers.ReLU,
    *,
    name: str,
    bn: MakeLayer | None = BatchNormalization,
    names: Names = NAMES,
    padding: str = "both",
    initializer: MakeInitializer = keras.initializers.GlorotUniform,
    use_bias: bool = False,
    **options: Any,
) -> Any:
    """A convolution, its batch norm and its activation.

    Args:
        filters: number of filters; None filters each channel alone (a depthwise convolution).
        activation: function of an `Activation`, a class of layers, or None for no layer.
        name: name of the part, which `names` turns into the names of the layers.
        bn: makes the batch norm; None for no layer.
        padding: `"same"`, `"valid"`, or `"both"`, which pads where the stride is above 1 by a layer
            `{name}_pad`.
        initializer: makes that of the kernel. Each layer needs its own: an initializer draws its
            seed when it is made, and gives all kernels of a shape the same values.
        **options: more arguments of the convolution.
    """
    if padding == "both":
        padding = "same"
        if stride > 1 and kernel > 1:
            x, padding = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"
    if filters is None:
        make = partial(DepthwiseConv2D, depthwise_initializer=initializer())
    else:
        make = partial(layers.Conv2D, filters, kernel_initializer=initializer())
    x = make(
        kernel_size=kernel,
        strides=stride,
        padding=padding,
        use_bias=use_bias,
        name=names[0].format(name),
        **options,
    )(x)
    return bn_act(x, activation, name=name, bn=bn, names=names)


conv2d = partial(conv_bn_act, activation=None, bn=None)


def bn_act(
    x: Any,
    activation: str | MakeLayer | None = layers.ReLU,
    *,
    name: str,
    bn: MakeLayer | None = BatchNormalization,
    names: Names = NAMES,
) -> Any:
    """A batch norm and its activation."""
    _, bn_name, activation_name = (pattern.format(name) for pattern in names)
    if bn:
        x = bn(name=bn_name)(x)
    if isinstance(activation, str):
        return Activation(activation, name=activation_name)(x)
    return activation(name=activation_name)(x) if activation else x


def squeeze_excite(
    x: Any,
    filters: int,
    activation: str,
    gate: str,
    *,
    names: Sequence[str],
    initializer: MakeInitializer = keras.initializers.GlorotUniform,
) -> Any:
    """Gates the channels by what the whole map holds, in layers that published weights name.

    Args:
        filters: number of channels of the squeezed map.
        gate: activation of the second convolution.
        names: those of the pooling, the two convolutions and the product.
        initializer: makes that of a kernel.
    """
    pool, reduce, expand, product = names
    scale = layers.GlobalAveragePooling2D(keepdims=True, name=pool)(x)
    scale = layers.Conv2D(
        filters, 1, activation=activation, kernel_initializer=initializer(), name=reduce
    )(scale)
    scale = layers.Conv2D(
        x.shape[-1], 1, activation=gate, kernel_initializer=initializer(), name=expand
    )(scale)
    return layers.Multiply(name=product)([x, scale])


def drop_rates(last: float, blocks: int, start: int = 1) -> Iterator[float]:
    """Rates of stochastic depth for one block after the other, growing linearly.

    Args:
        last: the rate of block number `blocks`.
        start: number of the first block; at 0 its rate is 0.
    """
    return (last * block / blocks for block in itertools.count(start))
