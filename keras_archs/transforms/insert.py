"""Inserts blocks in a finished model, which keeps its weights."""

from collections.abc import Iterable
from typing import Any

import keras

from ..analysis.features import layers_at
from ..arguments import as_int
from ..errors import InputError, shown
from ..graph import cloned, functional, is_functional, operations


def insert(
    model: keras.Model, block: keras.layers.Layer, *, after: str | int | Iterable[str | int]
) -> keras.Model:
    """A copy of a model with a block after some of its layers.

    `insert(model, NonLocalBlock(), after="conv4_block5_out")` works on any functional Keras model,
    including those of keras.applications. If a block starts as the identity, the outputs stay
    bit-equal.

    Args:
        model: any functional Keras model; it is not changed.
        block: a layer that keeps the shape of its input. Each place gets a new layer with the same
            config and new weights. It is named after the place and the class of the block.
        after: the places: the name of a layer, such as `backbone/conv4` in a model inside the
            model; a shell pattern such as `"conv4_block*_out"`, whose `*` also matches `/`; a level
            of `feature_info`, for its last map; or several of these.

    Returns:
        A functional model with copies of the weights, not compiled. Models inside it are copies.
        Shared layers stay shared.

    Raises:
        InputError: the model is not functional; a place is not one of its layers or levels; or the
            block cannot take the output of a place, or changes its shape.
    """
    graph = functional(model)
    if not isinstance(block, keras.layers.Layer):
        raise InputError(f"block must be a Keras layer, got {shown(block)}.")
    one = isinstance(after, str) or as_int(after) is not None or not isinstance(after, Iterable)
    places: Any = [after] if one else after
    paths = {path for place in places for path in layers_at(graph, place, "after")}
    if not paths:
        raise InputError(f"after={shown(after)} does not name any layer or level.")
    return _Insertion(graph, block, paths).result


class _Insertion:
    """Copies a model, and the models inside it, with the blocks.

    Attributes:
        result: the copy, with its weights.
    """

    def __init__(self, model: keras.Model, block: keras.layers.Layer, paths: set[str]) -> None:
        self._block = block
        self._places = {id(layer): path for path, layer in operations(model) if path in paths}
        self._copies: dict[int, Any] = {}
        self._copied_places: dict[int, str] = {}
        self.result = self._copy_of(model)
        for _, layer in operations(model):
            if getattr(layer, "weights", ()) and not is_functional(layer):
                self._copies[id(layer)].set_weights(layer.get_weights())

    def _copy_of(self, model: keras.Model) -> keras.Model:
        taken = {operation.name for operation in model.operations}

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = layer(*args, **kwargs)
            if id(layer) not in self._copied_places:
                return outputs
            name = f"{layer.name}_{_snake_case(type(self._block).__name__)}"
            while name in taken:
                name += "_again"
            taken.add(name)  # a shared layer is called several times
            return self._inserted(name, outputs, self._copied_places[id(layer)])

        return cloned(model, clone=self._clone, call=call)

    def _clone(self, layer: Any) -> Any:
        if id(layer) not in self._copies:
            if is_functional(layer):
                copy = self._copy_of(functional(layer))
            elif isinstance(layer, keras.layers.Layer):
                copy = type(layer).from_config(layer.get_config())
            else:
                copy = layer
            self._copies[id(layer)] = copy
            if id(layer) in self._places:
                self._copied_places[id(copy)] = self._places[id(layer)]
        return self._copies[id(layer)]

    def _inserted(self, name: str, x: Any, path: str) -> Any:
        kind = type(self._block)
        shape = getattr(x, "shape", None)
        try:
            outputs = kind.from_config({**self._block.get_config(), "name": name})(x)
        except Exception as error:  # any block, of any author
            raise InputError(
                f"block {self._block.name!r} ({kind.__name__}) cannot be called on the output of"
                f" {path!r}, of shape {shape}: {' '.join(str(error).split())[:300]}"
            ) from error
        new_shape = getattr(outputs, "shape", None)
        if new_shape != shape:
            raise InputError(
                f"block {self._block.name!r} ({kind.__name__}) changes the output of {path!r} from"
                f" shape {shape} to {new_shape}; insert takes blocks that keep the shape."
            )
        return outputs


def _snake_case(name: str) -> str:
    """Converts a class name: `NonLocalBlock` to `non_local_block`, `ECA` to `eca`."""
    if name.isupper():
        return name.lower()
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
