"""TensorFlow's converter, made ready for a Keras model, and its refusals in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from keras_archs.errors import InputError


def make_converter(
    model: keras.Model, shape: tuple[int | None, int, int, int]
) -> tf.lite.TFLiteConverter:
    """A converter of `model` for a batch of images.

    `from_keras_model` keeps the batch open. Networks that reshape then compute the new shape anew
    for each image, which cuts the graph in pieces for XNNPACK, and each file is a little larger.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": model(image, training=False)}

    function = tf.function(
        serve, input_signature=[tf.TensorSpec(shape, tf.float32, "image")], autograph=False
    )
    # Weights become constants, and batch norms part of the convolutions, only if the converter can
    # reach them from a module; Keras' variables hide TensorFlow's from it.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    concrete = function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)


@contextmanager
def built_in_alone() -> Iterator[None]:
    """Names the operations for which TFLite has no built-in operator, if the converter does.

    Raises:
        InputError: there are such operations.
    """
    try:
        yield
    except Exception as error:  # the converter's own class is not public
        lists = re.findall(r"(?:TF Select|Custom) ops: (.+)", str(error))
        if not lists:
            raise
        raise InputError(
            "model has operations that TFLite has no built-in operator for:"
            f" {', '.join(lists)}. Use layers without them."
        ) from error
