"""Kernels that int8 can hold: those of filters that died in training are out of all proportion."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_archs.graph import Call, calls

from .fake_quantization.operations import (
    FUSED,
    KERNELS,
    activation_of,
    is_followed_inside,
)
from .flatbuffer import REACH
from .preparing import float32_copy, not_to_be_copied
from .ranges import width

BATCH = 32
"""Images that ranges are read on at a time."""
_FAR = REACH[1] / 2
# Those that the file has no map before.
_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def in_reach(model: keras.Model, images: np.ndarray, keep_float: Sequence[str] = ()) -> keras.Model:
    """`model`, or a copy of it in which dead filters have smaller weights.

    A filter whose image is zero whatever the network sees gets no gradient, and the batch norm
    folded into it, which has seen hardly any variance, blows it up. In int8 the least that its
    image can differ from zero then sends its output out of range many times over, its bias is
    rounded to as many steps, and XNNPACK cannot take the file. Scaled down, the filter gives the
    same for `images`, to half a step of its output, and so does its bias in the file. Filters whose
    products differ among `images` by more stay as they are.

    Args:
        model: a functional float32 model with folded batch norms. Layers of models inside it, and
            those with another activation than ReLU, stay as they are.
        images: float32 `[n, height, width, channels]`, as `model` takes them.
        keep_float: names of layers that stay in float32, and as they are.
    """
    found = list(_kernels(model, keep_float))
    if not found:
        return model
    spans = _ends(model, [tensor for _, *pair in found for tensor in pair], images)
    far = []
    for place, (layer, image, _) in enumerate(found):
        extent, step = _width(spans[2 * place]), _width(spans[2 * place + 1]) / 255
        largest = np.abs(_by_filter(layer, layer.get_weights()[0])).max(axis=0).astype(float)
        units = extent / 255 * largest / 127 / max(step, 1e-30)
        if (units >= _FAR).any():
            far.append((layer, image, step, units))
    if not far or next(not_to_be_copied(model), None):
        return model
    products = _ends(model, [_product(layer, image) for layer, image, *_ in far], images)
    changes = {}
    for (layer, _, step, units), ends in zip(far, products, strict=True):
        # Where no bias can take what a filter adds for all images, it must add nothing.
        spread = np.ptp(ends if layer.use_bias else [*ends, 0 * units], axis=0)
        dead = (units >= _FAR) & (spread < step / 2)
        if dead.any():
            changes[layer.name] = (
                np.where(dead, 1 / np.maximum(units, 1), 1),
                ends.mean(axis=0, dtype=float),
            )
    if not changes:
        return model
    model = float32_copy(model)
    for name, (factor, product) in changes.items():
        layer = model.get_layer(name)
        kernel, *bias = layer.get_weights()
        bias = [each + (1 - factor) * product for each in bias]
        layer.set_weights([(_by_filter(layer, kernel) * factor).reshape(kernel.shape), *bias])
    return model


def _kernels(model: keras.Model, keep_float: Sequence[str]) -> Iterator[tuple[Any, Any, Any]]:
    """Layers that are called once, what they take, and what the file has a range of behind them."""
    every = list(calls(model))
    times = Counter(call.operation.name for call in every)
    kept, given = set(keep_float), {id(output) for output in model.outputs}
    for call in every:
        layer, output = call.operation, call.outputs[0]
        if not _has_kernel(call) or times[layer.name] > 1:
            continue
        names = {layer.name}
        users = [each for each in every if any(tensor is output for tensor in each.inputs)]
        if len(users) == 1 and id(output) not in given and _is_fused(layer, users[0].operation):
            names.add(users[0].operation.name)
            output = users[0].outputs[0]
        if kept.isdisjoint(names):
            yield layer, call.inputs[0], output


def _is_fused(layer: keras.Layer, user: Any) -> bool:
    """Whether the file computes the activation that `user` is with the layer in front of it."""
    return is_followed_inside(layer, user) and activation_of(user) in FUSED


def _has_kernel(call: Call) -> bool:
    return type(call.operation) in KERNELS and call.operation.activation in _ACTIVATIONS


def _by_filter(layer: keras.Layer, kernel: np.ndarray) -> np.ndarray:
    """A kernel as `[weights, filters]`."""
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    return kernel.reshape(-1, np.prod(kernel.shape[-2:]) if depthwise else kernel.shape[-1])


def _product(layer: Any, image: Any) -> Any:
    """What a layer gives before its bias and its activation."""
    config = layer.get_config() | {"use_bias": False, "activation": None}
    twin = type(layer).from_config(config)
    product = twin(image)
    twin.set_weights(layer.get_weights()[:1])
    return product


def _ends(model: keras.Model, tensors: list[Any], images: np.ndarray) -> list[np.ndarray]:
    """The least and the greatest value of each channel, `[2, channels]` for each tensor."""
    extremes = [
        extreme(tensor, tuple(range(len(tensor.shape) - 1)))
        for extreme in (ops.min, ops.max)
        for tensor in tensors
    ]
    probe = keras.Model(model.inputs[0], extremes)
    seen: Any = [probe(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    every = [np.stack(each) for each in zip(*seen, strict=True)]
    lows, highs = every[: len(tensors)], every[len(tensors) :]
    return [
        np.stack([low.min(axis=0), high.max(axis=0)]) for low, high in zip(lows, highs, strict=True)
    ]


def _width(ends: np.ndarray) -> float:
    """How far a tensor goes from lowest to highest, over all channels."""
    low, high = ends
    return width(low.min(), high.max())
