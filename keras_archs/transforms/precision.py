"""Copies a model to float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from ..errors import InputError
from ..graph import inner_layers


@contextmanager
def float32_policy() -> Iterator[None]:
    """Layers made inside the block are float32 by default."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def check_quantization(model: keras.Model) -> None:
    """Raises an InputError if Keras quantised a layer of the model."""
    for layer in inner_layers(model):
        if mode := getattr(layer, "quantization_mode", None):
            raise InputError(
                f"model has a layer, {layer.name!r}, that Keras quantized to {mode}; give the float"
                " model, and use quantize= to quantize the file."
            )


def not_to_be_copied(model: keras.Model) -> Iterator[keras.Layer]:
    """Layers that cannot be made again from their config."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from not_to_be_copied(layer)
            continue
        try:
            type(layer).from_config(layer.get_config())
        except Exception:  # a layer that does not support it may raise anything
            yield layer
        else:
            if isinstance(layer, keras.layers.Lambda):
                yield layer


def is_float32(model: keras.Model) -> bool:
    """Whether all layers of a model are float32."""
    return all(layer.dtype_policy.name == "float32" for layer in inner_layers(model))


def in_float32(model: keras.Model) -> keras.Model:
    """Returns `model`, or a float32 copy with its weights if a layer has another precision."""
    return model if is_float32(model) else float32_copy(model)


def float32_copy(model: keras.Model) -> keras.Model:
    """The same network and weights, with all layers in float32; no layer is shared."""

    def rebuild(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(_without_precision(layer.get_config()))

    copy = keras.models.clone_model(model, clone_function=rebuild, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _without_precision(config: Any) -> Any:
    """A layer's config with float32 as the policy of the layer and of all layers inside it."""
    if isinstance(config, list | tuple):
        return type(config)(map(_without_precision, config))
    if not isinstance(config, dict):
        return config
    if config.get("class_name") in {"DTypePolicy", "DTypePolicyMap"}:
        return "float32"
    return {
        key: "float32" if key == "dtype" and isinstance(value, str) else _without_precision(value)
        for key, value in config.items()
    }
