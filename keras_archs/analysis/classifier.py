"""The image shape and the last activation of a classifier."""

from typing import Any

import keras

from ..errors import InputError
from ..graph import calls, check_functional, is_functional

# Activations that turn logits into probabilities, over all classes or for each class.
_PROBABILITY_ACTIVATIONS = (keras.activations.softmax, keras.activations.sigmoid)


def image_shape(model: keras.Model) -> tuple[int, int, int]:
    """The image shape of a classifier, [height, width, channels].

    Raises:
        InputError: `model` is not a functional model from one batch of images of a fixed size to
            scores, or it ends in a softmax of one score, which gives 1 for any image.
    """
    check_functional(model)
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            "model must be a built functional Keras model of one input and one output,"
            f" got a {type(model).__name__} of {len(inputs)} inputs and {len(outputs)} outputs;"
            " keras.Model(model.inputs, model.outputs[0]) keeps the first of several outputs."
        )
    image, scores = inputs[0], outputs[0]
    if len(image.shape) != 4 or len(scores.shape) != 2:
        raise InputError(
            "model must take [n, height, width, channels] and give [n, classes],"
            f" got {image.shape} and {scores.shape}; a network without its top needs pooling and"
            " a Dense layer first."
        )
    if scores.shape[-1] == 1 and probability_activation(model) == "softmax":
        raise InputError(
            "model ends in the softmax of one score, which is 1 for any image; end it in a"
            " sigmoid, or in two scores."
        )
    if None in image.shape[1:]:
        raise InputError(
            f"model takes images of any size, {image.shape}; build it with a fixed input shape,"
            " such as input_shape=(224, 224, 3), and load its weights."
        )
    return image.shape[1:]


def probability_activation(model: keras.Model) -> str | None:
    """The last activation if it gives probabilities, "softmax" or "sigmoid"; None for any other."""
    last = output_operations(with_one_output(model))[-1]
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    activation = getattr(last, "activation", None)
    return activation.__name__ if activation in _PROBABILITY_ACTIVATIONS else None


def with_one_output(model: keras.Model) -> keras.Model:
    """A functional model of the same layers; `model` may be sequential, or give a list of one."""
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def output_operations(model: keras.Model) -> list[Any]:
    """The operations that give a model's output: each nested model, then the last operation."""
    *_, last = calls(model)
    operation = last.operation
    return [operation, *(output_operations(operation) if is_functional(operation) else [])]
