"""Blocks inserted in a finished model, whose weights stay."""

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from .errors import InputError, did_you_mean
from .features import layer_at
from .graph import check_functional


def insert(
    model: keras.Model, block: keras.layers.Layer, *, after: str | int | Iterable[str | int]
) -> keras.Model:
    """A copy of a model with a block behind some of its layers.

    `insert(model, NonLocalBlock(), after="conv4_block5_out")` works on any functional Keras model,
    keras.applications' as well. A block that starts as the identity leaves the outputs bit-equal.

    Args:
        model: a functional model; it stays as it is.
        block: a layer that keeps the shape of its input. Each place gets a new one with the same
            config and new weights, named after the place and the class of the block.
        after: where: the name of a layer; a shell pattern such as `"conv4_block*_out"`; a level
            of `feature_info`, for its last map; or several of these.

    Returns:
        A functional model with copies of the weights, not compiled.

    Raises:
        ValueError: the model is not functional, or a place is none of its layers or levels.
    """
    check_functional(model)
    if not isinstance(block, keras.layers.Layer):
        raise InputError(f"block must be a Keras layer, got {block!r}.")
    places = _places(model, [after] if isinstance(after, str | int) else list(after))
    kind = _snake_case(type(block).__name__)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if layer.name not in places:
            return outputs
        name = f"{layer.name}_{kind}"
        while name in taken:
            name += "_again"
        taken.add(name)  # a shared layer comes back
        inserted = type(block).from_config({**block.get_config(), "name": name})
        return inserted(outputs)

    taken = {layer.name for layer in model.layers}
    result = keras.models.clone_model(model, new_inputs(model), call_function=call)
    for layer in model.layers:
        if layer.weights:
            result.get_layer(layer.name).set_weights(layer.get_weights())
    return result


def new_inputs(model: keras.Model) -> Any:
    """Inputs of the same names and structure: Keras' clones have them renamed."""
    sources = [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]
    names = {id(layer.output): layer.name for layer in sources}
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=names[id(x)]), model.input
    )


def _places(model: keras.Model, after: Sequence[str | int]) -> set[str]:
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    places: set[str] = set()
    for place in after:
        if isinstance(place, int):
            places.add(layer_at(model, place, "after"))
            continue
        matches = fnmatch.filter(names, place)
        if not matches:
            raise InputError(
                f"after={place!r} is no layer of {model.name} and matches none."
                f"{did_you_mean(place, names)}"
            )
        places.update(matches)
    return places


def _snake_case(name: str) -> str:
    """`NonLocalBlock` to `non_local_block`, `ECA` to `eca`."""
    if name.isupper():
        return name.lower()
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
