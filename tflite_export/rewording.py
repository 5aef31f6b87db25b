"""Layers in words that TFLite has: the same numbers by other operations."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_archs.graph import Call, flattened
from keras_archs.layers import Dense, LayerNormalization
from keras_archs.preprocessing import Preprocessing, PreprocessInput

from .fake_quantization.layers import THREE
from .fake_quantization.operations import activation_of

# Exactly these classes: what a subclass of them computes is not known.
REWORDED: dict[Any, Any] = {layers.Dense: Dense, layers.LayerNormalization: LayerNormalization}


@keras.saving.register_keras_serializable(package="tflite_export")
def gated_hard_swish(x: Any) -> Any:
    """Hard-swish by a sum and two products, which XNNPACK has in integers."""
    return x * (ops.relu6(x + THREE) * (1 / 6))


def reworded(model: keras.Model, integers: bool = False) -> keras.Model:
    """A functional model with our layers in the place of Keras' own that lower worse.

    Dense layers on maps then ask for no shapes while the file runs, layer norms have an integer
    version, see `keras_archs.layers`, and preprocessing by colour is a convolution. It is the model
    itself if it has none of these.

    Args:
        integers: whether the file computes in integers, in which XNNPACK has no hard-swish, and
            the interpreter's own is slow.
    """
    if not any(_lowers_worse(call, integers) for call in flattened(model).calls):
        return model
    made: set[int] = set()

    def clone(layer: keras.Layer) -> keras.Layer:
        if _is_preprocessing_by_colour(layer):
            convolution = as_convolution(layer.preprocessing, layer.output.shape[-1], layer.name)
            made.update(map(id, convolution.weights))
            return convolution
        config = layer.get_config()
        if integers and _swishes(layer):
            config["activation"] = gated_hard_swish
        return REWORDED.get(type(layer), type(layer)).from_config(config)

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if integers and activation_of(operation) == "hard_silu":  # an operation that is no layer
            return layers.Activation(gated_hard_swish, name=operation.name)(*args)
        return operation(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call, recursive=True)
    given = [weight for weight in copy.weights if id(weight) not in made]
    for weight, value in zip(given, model.get_weights(), strict=True):
        weight.assign(value)
    return copy


def as_convolution(preprocessing: Preprocessing, channels: int, name: str) -> layers.Conv2D:
    """A convolution of 1 x 1 that preprocesses pixels of 0..255 in RGB order.

    XNNPACK computes it faster than a difference and a product of maps with so few channels, and
    where the file computes in integers it is rounded once.
    """
    layer = layers.Conv2D(channels, 1, name=name, dtype="float32")
    layer.build((None, None, None, channels))
    # It is affine: what black becomes, and what each colour adds.
    black = preprocessing(np.zeros((1, 1, channels), np.float32))
    colours = preprocessing(255 * np.eye(channels, dtype=np.float32)[:, None]) - black
    layer.set_weights([colours.reshape(1, 1, channels, channels) / 255, black.reshape(channels)])
    return layer


def _is_preprocessing_by_colour(operation: Any) -> bool:
    """If not by colour, the converter makes it part of the convolution behind it where it can."""
    if type(operation) is not PreprocessInput or len(operation.output.shape) != 4:
        return False
    found = operation.preprocessing
    return operation.output.shape[-1] > 1 and (found.bgr or len(set(found.mean)) > 1)


def _swishes(operation: Any) -> bool:
    own = getattr(operation, "activation", None) is keras.activations.hard_silu
    return own and "activation" in operation.get_config()


def _lowers_worse(call: Call, integers: bool) -> bool:
    operation = call.operation
    if type(operation) in REWORDED:
        return type(operation) is not layers.Dense or len(call.inputs[0].shape) > 2
    if integers and (_swishes(operation) or activation_of(operation) == "hard_silu"):
        return True
    return _is_preprocessing_by_colour(operation)
