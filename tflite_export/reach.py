"""Kernels that int8 can hold: those of filters that died in training are out of all proportion."""

from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_archs.graph import Call, calls
from tflite_export.preparing import float32_copy

_FAR = 128
"""Steps of the output that one unit of a product may be; XNNPACK's kernels end at 256."""
_BATCH = 32
_KINDS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
# Those that the file has no map before.
_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def in_reach(model: keras.Model, images: np.ndarray) -> keras.Model:
    """`model`, or a copy of it in which dead filters have smaller weights.

    A filter whose image is zero whatever the network sees gets no gradient, and the batch norm
    folded into it, which has seen hardly any variance, blows it up. In int8 the least that its
    image can differ from zero then sends its output out of range many times over, its bias is
    rounded to as many steps, and XNNPACK cannot take the file. Scaled down, the filter gives the
    same for `images`, and its bias is exact.

    Args:
        model: a functional float32 model with folded batch norms. Layers of models inside it, and
            those with another activation than ReLU, stay as they are.
        images: float32 `[n, height, width, channels]`, as `model` takes them.
    """
    times = Counter(call.operation.name for call in calls(model))
    found = [call for call in calls(model) if _has_kernel(call) and times[call.operation.name] == 1]
    if not found:
        return model
    factors = {}
    for call, (image, output) in zip(found, _ranges(model, found, images), strict=True):
        layer: Any = call.operation
        kernel = np.abs(layer.get_weights()[0])
        units = image * _by_filter(layer, kernel).max(axis=0) / 127 / max(output, 1e-30)
        if (units >= _FAR).any():
            factors[layer.name] = np.where(units >= _FAR, 1 / np.maximum(units, 1), 1)
    if not factors:
        return model
    try:
        model = float32_copy(model)
    except NotImplementedError:  # a layer that cannot be copied
        return model
    for name, factor in factors.items():
        layer = model.get_layer(name)
        kernel, *bias = layer.get_weights()
        layer.set_weights([(_by_filter(layer, kernel) * factor).reshape(kernel.shape), *bias])
    return model


def _has_kernel(call: Call) -> bool:
    return isinstance(call.operation, _KINDS) and call.operation.activation in _ACTIVATIONS


def _by_filter(layer: keras.Layer, kernel: np.ndarray) -> np.ndarray:
    """A kernel as `[weights, filters]`."""
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    return kernel.reshape(-1, np.prod(kernel.shape[-2:]) if depthwise else kernel.shape[-1])


def _ranges(model: keras.Model, found: list[Call], images: np.ndarray) -> np.ndarray:
    """How far from lowest to highest the image and the output of each call go, zero included."""
    ends = [tensor for call in found for tensor in (call.inputs[0], call.outputs[0])]
    probe = keras.Model(
        model.inputs[0], [extreme(end) for end in ends for extreme in (ops.min, ops.max)]
    )
    seen = [
        np.reshape([float(value) for value in probe(images[start : start + _BATCH])], (-1, 2, 2))
        for start in range(0, len(images), _BATCH)
    ]
    lowest, highest = np.min(seen, axis=0)[..., 0], np.max(seen, axis=0)[..., 1]
    return np.maximum(highest, 0) - np.minimum(lowest, 0)
