"""The calls that make up a functional model, and models without memory for their weights.

Keras keeps the calls, and the layers inside a layer, in private attributes, `_nodes_by_depth` and
`_layers`, and the variables that it has yet to fill in a private list. This is the only place that
touches them, and `tests/keras_archs/test_profiling.py` fails if they change.

A layer has a path: its name, after the names of the models that it lies in, as in
`backbone/conv1`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
from keras.src.backend.common import global_state

from .errors import InputError


@dataclass(frozen=True)
class Call:
    """One use of a layer or operation; a shared layer has several.

    Attributes:
        path: of the operation.
        arguments: Keras' own record of them.
    """

    operation: Any
    path: str
    inputs: list[Any]
    outputs: list[Any]
    arguments: Any

    @property
    def keywords(self) -> dict[str, Any]:
        return self.arguments.kwargs

    def arguments_with(self, tensors: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments with other tensors, by the ids of the call's inputs."""
        return self.arguments.fill_in({id(x): tensors.get(id(x), x) for x in self.inputs})


def is_functional(layer: Any) -> bool:
    """Whether a layer is a model whose graph can be read, such as a built `Sequential`."""
    if isinstance(layer, keras.Sequential):
        return bool(getattr(layer, "inputs", None))
    return hasattr(layer, "_nodes_by_depth")


def check_functional(model: keras.Model) -> None:
    """Raises an InputError, which says what to call first, unless the graph of `model` is known."""
    if is_functional(model):
        return
    first = ""
    if isinstance(model, keras.Sequential):
        first = (
            " that is not built: call model.build((None, height, width, channels)) first, or begin"
            " it with a keras.Input"
        )
    elif isinstance(model, keras.Model):
        first = (
            ": call inputs = keras.Input((height, width, channels)) and keras.Model(inputs,"
            " model.call(inputs)) first, and give the result"
        )
    raise InputError(
        f"model must be a built functional Keras model, got a {type(model).__name__}{first}."
    )


def functional(model: keras.Model) -> keras.Model:
    """`model`, or the graph of a `Sequential`: a functional model of the same layers.

    Raises:
        InputError: the graph of `model` is not known; it says what to call first.
    """
    check_functional(model)
    if not isinstance(model, keras.Sequential):
        return model
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.outputs
    return keras.Model(model.inputs[0], outputs, name=model.name)


def new_inputs(model: keras.Model) -> Any:
    """Inputs of the same names and structure: Keras' clones have them renamed."""
    sources = [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]
    names = {id(layer.output): layer.name for layer in sources}
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=names[id(x)]), model.input
    )


def cloned(
    model: keras.Model,
    inputs: Any = None,
    clone: Callable[[Any], Any] | None = None,
    call: Callable[..., Any] | None = None,
) -> keras.Model:
    """Keras' clone of a functional model, on inputs of the same names, and never compiled."""
    plain = keras.Model(model.input, model.output, name=model.name)
    inputs = new_inputs(plain) if inputs is None else inputs
    return keras.models.clone_model(plain, inputs, clone_function=clone, call_function=call)


def calls(model: keras.Model) -> Iterator[Call]:
    """Every call in a functional model from its inputs to its outputs, input layers left out."""
    for _, nodes in sorted(functional(model)._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if not node.is_input:
                tensors = node.input_tensors, node.output_tensors
                yield Call(node.operation, node.operation.name, *tensors, node.arguments)


def operations(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and operation of each layer, models inside the model before the layers inside these."""
    for operation in functional(model).operations:
        if isinstance(operation, keras.layers.InputLayer):
            continue
        yield prefix + operation.name, operation
        if is_functional(operation):
            yield from operations(operation, f"{prefix}{operation.name}/")


@dataclass(frozen=True)
class FlatGraph:
    """What a model computes, with the calls of models inside it in the place of these.

    Each use of a model inside has tensors of its own, which have the shapes of this use.
    """

    inputs: list[Any]
    calls: list[Call]
    outputs: list[Any]


def flattened(model: keras.Model, prefix: str = "", given: list[Any] | None = None) -> FlatGraph:
    """The flat graph of a functional model.

    Args:
        prefix: of the paths.
        given: tensors in the place of the model's own inputs; their sizes may differ.
    """
    graph = functional(model)
    inputs = graph.inputs if given is None else given
    resized = any(x.shape != own.shape for x, own in zip(inputs, graph.inputs, strict=True))
    known = dict(zip(map(id, graph.inputs), inputs, strict=True))
    every: list[Call] = []
    for call in calls(graph):
        path, taken = prefix + call.path, [known[id(x)] for x in call.inputs]
        if is_functional(call.operation):
            inner = flattened(call.operation, f"{path}/", taken)
            every += inner.calls
            outputs = inner.outputs
        else:
            outputs = call.outputs if given is None else _copies(call, known, resized)
            every.append(replace(call, path=path, inputs=taken, outputs=outputs))
        known |= zip(map(id, call.outputs), outputs, strict=True)
    return FlatGraph(inputs, every, [known[id(x)] for x in graph.outputs])


def _copies(call: Call, known: Mapping[int, Any], resized: bool) -> list[Any]:
    shapes = [x.shape for x in call.outputs]
    if resized:
        args, kwargs = call.arguments_with(known)
        specs = call.operation.compute_output_spec(*args, **kwargs)
        shapes = [x.shape for x in keras.tree.flatten(specs)]
    return [
        keras.KerasTensor(shape, x.dtype) for shape, x in zip(shapes, call.outputs, strict=True)
    ]


def tensors_at(
    model: keras.Model, wanted: Mapping[str, Literal["inputs", "outputs"]]
) -> dict[str, Any]:
    """The first input or output of layers, as a tensor that a model from `model.input` can return.

    A model inside the model that holds such a layer gives way to one of the same layers that
    returns the tensor as well, and what comes after it is called once more. A layer that is used
    several times counts by its first use.

    Args:
        wanted: which tensor, by the path of the layer.
    """
    return dict(zip(wanted, _tensors(functional(model), wanted, own=False), strict=True))


def _tensors(model: keras.Model, wanted: Mapping[str, Any], own: bool) -> list[Any]:
    """The wanted tensors and, if asked for, the model's own outputs."""
    found: dict[str, Any] = {}
    # What stands for a tensor of the model, and for a model inside it, where that is another one.
    known: dict[int, Any] = {}
    parts: dict[int, keras.Model] = {}
    for call in calls(model):
        if len(found) == len(wanted) and not own:
            break
        layer = call.operation
        inside = [path for path in wanted if path.startswith(f"{layer.name}/")]
        if inside and id(layer) not in parts:
            inner = functional(layer)
            below = {path.removeprefix(f"{layer.name}/"): wanted[path] for path in inside}
            goes_on = own or not wanted.keys() <= found.keys() | set(inside)
            outputs = _tensors(inner, below, goes_on)
            parts[id(layer)] = keras.Model(inner.input, outputs, name=layer.name)
        if inside or known.keys() & set(map(id, call.inputs)):
            args, kwargs = call.arguments_with(known)
            outputs = keras.tree.flatten(parts.get(id(layer), layer)(*args, **kwargs))
            found = dict(zip(inside, outputs, strict=False)) | found
            known |= zip(map(id, call.outputs), outputs[len(inside) :], strict=False)
        if layer.name in wanted and layer.name not in found:
            tensor = getattr(call, wanted[layer.name])[0]
            found[layer.name] = known.get(id(tensor), tensor)
    ends = [known.get(id(x), x) for x in model.outputs] if own else []
    return [*map(found.get, wanted), *ends]


def inner_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers that a block or model is made of, and those that these are made of."""
    for inner in layer._layers:
        yield inner
        yield from inner_layers(inner)


def opened(call: Call) -> Iterator[Call]:
    """What happens to one image inside a layer made of layers; nothing for any other.

    Raises:
        InputError: the layer cannot be called on symbolic tensors.
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
