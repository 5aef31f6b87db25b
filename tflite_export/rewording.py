"""Layers in words that TFLite has: the same numbers by other operations."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from keras_archs.graph import Call, calls, is_functional
from keras_archs.layers import Dense, LayerNormalization

# Exactly these classes: what a subclass of them computes is not known.
REWORDED: dict[Any, Any] = {layers.Dense: Dense, layers.LayerNormalization: LayerNormalization}


def reworded(model: keras.Model) -> keras.Model:
    """A functional model with our layers in the place of Keras' own that lower worse.

    Dense layers on maps then ask for no shapes while the file runs, and layer norms have an
    integer version, see `keras_archs.layers`. It is the model itself if it has neither.
    """
    if not any(map(_lowers_worse, _every_call(model))):
        return model

    def clone(layer: keras.Layer) -> keras.Layer:
        return REWORDED.get(type(layer), type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _lowers_worse(call: Call) -> bool:
    kind = type(call.operation)
    return kind in REWORDED and (kind is not layers.Dense or len(call.inputs[0].shape) > 2)


def _every_call(model: keras.Model) -> Iterator[Call]:
    for call in calls(model):
        if is_functional(call.operation):
            yield from _every_call(call.operation)
        else:
            yield call
