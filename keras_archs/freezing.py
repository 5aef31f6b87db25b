"""Fine-tuning: the early stages stay as they are."""

from typing import Any

import keras

from .features import layer_at
from .graph import flattened, functional, inner_layers, is_functional, operations


def freeze(model: keras.Model, until: int | str | None, *, batch_norm: bool = False) -> None:
    """Freezes a model from its input to a stage, and makes all that comes after it trainable.

    A frozen batch norm uses its moving statistics and leaves them alone, while training, too, and
    also after the model has been saved and loaded.

    Args:
        model: any functional Keras model; changed in place. Compile it afterwards: Keras reads
            what is trainable when it compiles.
        until: the last frozen stage: a level of `feature_info`, or the name of a layer, which is
            `backbone/conv4` for one in a model inside the model. None freezes nothing, the last
            level all but the classifier.
        batch_norm: whether the batch norms after it are frozen as well, as one does for small
            batches; those inside blocks and nested models, too.

    Raises:
        InputError: the model is not functional, or has no such level or layer.
    """
    graph = functional(model)
    frozen = set() if until is None else upstream(graph, layer_at(graph, until, "until"))
    # Keras hands down what is set only if the outer layer had another value before. A model
    # comes before its layers here, some of which may be frozen though it is not.
    for _, layer in operations(graph):
        if isinstance(layer, keras.layers.Layer):
            for each in (layer, *inner_layers(layer)):
                is_norm = isinstance(each, keras.layers.BatchNormalization)
                each.trainable = layer not in frozen and not (batch_norm and is_norm)


def upstream(model: keras.Model, path: str) -> set[Any]:
    """The layer at a path and all that its output depends on; models inside only as a whole."""
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
