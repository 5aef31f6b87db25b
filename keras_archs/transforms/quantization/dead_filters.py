"""Rescales filters that died in training, whose folded weights int8 cannot represent."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ...graph import Call, calls
from ..precision import float32_copy, not_to_be_copied
from .int8_rules import FUSED, KERNELS, activation_of, takes_range_of

XNNPACK_RATIOS = 2.0**-32, 2.0**8
"""XNNPACK takes a file only if, for each operator, the scale of its int8 products divided by the
scale of its output is in this range."""
BATCH = 32
"""Images that ranges are read on at a time."""
_MAX_RATIO = XNNPACK_RATIOS[1] / 2
# TFLite fuses these with the layer, so the file has no tensor before them.
_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def rescale_dead_filters(
    model: keras.Model, images: np.ndarray, keep_float: Sequence[str] = ()
) -> keras.Model:
    """Returns `model`, or a copy of it in which dead filters have smaller weights.

    A filter is dead if its input is zero for all images. It gets no gradient, and its batch norm
    has seen almost no variance: once the norm is folded, the weights of the filter are huge. In
    int8, one level of its input then moves its output far out of range. Its bias is rounded to
    equally coarse levels, and XNNPACK refuses the file. After rescaling, the filter and its bias in
    the file give the same output for `images`, to half a level. A filter whose products vary more
    than that among `images` is not changed.

    Args:
        model: a functional float32 model with folded batch norms. Layers of models inside it are
            not changed, nor layers with an activation other than ReLU.
        images: float32 `[n, height, width, channels]`, as `model` takes them.
        keep_float: names of layers that stay in float32. They are not changed.
    """
    kernels = list(_kernels(model, keep_float))
    if not kernels:
        return model
    spans = _extremes(model, [tensor for _, *pair in kernels for tensor in pair], images)
    suspects = []
    for index, (layer, inputs, _) in enumerate(kernels):
        input_width, output_scale = _width(spans[2 * index]), _width(spans[2 * index + 1]) / 255
        largest = np.abs(_by_filter(layer, layer.get_weights()[0])).max(axis=0).astype(float)
        ratios = input_width / 255 * largest / 127 / max(output_scale, 1e-30)
        if (ratios >= _MAX_RATIO).any():
            suspects.append((layer, inputs, output_scale, ratios))
    if not suspects or next(not_to_be_copied(model), None):
        return model
    products = _extremes(model, [_product(layer, inputs) for layer, inputs, *_ in suspects], images)
    changes = {}
    for (layer, _, output_scale, ratios), ends in zip(suspects, products, strict=True):
        # The bias takes what a filter adds for all images. Without a bias that must be nothing.
        spread = np.ptp(ends if layer.use_bias else [*ends, 0 * ratios], axis=0)
        dead = (ratios >= _MAX_RATIO) & (spread < output_scale / 2)
        if dead.any():
            changes[layer.name] = (
                np.where(dead, 1 / np.maximum(ratios, 1), 1),
                ends.mean(axis=0, dtype=float),
            )
    if not changes:
        return model
    model = float32_copy(model)
    for name, (factor, product) in changes.items():
        layer = model.get_layer(name)
        kernel, *biases = layer.get_weights()
        biases = [bias + (1 - factor) * product for bias in biases]
        layer.set_weights([(_by_filter(layer, kernel) * factor).reshape(kernel.shape), *biases])
    return model


def _kernels(model: keras.Model, keep_float: Sequence[str]) -> Iterator[tuple[Any, Any, Any]]:
    """Layers that are called once, their input, and the first tensor after it with a range."""
    every = list(calls(model))
    times = Counter(call.operation.name for call in every)
    float_names, model_outputs = set(keep_float), {id(output) for output in model.outputs}
    for call in every:
        layer, output = call.operation, call.outputs[0]
        if not _has_kernel(call) or times[layer.name] > 1:
            continue
        names = {layer.name}
        users = [user for user in every if any(tensor is output for tensor in user.inputs)]
        inside = len(users) == 1 and id(output) not in model_outputs
        if inside and _is_fused(layer, users[0].operation):
            names.add(users[0].operation.name)
            output = users[0].outputs[0]
        if float_names.isdisjoint(names):
            yield layer, call.inputs[0], output


def _is_fused(layer: keras.Layer, user: Any) -> bool:
    """Whether `user` is an activation that TFLite fuses with the layer before it."""
    return takes_range_of(layer, user) and activation_of(user) in FUSED


def _has_kernel(call: Call) -> bool:
    return type(call.operation) in KERNELS and call.operation.activation in _ACTIVATIONS


def _by_filter(layer: keras.Layer, kernel: np.ndarray) -> np.ndarray:
    """A kernel as `[weights, filters]`."""
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    return kernel.reshape(-1, np.prod(kernel.shape[-2:]) if depthwise else kernel.shape[-1])


def _product(layer: Any, inputs: Any) -> Any:
    """The output of a layer before its bias and its activation."""
    config = layer.get_config() | {"use_bias": False, "activation": None}
    twin = type(layer).from_config(config)
    product = twin(inputs)
    twin.set_weights(layer.get_weights()[:1])
    return product


def _extremes(model: keras.Model, tensors: list[Any], images: np.ndarray) -> list[np.ndarray]:
    """The minimum and the maximum of each channel, `[2, channels]` for each tensor."""
    extremes = [
        extreme(tensor, tuple(range(len(tensor.shape) - 1)))
        for extreme in (ops.min, ops.max)
        for tensor in tensors
    ]
    probe = keras.Model(model.inputs[0], extremes)
    batches: Any = [probe(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    stacked = [np.stack(values) for values in zip(*batches, strict=True)]
    lows, highs = stacked[: len(tensors)], stacked[len(tensors) :]
    return [
        np.stack([low.min(axis=0), high.max(axis=0)]) for low, high in zip(lows, highs, strict=True)
    ]


def _width(ends: np.ndarray) -> float:
    """The width of a tensor's range, over all channels."""
    low, high = ends
    return width(low.min(), high.max())


def width(low: float, high: float) -> float:
    """The width of an int8 range from `low` to `high`, which always includes zero."""
    return max(high, 0.0) - min(low, 0.0)
