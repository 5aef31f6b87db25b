"""Freezes the early stages of a model for fine-tuning."""

from typing import Any

import keras

from ..analysis.features import layer_at
from ..graph import (
    flattened,
    functional,
    inner_layers,
    is_functional,
    operations,
)


def freeze(model: keras.Model, until: int | str | None, *, batch_norm: bool = False) -> None:
    """Freezes a model from its input to a stage, and makes all later layers trainable.

    A frozen batch norm uses its moving statistics during training, and does not change them. It
    stays frozen when the model is saved and loaded.

    Args:
        model: any functional Keras model; changed in place. Compile it afterwards: Keras reads
            `trainable` when it compiles.
        until: the last frozen stage: a level of `feature_info`, or the name of a layer, such as
            `backbone/conv4` in a model inside the model. None freezes nothing. The last level
            freezes all but the classifier.
        batch_norm: whether later batch norms are frozen as well, including those inside blocks and
            nested models. This is useful for small batches.

    Raises:
        InputError: the model is not functional, or has no such level or layer.
    """
    graph = functional(model)
    frozen = set() if until is None else upstream(graph, layer_at(graph, until, "until"))
    # Keras passes `trainable` on to inner layers only if it changes the outer layer. A model comes
    # before its layers here; some of these may be frozen although the model is not.
    for _, layer in operations(graph):
        if isinstance(layer, keras.layers.Layer):
            for part in (layer, *inner_layers(layer)):
                is_norm = isinstance(part, keras.layers.BatchNormalization)
                part.trainable = layer not in frozen and not (batch_norm and is_norm)


def upstream(model: keras.Model, path: str) -> set[Any]:
    """The layer at `path` and all layers before it; a model inside counts only as a whole."""
    flat = flattened(model)
    needed = {
        id(output)
        for call in flat.calls
        if call.path == path or call.path.startswith(f"{path}/")
        for output in call.outputs
    }
    layers = set()
    for call in reversed(flat.calls):
        if needed & set(map(id, call.outputs)):
            needed |= set(map(id, call.inputs))
            layers.add(call.operation)
    for _, layer in reversed(list(operations(model))):
        if is_functional(layer) and layers.issuperset(inner for _, inner in operations(layer)):
            layers.add(layer)
    return layers
