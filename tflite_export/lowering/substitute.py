"""Replaces layers by equivalents that convert to better TFLite operators."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_archs.graph import Call, flattened
from keras_archs.layers import Dense, LayerNormalization
from keras_archs.preprocessing import Preprocessing, PreprocessInput
from keras_archs.transforms.quantization.int8_rules import activation_of
from keras_archs.transforms.quantization.ranges import HARD_SIGMOID_OFFSET

# Exactly these classes: a subclass may compute something else.
SUBSTITUTES: dict[Any, Any] = {layers.Dense: Dense, layers.LayerNormalization: LayerNormalization}


@keras.saving.register_keras_serializable(package="tflite_export")
def gated_hard_swish(x: Any) -> Any:
    """Hard-swish as a sum and two products, which XNNPACK has in integers."""
    return x * (ops.relu6(x + HARD_SIGMOID_OFFSET) * (1 / 6))


def substitute_layers(model: keras.Model, integers: bool = False) -> keras.Model:
    """Replaces layers of Keras that convert to worse operators; returns a functional model.

    Dense layers on maps then do not compute shapes at run time, and layer norms have an integer
    version (see `keras_archs.layers`). Preprocessing that differs by colour becomes a convolution.
    A model without such layers is returned unchanged.

    Args:
        integers: whether the file computes in integers. XNNPACK has no integer hard-swish, and
            that of the interpreter is slow.
    """
    if not any(_lowers_worse(call, integers) for call in flattened(model).calls):
        return model
    new_weights: set[int] = set()

    def clone(layer: keras.Layer) -> keras.Layer:
        if _is_preprocessing_by_colour(layer):
            convolution = as_convolution(layer.preprocessing, layer.output.shape[-1], layer.name)
            new_weights.update(map(id, convolution.weights))
            return convolution
        config = layer.get_config()
        if integers and _swishes(layer):
            config["activation"] = gated_hard_swish
        return SUBSTITUTES.get(type(layer), type(layer)).from_config(config)

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if integers and activation_of(operation) == "hard_silu":  # an operation, not a layer
            return layers.Activation(gated_hard_swish, name=operation.name)(*args)
        return operation(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call, recursive=True)
    copied = [weight for weight in copy.weights if id(weight) not in new_weights]
    for weight, value in zip(copied, model.get_weights(), strict=True):
        weight.assign(value)
    return copy


def as_convolution(preprocessing: Preprocessing, channels: int, name: str) -> layers.Conv2D:
    """A 1x1 convolution that preprocesses pixels of 0..255 in RGB order.

    XNNPACK computes it faster than a difference and a product of maps with so few channels. In
    integers it is rounded only once.
    """
    layer = layers.Conv2D(channels, 1, name=name, dtype="float32")
    layer.build((None, None, None, channels))
    # Preprocessing is affine: the bias is the result for black, the kernel what each colour adds.
    black = preprocessing(np.zeros((1, 1, channels), np.float32))
    colours = preprocessing(255 * np.eye(channels, dtype=np.float32)[:, None]) - black
    layer.set_weights([colours.reshape(1, 1, channels, channels) / 255, black.reshape(channels)])
    return layer


def _is_preprocessing_by_colour(operation: Any) -> bool:
    """Whether it differs by colour. Else the converter folds it into the next convolution."""
    if type(operation) is not PreprocessInput or len(operation.output.shape) != 4:
        return False
    preprocessing = operation.preprocessing
    by_colour = preprocessing.bgr or len(set(preprocessing.mean)) > 1
    return operation.output.shape[-1] > 1 and by_colour


def _swishes(operation: Any) -> bool:
    swishes = getattr(operation, "activation", None) is keras.activations.hard_silu
    return swishes and "activation" in operation.get_config()


def _lowers_worse(call: Call, integers: bool) -> bool:
    operation = call.operation
    if type(operation) in SUBSTITUTES:
        return type(operation) is not layers.Dense or len(call.inputs[0].shape) > 2
    if integers and (_swishes(operation) or activation_of(operation) == "hard_silu"):
        return True
    return _is_preprocessing_by_colour(operation)
