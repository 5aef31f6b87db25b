"""The calls that make up a functional model, and models without memory for their weights.

Keras keeps the calls, and the layers inside a layer, in private attributes, `_nodes_by_depth` and
`_layers`, and the variables that it has yet to fill in a private list. This is the only place that
touches them, and `tests/keras_archs/test_profiling.py` fails if they change.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.backend.common import global_state

from .errors import InputError


@dataclass(frozen=True)
class Call:
    """One use of a layer or operation; a shared layer has several."""

    operation: Any
    inputs: list[Any]
    outputs: list[Any]
    keywords: dict[str, Any]


def is_functional(layer: Any) -> bool:
    """Whether a layer is a model whose graph can be read."""
    return hasattr(layer, "_nodes_by_depth")


def check_functional(model: keras.Model) -> None:
    """Raises a ValueError unless the layers of `model` form a graph that can be read."""
    if not is_functional(model):
        raise InputError(f"model must be a functional Keras model, got {type(model).__name__}.")


def calls(model: keras.Model) -> Iterator[Call]:
    """Every call in a functional model from its inputs to its outputs, input layers left out."""
    for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if not node.is_input:
                tensors = node.input_tensors, node.output_tensors
                yield Call(node.operation, *tensors, node.arguments.kwargs)


def every_call(model: keras.Model) -> Iterator[Call]:
    """As `calls`, with those in models inside the model in the place of these."""
    for call in calls(model):
        if is_functional(call.operation):
            yield from every_call(call.operation)
        else:
            yield call


def inner_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers that a block or model is made of, and those that these are made of."""
    for inner in layer._layers:
        yield inner
        yield from inner_layers(inner)


def opened(call: Call) -> Iterator[Call]:
    """What happens to one image inside a layer made of layers; nothing for any other.

    Raises:
        ValueError: the layer cannot be called on symbolic tensors.
    """
    layer = call.operation
    if not getattr(layer, "_layers", None):
        return
    inputs = [
        keras.Input(batch_shape=(1, *each.shape[1:]), dtype=each.dtype) for each in call.inputs
    ]
    try:
        outputs = layer.call(*inputs)
    except Exception as error:  # a layer of any origin
        raise InputError(f"{layer.name} cannot be read symbolically: {error}") from error
    for inner in calls(keras.Model(inputs, outputs)):
        yield inner
        yield from opened(inner)


@contextmanager
def symbolic() -> Iterator[None]:
    """Models built inside have shapes, but no memory for their weights; they cannot be run.

    A stateless scope alone would fill all weights when it ends.
    """
    with keras.StatelessScope():
        pending = global_state.get_global_attribute(
            "uninitialized_variables", [], set_to_default=True
        )
        before = len(pending)
        try:
            yield
        finally:
            del pending[before:]
