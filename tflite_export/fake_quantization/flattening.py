"""A network as one flat graph of layers and operations."""

from collections import Counter
from typing import Any

import keras

from keras_archs import fuse
from keras_archs.errors import InputError
from keras_archs.graph import check_functional, inner_layers, is_functional, new_inputs
from keras_archs.layers.base import Block
from keras_archs.layers.layer_scale import LayerScale

from ..preparing import check_quantization, float32_copy


def flatten(model: keras.Model) -> keras.Model:
    """A float32 copy for inference, with nothing nested, batch norms folded and dropout gone.

    Models inside the model, and blocks made of layers such as `SqueezeExcite`, give way to the
    layers and operations that they compute, which are named after both.

    Raises:
        InputError: the model is not functional, is quantised already, or has a block with weights
            of its own, which a graph of layers cannot hold.
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
    # Layer scale is a block by its base class alone.
    return isinstance(layer, keras.Model | Block) and not isinstance(layer, LayerScale)


def _open(model: keras.Model) -> keras.Model:
    """The same layers in a graph of one level less."""
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
    """What a model or block computes, as a model of its layers, which are given new names."""
    if isinstance(layer, keras.Sequential):
        graph = keras.Model(layer.inputs[0], layer.outputs[0])
    elif isinstance(layer, keras.Model):
        if not is_functional(layer):
            raise InputError(f"{layer.name} is a model that is not functional; it cannot be read.")
        graph = layer
    else:
        inner = {id(weight) for each in inner_layers(layer) for weight in each.weights}
        if any(id(weight) not in inner for weight in layer.weights):
            raise InputError(
                f"{layer.name} ({type(layer).__name__}) cannot be trained for int8: it has weights"
                " besides those of its layers."
            )
        source = keras.Input(batch_shape=layer.get_build_config()["input_shape"])
        graph = keras.Model(source, layer.call(source))
    seen: Counter[str] = Counter()
    for operation in graph.operations:
        name = operation.name
        if not isinstance(operation, keras.layers.Layer):
            # Keras numbers operations through the whole process.
            kind = type(operation).__name__.lower()
            name = f"{kind}_{seen[kind]}" if seen[kind] else kind
            seen[kind] += 1
        operation.name = f"{layer.name}_{name}"
    return graph
