"""Reads the calls of a functional model, and builds models without memory for their weights.

Keras keeps the calls in the private attribute `_nodes_by_depth`, the layers inside a layer in
`_layers`, and the variables without values in a private list. Only this module uses them.
`tests/keras_archs/test_profiling.py` fails if they change.

The path of a layer is its name after the names of the models around it, as in `backbone/conv1`.
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
        path: path of the operation.
        arguments: Keras' record of the arguments.
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
        """Positional and keyword arguments with inputs replaced by tensors, by the inputs' ids."""
        return self.arguments.fill_in({id(x): tensors.get(id(x), x) for x in self.inputs})


def is_functional(layer: Any) -> bool:
    """Whether a layer is a model with a known graph, such as a built `Sequential`."""
    if isinstance(layer, keras.Sequential):
        return bool(getattr(layer, "inputs", None))
    return hasattr(layer, "_nodes_by_depth")


def check_functional(model: keras.Model) -> None:
    """Raises an InputError if the graph of `model` is unknown; it says what to call first."""
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
    """Returns `model`, or a functional model of the same layers for a `Sequential`.

    Raises:
        InputError: the graph of `model` is unknown; the error says what to call first.
    """
    check_functional(model)
    if not isinstance(model, keras.Sequential):
        return model
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.outputs
    return keras.Model(model.inputs[0], outputs, name=model.name)


def new_inputs(model: keras.Model) -> Any:
    """New inputs with the same names and structure; Keras' clones rename inputs."""
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
    """Keras' clone of a functional model, on inputs of the same names, not compiled."""
    plain = keras.Model(model.input, model.output, name=model.name)
    inputs = new_inputs(plain) if inputs is None else inputs
    return keras.models.clone_model(plain, inputs, clone_function=clone, call_function=call)


def calls(model: keras.Model) -> Iterator[Call]:
    """Every call of a functional model, from its inputs to its outputs, without input layers."""
    for _, nodes in sorted(functional(model)._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if not node.is_input:
                tensors = node.input_tensors, node.output_tensors
                yield Call(node.operation, node.operation.name, *tensors, node.arguments)


def operations(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and operation of each layer; a model inside the model comes before its layers."""
    for operation in functional(model).operations:
        if isinstance(operation, keras.layers.InputLayer):
            continue
        yield prefix + operation.name, operation
        if is_functional(operation):
            yield from operations(operation, f"{prefix}{operation.name}/")


@dataclass(frozen=True)
class FlatGraph:
    """The calls of a model, with each model inside it replaced by its calls.

    Each use of an inner model has tensors of its own, with the shapes of this use.
    """

    inputs: list[Any]
    calls: list[Call]
    outputs: list[Any]


def flattened(
    model: keras.Model, prefix: str = "", new_tensors: list[Any] | None = None
) -> FlatGraph:
    """The flat graph of a functional model.

    Args:
        prefix: prefix of the paths.
        new_tensors: tensors that replace the model's inputs; their sizes may differ.
    """
    graph = functional(model)
    inputs = graph.inputs if new_tensors is None else new_tensors
    resized = any(x.shape != old.shape for x, old in zip(inputs, graph.inputs, strict=True))
    known = dict(zip(map(id, graph.inputs), inputs, strict=True))
    every: list[Call] = []
    for call in calls(graph):
        path, call_inputs = prefix + call.path, [known[id(x)] for x in call.inputs]
        if is_functional(call.operation):
            inner = flattened(call.operation, f"{path}/", call_inputs)
            every += inner.calls
            outputs = inner.outputs
        else:
            outputs = call.outputs if new_tensors is None else _copies(call, known, resized)
            every.append(replace(call, path=path, inputs=call_inputs, outputs=outputs))
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
    """The first input or output of some layers, as tensors that depend on `model.input`.

    A model inside the model that holds such a layer is replaced by a model of the same layers that
    also returns the tensor. The layers after it are called again. For a layer that is used several
    times, the first use counts.

    Args:
        wanted: which of the two, by the path of the layer.
    """
    return dict(zip(wanted, _tensors(functional(model), wanted, with_outputs=False), strict=True))


def _tensors(model: keras.Model, wanted: Mapping[str, Any], with_outputs: bool) -> list[Any]:
    """The wanted tensors, and the outputs of the model if `with_outputs`."""
    tensors: dict[str, Any] = {}
    # What replaces a tensor of the model, and a model inside it.
    known: dict[int, Any] = {}
    parts: dict[int, keras.Model] = {}
    for call in calls(model):
        if len(tensors) == len(wanted) and not with_outputs:
            break
        layer = call.operation
        inside = [path for path in wanted if path.startswith(f"{layer.name}/")]
        if inside and id(layer) not in parts:
            inner = functional(layer)
            below = {path.removeprefix(f"{layer.name}/"): wanted[path] for path in inside}
            continues = with_outputs or not wanted.keys() <= tensors.keys() | set(inside)
            outputs = _tensors(inner, below, continues)
            parts[id(layer)] = keras.Model(inner.input, outputs, name=layer.name)
        if inside or known.keys() & set(map(id, call.inputs)):
            args, kwargs = call.arguments_with(known)
            outputs = keras.tree.flatten(parts.get(id(layer), layer)(*args, **kwargs))
            tensors = dict(zip(inside, outputs, strict=False)) | tensors
            known |= zip(map(id, call.outputs), outputs[len(inside) :], strict=False)
        if layer.name in wanted and layer.name not in tensors:
            tensor = getattr(call, wanted[layer.name])[0]
            tensors[layer.name] = known.get(id(tensor), tensor)
    outputs = [known.get(id(x), x) for x in model.outputs] if with_outputs else []
    return [*map(tensors.get, wanted), *outputs]


def inner_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers inside a block or model, at any depth."""
    for inner in layer._layers:
        yield inner
        yield from inner_layers(inner)


def opened(call: Call) -> Iterator[Call]:
    """The calls inside a layer made of layers, for one image; none for any other layer.

    Raises:
        InputError: the layer cannot be called on symbolic tensors.
    """
    layer = call.operation
    if not getattr(layer, "_layers", None):
        return
    inputs = [keras.Input(batch_shape=(1, *x.shape[1:]), dtype=x.dtype) for x in call.inputs]
    try:
        outputs = layer.call(*inputs)
    except Exception as error:  # any layer, of any author
        raise InputError(f"{layer.name} cannot be read symbolically: {error}") from error
    for inner in calls(keras.Model(inputs, outputs)):
        yield inner
        yield from opened(inner)


@contextmanager
def symbolic() -> Iterator[None]:
    """Models built inside the block have shapes, but no memory for their weights.

    They cannot be run. A stateless scope alone would fill all weights at its end.
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
