"""Fine-tuning: the early stages stay as they are."""

import keras

from .features import layer_at
from .graph import calls, check_functional, inner_layers


def freeze(model: keras.Model, until: int | str | None, *, batch_norm: bool = False) -> None:
    """Freezes a model from its input to a stage, and makes all that is behind trainable.

    A frozen batch norm uses its moving statistics and leaves them alone, while training, too, and
    also after the model has been saved and loaded.

    Args:
        model: a functional model; changed in place. Compile it afterwards: Keras reads what is
            trainable when it compiles.
        until: the last frozen stage: a level of `feature_info`, or the name of a layer. None
            freezes nothing, the last level all but the classifier.
        batch_norm: whether the batch norms behind are frozen as well, as one does for small
            batches; those inside blocks and nested models, too.

    Raises:
        ValueError: the model is not functional, or has no such level or layer.
    """
    check_functional(model)
    frozen = set() if until is None else upstream(model, layer_at(model, until, "until"))
    for layer in model.layers:
        # Keras hands down what is set only if the outer layer had another value before.
        for each in (layer, *inner_layers(layer)):
            is_norm = isinstance(each, keras.layers.BatchNormalization)
            each.trainable = layer.name not in frozen and not (batch_norm and is_norm)


def upstream(model: keras.Model, name: str) -> set[str]:
    """Names of the layer and of all that its output depends on."""
    needed = {
        id(out) for call in calls(model) if call.operation.name == name for out in call.outputs
    }
    names = set()
    for call in reversed(list(calls(model))):
        if needed & set(map(id, call.outputs)):
            needed |= set(map(id, call.inputs))
            names.add(call.operation.name)
    return names
