"""Convolutions that pad both sides, as torchvision, Caffe and ResNet do.

TensorFlow's "same" pads an even map on its far side only when the stride is 2, so that weights
which were trained with padding on both sides would see the map shifted by a pixel.
"""

from typing import Any

from keras import layers


def conv2d(x: Any, filters: int, kernel: int, stride: int = 1, *, name: str, **options: Any) -> Any:
    """The layer `{name}_conv`, behind `{name}_pad` where it strides."""
    x, padding = pad(x, kernel, stride, name)
    return layers.Conv2D(
        filters, kernel, strides=stride, padding=padding, name=f"{name}_conv", **options
    )(x)


def pad(x: Any, kernel: int, stride: int, name: str) -> tuple[Any, str]:
    """The map, padded if a convolution strides over it, and the padding that is left to do."""
    if stride == 1 or kernel == 1:
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"
