"""Flattens a network to one graph of layers and operations."""

from collections import Counter
from typing import Any

import keras

from ..errors import InputError
from ..graph import check_functional, inner_layers, is_functional, new_inputs
from ..layers.block import Block
from ..layers.layer_scale import LayerScale
from .fuse import fuse
from .precision import check_quantization, float32_copy


def flatten(model: keras.Model) -> keras.Model:
    """A flat float32 copy of a model for inference, with batch norms folded and without dropout.

    Models inside the model, and blocks made of layers such as `SqueezeExcite`, are replaced by
    their layers and operations. The name of each is added to the name of its model or block.

    Raises:
        InputError: the model is not functional or is quantised already; or a block has weights of
            its own, which a graph of layers cannot hold.
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    check_functional(model)
    check_quantization(model)
    flat = float32_copy(model)
    while any(map(_is_nested, flat.layers)):
        flat = _open(flat)
    return fuse(flat)


def _is_nested(layer: Any) -> bool:
    # Layer scale is a Block by its class, but has no layers inside it.
    return isinstance(layer, keras.Model | Block) and not isinstance(layer, LayerScale)


def _open(model: keras.Model) -> keras.Model:
    """The same layers in a graph with one level of nesting less."""
    opened: dict[int, keras.Model] = {}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_nested(layer):
            return layer(*args, **kwargs)
        if id(layer) not in opened:
            opened[id(layer)] = _graph(layer)
        return opened[id(layer)].call(args[0])

    return keras.models.clone_model(
        model, new_inputs(model), clone_function=lambda layer: layer, call_function=call
    )


def _graph(layer: Any) -> keras.Model:
    """A model or block as a functional model of its layers, which are renamed."""
    if isinstance(layer, keras.Sequential):
        graph = keras.Model(layer.inputs[0], layer.outputs[0])
    elif isinstance(layer, keras.Model):
        if not is_functional(layer):
            raise InputError(f"{layer.name} is not a functional model, so its graph is unknown.")
        graph = layer
    else:
        inner = {id(weight) for part in inner_layers(layer) for weight in part.weights}
        if any(id(weight) not in inner for weight in layer.weights):
            raise InputError(
                f"{layer.name} ({type(layer).__name__}) cannot be trained for int8: it has weights"
                " of its own, outside its layers."
            )
        source = keras.Input(batch_shape=layer.get_build_config()["input_shape"])
        graph = keras.Model(source, layer.call(source))
    seen: Counter[str] = Counter()
    for operation in graph.operations:
        name = operation.name
        if not isinstance(operation, keras.layers.Layer):
            # Keras numbers operations over the whole process.
            kind = type(operation).__name__.lower()
            name = f"{kind}_{seen[kind]}" if seen[kind] else kind
            seen[kind] += 1
        operation.name = f"{layer.name}_{name}"
    return graph
