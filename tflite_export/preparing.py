"""The network that goes into a file: in float32, and without what only training needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import keras

from keras_archs.errors import InputError
from keras_archs.fusing import fuse
from keras_archs.graph import calls, check_functional, inner_layers, is_functional
from keras_archs.preprocessing import Preprocessing

from .rewording import as_convolution, reworded

Scores = Literal["model", "logits", "probabilities"]

PIXELS = Preprocessing(mean=(0.0,), scale=1.0)
"""Of a model that takes pixels as they are."""

MADE = {"preprocessing", "probabilities"}
"""Names of the layers that `prepare` may add."""

# What turns logits into probabilities, of one class or of each.
_ENDS = (keras.activations.softmax, keras.activations.sigmoid)


def image_shape(model: keras.Model) -> tuple[int, int, int]:
    """The [height, width, channels] that a model takes.

    Raises:
        InputError: it is no functional model from one batch of images of a fixed size to scores,
            or a softmax makes the same of any image.
    """
    check_functional(model)
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            "model must be a built functional Keras model of one input and one output,"
            f" got a {type(model).__name__} of {len(inputs)} inputs and {len(outputs)} outputs;"
            " of several outputs, keras.Model(model.inputs, model.outputs[0]) keeps one."
        )
    image, scores = inputs[0], outputs[0]
    if len(image.shape) != 4 or len(scores.shape) != 2:
        raise InputError(
            "model must take [n, height, width, channels] and give [n, classes],"
            f" got {image.shape} and {scores.shape}; a network without its top needs pooling and"
            " a Dense layer first."
        )
    if scores.shape[-1] == 1 and own_activation(model) == "softmax":
        raise InputError(
            "model ends in the softmax of one score, which is 1 whatever the image; end it in a"
            " sigmoid, or in two scores."
        )
    if None in image.shape[1:]:
        raise InputError(
            f"model takes images of any size, {image.shape}; build it with a fixed input shape,"
            " such as input_shape=(224, 224, 3), and load its weights."
        )
    return image.shape[1:]


def prepare(
    model: keras.Model,
    *,
    scores: Scores = "model",
    preprocessing: Preprocessing | None = None,
    integers: bool = False,
) -> keras.Model:
    """A copy of a model as its file computes it: float32, batch norms folded, no dropout.

    Args:
        model: a functional Keras model from images to scores, in any precision; it stays as it
            is. Layers that are left keep their names.
        scores: "model" for those that it gives; "logits" takes a softmax or sigmoid off its end;
            "probabilities" puts a softmax there if it has neither, or a sigmoid on one score.
        preprocessing: what `model` expects of its images, to be done inside: the copy takes
            pixels of 0..255 in RGB order. It is one convolution of 1 x 1, named
            "preprocessing", which is rounded once where the file computes in integers.

    Raises:
        InputError: it is no such model, has a layer that Keras has quantized or that cannot be
            copied, or its end does not tell whether it gives logits.
    """
    check_convertible(model, scores)
    model = _functional(model)
    with _float32():
        stuck = next(not_to_be_copied(model), None)
        clean = model if stuck else reworded(fuse(in_float32(model)), integers)
        if scores != "model":
            clean = _ending_in(clean, scores)
        return clean if preprocessing in (None, PIXELS) else _behind(preprocessing, clean)


def check_convertible(model: keras.Model, scores: Scores) -> None:
    """Raises an InputError unless `prepare` and `unfolded` take a model with these scores."""
    image_shape(model)
    check_quantization(model)
    stuck = next(not_to_be_copied(model), None)
    if stuck and (scores != "model" or not _is_float32(model)):
        raise InputError(
            f"model has a layer {stuck.name!r} ({type(stuck).__name__}) that cannot be copied, as"
            " another precision or scores= asks for: give its class a get_config()."
        )


def unfolded(model: keras.Model, scores: Scores) -> keras.Model:
    """What a file of these scores is held to: `model` in float32, with nothing else done to it.

    In half precision a model is further from itself in float32 than the file is. See `prepare`.
    """
    if scores == "model":
        return in_float32(model)
    with _float32():
        return _ending_in(float32_copy(_functional(model)), scores)


def own_activation(model: keras.Model) -> str | None:
    """What turns logits into probabilities at a model's end, "softmax" or "sigmoid", if it does."""
    last = ending(_functional(model))[-1]
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    activation = getattr(last, "activation", None)
    return activation.__name__ if activation in _ENDS else None


def _functional(model: keras.Model) -> keras.Model:
    """The same layers: `model` may be sequential, or have its one output in a list."""
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def ending(model: keras.Model) -> list[Any]:
    """The layer or operation that gives a model's output; the nested models it is in before it."""
    *_, last = calls(model)
    operation = last.operation
    return [operation, *(ending(operation) if is_functional(operation) else [])]


@contextmanager
def _float32() -> Iterator[None]:
    """Layers made here without a word on precision are of float32."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def check_quantization(model: keras.Model) -> None:
    for layer in inner_layers(model):
        if mode := getattr(layer, "quantization_mode", None):
            raise InputError(
                f"model has a layer, {layer.name!r}, that Keras has quantized to {mode}; give the"
                " model in float, and quantize= to quantize the file."
            )


def not_to_be_copied(model: keras.Model) -> Iterator[keras.Layer]:
    """Layers of which nothing but themselves says how to make another one."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from not_to_be_copied(layer)
            continue
        try:
            type(layer).from_config(layer.get_config())
        except Exception:  # whatever a layer that was not made for it raises
            yield layer
        else:
            if isinstance(layer, keras.layers.Lambda):
                yield layer


def _is_float32(model: keras.Model) -> bool:
    return all(layer.dtype_policy.name == "float32" for layer in inner_layers(model))


def in_float32(model: keras.Model) -> keras.Model:
    """`model` itself or, if a part of it has another precision, a float32 copy with its weights."""
    return model if _is_float32(model) else float32_copy(model)


def float32_copy(model: keras.Model) -> keras.Model:
    """The same network with its weights, in float32 throughout; no layer is shared."""

    def rebuild(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(_without_precision(layer.get_config()))

    copy = keras.models.clone_model(model, clone_function=rebuild, recursive=True)
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


def _ending_in(model: keras.Model, scores: Scores) -> keras.Model:
    """`model`, which is changed, or one around it, with logits or probabilities at its end."""
    last = ending(model)[-1]
    own, linear = own_activation(model), keras.activations.linear
    plain = isinstance(last, keras.Layer) and getattr(last, "activation", linear) is linear
    if not own and not plain:
        raise InputError(
            f"scores={scores!r} needs a model that ends in a layer without activation or with"
            f" softmax or sigmoid; {model.name} ends in {last.name!r}."
        )
    if scores == "probabilities":
        if own:
            return model
        activation = "sigmoid" if model.outputs[0].shape[-1] == 1 else "softmax"
        end = keras.layers.Activation(activation, name="probabilities")
        return keras.Model(model.inputs[0], end(model.outputs[0]), name=model.name)
    if not isinstance(last, keras.layers.Softmax):
        if own:
            last.activation = linear
        return model
    if last is not ending(model)[0]:
        raise InputError(
            f"scores='logits' cannot take off {last.name!r}, which stands in a model inside the"
            " model; leave it out there."
        )
    return keras.Model(model.inputs[0], last.input, name=model.name)


def _behind(preprocessing: Preprocessing, model: keras.Model) -> keras.Model:
    shape = image_shape(model)
    channels = shape[-1]
    if not preprocessing.takes(channels):
        raise InputError(
            f"preprocessing has other channels than model, which takes {channels} ({shape})."
        )
    image = keras.Input(shape, name="pixels")
    layer = as_convolution(preprocessing, channels, "preprocessing")
    return keras.Model(image, model(layer(image)), name=model.name)
