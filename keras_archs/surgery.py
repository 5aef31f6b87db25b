"""Blocks inserted in a finished model, whose weights stay."""

from collections.abc import Iterable
from typing import Any

import keras

from .arguments import as_int
from .errors import InputError, shown
from .features import layers_at
from .graph import cloned, functional, is_functional, operations


def insert(
    model: keras.Model, block: keras.layers.Layer, *, after: str | int | Iterable[str | int]
) -> keras.Model:
    """A copy of a model with a block after some of its layers.

    `insert(model, NonLocalBlock(), after="conv4_block5_out")` works on any functional Keras model,
    keras.applications' as well. A block that starts as the identity leaves the outputs bit-equal.

    Args:
        model: any functional Keras model; it stays as it is.
        block: a layer that keeps the shape of its input. Each place gets a new one with the same
            config and new weights, named after the place and the class of the block.
        after: where: the name of a layer, which is `backbone/conv4` for one in a model inside the
            model; a shell pattern such as `"conv4_block*_out"`, whose `*` stands for `/`, too; a
            level of `feature_info`, for its last map; or several of these.

    Returns:
        A functional model with copies of the weights, not compiled. Models inside it are copies,
        and layers that were shared share their copy.

    Raises:
        InputError: the model is not functional, a place is none of its layers or levels, or the
            block does not take what a place gives, or changes its shape.
    """
    graph = functional(model)
    if not isinstance(block, keras.layers.Layer):
        raise InputError(f"block must be a Keras layer, got {shown(block)}.")
    one = isinstance(after, str) or as_int(after) is not None or not isinstance(after, Iterable)
    places: Any = [after] if one else after
    paths = {path for place in places for path in layers_at(graph, place, "after")}
    if not paths:
        raise InputError(f"after={shown(after)} names no layer and no level.")
    return _Insertion(graph, block, paths).result


class _Insertion:
    """A copy of a model, and of the models inside it, with blocks.

    Attributes:
        result: the copy, with the weights.
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
            taken.add(name)  # a shared layer comes back
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
        except Exception as error:  # a block of any origin
            raise InputError(
                f"block {self._block.name!r} ({kind.__name__}) cannot be called on the output of"
                f" {path!r}, of shape {shape}: {' '.join(str(error).split())[:300]}"
            ) from error
        after = getattr(outputs, "shape", None)
        if after != shape:
            raise InputError(
                f"block {self._block.name!r} ({kind.__name__}) changes the output of {path!r} from"
                f" shape {shape} to {after}; insert takes blocks that keep the shape."
            )
        return outputs


def _snake_case(name: str) -> str:
    """`NonLocalBlock` to `non_local_block`, `ECA` to `eca`."""
    if name.isupper():
        return name.lower()
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
