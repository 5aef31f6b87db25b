"""The network that goes into a file: in float32, and without what only training needs."""

from typing import Any

import keras

from keras_archs.errors import InputError
from keras_archs.fusing import fuse
from keras_archs.graph import inner_layers


def image_shape(model: keras.Model) -> tuple[int, int, int]:
    """The [height, width, channels] that a model takes.

    Raises:
        InputError: it is no functional model from one batch of images of a fixed size to scores.
    """
    # A subclassed or unbuilt model has no such lists.
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            "model must be a built functional Keras model of one input and one output,"
            f" got a {type(model).__name__} of {len(inputs)} inputs and {len(outputs)} outputs."
        )
    image, scores = inputs[0], outputs[0]
    if len(image.shape) != 4 or len(scores.shape) != 2:
        raise InputError(
            "model must take [n, height, width, channels] and give [n, classes],"
            f" got {image.shape} and {scores.shape}."
        )
    if None in image.shape[1:]:
        raise InputError(
            f"model takes images of any size, {image.shape}; build it with a fixed input shape,"
            " such as input_shape=(224, 224, 3), and load its weights."
        )
    return image.shape[1:]


def prepare(model: keras.Model) -> keras.Model:
    """A copy of a model as its file computes it: float32, batch norms folded, no dropout.

    Args:
        model: a functional Keras model in any precision; it stays as it is.

    Raises:
        InputError: the model is not functional.
    """
    return fuse(_in_float32(model))


def _in_float32(model: keras.Model) -> keras.Model:
    """`model` itself or, if a part of it has another precision, a float32 copy with its weights."""
    if all(layer.dtype_policy.name == "float32" for layer in inner_layers(model)):
        return model

    def rebuild(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(_without_precision(layer.get_config()))

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # that of layers that a layer makes without a word
    try:
        copy = keras.models.clone_model(model, clone_function=rebuild, recursive=True)
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def _without_precision(config: Any) -> Any:
    """A layer's config with float32 for its own policy and for those of layers inside it."""
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
