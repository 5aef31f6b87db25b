"""Prepares a network for a file: float32, and without layers that only training needs."""

import keras

from keras_archs.analysis.classifier import (
    image_shape,
    output_operations,
    probability_activation,
    with_one_output,
)
from keras_archs.errors import InputError
from keras_archs.preprocessing import PIXELS, Preprocessing
from keras_archs.transforms.fuse import fuse
from keras_archs.transforms.precision import (
    float32_copy,
    float32_policy,
    in_float32,
    not_to_be_copied,
)

from ..settings import Scores
from .substitute import as_convolution, substitute_layers

MADE = {"preprocessing", "probabilities"}
"""Names of the layers that `prepare` may add."""


def prepare(
    model: keras.Model,
    *,
    scores: Scores = "model",
    preprocessing: Preprocessing | None = None,
    integers: bool = False,
) -> keras.Model:
    """A copy of a model for its file: float32, batch norms folded, no dropout.

    Args:
        model: a functional Keras model from images to scores, in any precision; it is not
            changed. The remaining layers keep their names.
        scores: "model" keeps the model's scores; "logits" removes a softmax or sigmoid at its end;
            "probabilities" adds a softmax, or a sigmoid on one score, if it ends in neither.
        preprocessing: the preprocessing that `model` expects, added to the copy, which then takes
            pixels of 0..255 in RGB order. It is a 1x1 convolution with the name "preprocessing".
            In integers it is rounded only once.

    Raises:
        InputError: the end of the model does not tell whether it gives logits.
    """
    model = with_one_output(model)
    with float32_policy():
        stuck = next(not_to_be_copied(model), None)
        clean = model if stuck else substitute_layers(fuse(in_float32(model)), integers)
        if scores != "model":
            clean = _ending_in(clean, scores)
        return clean if preprocessing in (None, PIXELS) else _after(preprocessing, clean)


def unfolded(model: keras.Model, scores: Scores) -> keras.Model:
    """The model that a file with these scores is compared with: `model` in float32, not folded.

    A model in half precision differs more from its float32 copy than the file does. See `prepare`.
    """
    if scores == "model":
        return in_float32(model)
    with float32_policy():
        return _ending_in(float32_copy(with_one_output(model)), scores)


def _ending_in(model: keras.Model, scores: Scores) -> keras.Model:
    """Makes a model end in logits or probabilities: changes `model`, or wraps it."""
    last = output_operations(model)[-1]
    activation, linear = probability_activation(model), keras.activations.linear
    plain = isinstance(last, keras.Layer) and getattr(last, "activation", linear) is linear
    if not activation and not plain:
        raise InputError(
            f"scores={scores!r} needs a model that ends in a layer without activation or with"
            f" softmax or sigmoid; {model.name} ends in {last.name!r}."
        )
    if scores == "probabilities":
        if activation:
            return model
        activation = "sigmoid" if model.outputs[0].shape[-1] == 1 else "softmax"
        end = keras.layers.Activation(activation, name="probabilities")
        return keras.Model(model.inputs[0], end(model.outputs[0]), name=model.name)
    if not isinstance(last, keras.layers.Softmax):
        if activation:
            last.activation = linear
        return model
    if last is not output_operations(model)[0]:
        raise InputError(
            f"scores='logits' cannot remove {last.name!r}, which is in a model inside the"
            " model; leave it out of that model."
        )
    return keras.Model(model.inputs[0], last.input, name=model.name)


def _after(preprocessing: Preprocessing, model: keras.Model) -> keras.Model:
    shape = image_shape(model)
    channels = shape[-1]
    if not preprocessing.takes(channels):
        raise InputError(
            f"preprocessing has mean {preprocessing.mean} and scale {preprocessing.scale}, which do"
            f" not fit the {channels} channels of model, {shape}."
        )
    image = keras.Input(shape, name="pixels")
    layer = as_convolution(preprocessing, channels, "preprocessing")
    return keras.Model(image, model(layer(image)), name=model.name)
