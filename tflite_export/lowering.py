"""From a Keras model to the bytes of a TFLite file."""

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_archs.errors import InputError, did_you_mean
from tflite_export.images import check_images
from tflite_export.preparing import image_shape, prepare
from tflite_export.rewording import reworded

__all__ = ["KINDS", "MIN_REPRESENTATIVE", "Quantize", "image_shape", "lower", "prepare"]

Quantize = Literal["none", "float16", "dynamic", "int8", "int16x8", "weight_int8", "weight_int4"]
KINDS: tuple[Quantize, ...] = get_args(Quantize)
Io = Literal["float32", "int8", "uint8"]

# The kinds whose activations have ranges that are measured beforehand.
CALIBRATED: tuple[Quantize, ...] = ("int8", "int16x8")
# Fewer images leave the ranges of the activations, and with them the accuracy, to chance.
MIN_REPRESENTATIVE = 50


def lower(
    model: keras.Model,
    kind: Quantize = "none",
    *,
    representative: np.ndarray | None = None,
    keep_float: Sequence[str] = (),
    io: Io | None = None,
    batch: Literal[1] | None = 1,
) -> bytes:
    """Converts an image classifier to a TFLite file of built-in operators.

    The file has the signature "serving_default" with an input "image" and an output "scores".

    Args:
        model: a functional Keras model of one input, [n, height, width, channels] with fixed
            sizes, and one output, [n, classes], in any precision. It is left as it is.
        kind: one of `KINDS`.
        representative: for the kinds "int8" and "int16x8" only, float32 images
            [n, height, width, channels], at least 50, preprocessed as in training.
        keep_float: names of layers that stay in float.
        io: type of the input and output of kind "int8": "int8", the default, "uint8" or "float32".
            All other kinds have float32.
        batch: images that the file takes at once: 1, or None for any number.

    Raises:
        InputError: an argument is unfit, or an operation has no integer version. An operation that
            TFLite lacks altogether ends in the converter's own error, which names it.
    """
    _check_kind(kind)
    shape = image_shape(model)
    if kind in CALIBRATED:
        _check_representative(representative, kind, shape)
    elif representative is not None:
        raise InputError(
            f"representative goes with quantize='int8' or 'int16x8' only, got {kind!r}."
        )
    converter = _converter(reworded(prepare(model)), (batch, *shape))
    if kind != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if representative is not None:
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # The converter misses statistics of the input, which the representative images give.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        content = converter.convert()
    if kind == "int8":
        _check_integer(content)
    return content


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InputError(
            f"quantize must be one of {', '.join(KINDS)}, got {kind!r}."
            + did_you_mean(str(kind), KINDS)
        )


def _check_representative(
    images: np.ndarray | None, kind: str, shape: tuple[int, int, int]
) -> None:
    if images is None:
        raise InputError(
            f"representative is missing: quantize={kind!r} needs float32 images of shape"
            f" [n, {', '.join(map(str, shape))}], n >= {MIN_REPRESENTATIVE}, preprocessed as in"
            " training."
        )
    check_images("representative", images, shape)
    if len(images) < MIN_REPRESENTATIVE:
        raise InputError(
            f"representative must hold at least {MIN_REPRESENTATIVE} images, got {len(images)}."
        )
    if images.min() == images.max():
        raise InputError(f"representative must be real images, got {images.min()} everywhere.")


def _converter(
    model: keras.Model, shape: tuple[int | None, int, int, int]
) -> tf.lite.TFLiteConverter:
    """A converter of `model` for a batch of images.

    `from_keras_model` keeps the batch open. Networks that reshape then compute the new shape anew
    for each image, which cuts the graph in pieces for XNNPACK, and each file is a little larger.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        # The one output may come in a list or a dictionary.
        return {"scores": keras.tree.flatten(model(image, training=False))[0]}

    function = tf.function(
        serve, input_signature=[tf.TensorSpec(shape, tf.float32, "image")], autograph=False
    )
    # Weights become constants, and batch norms part of the convolutions, only if the converter can
    # reach them from a module; Keras' variables hide TensorFlow's from it.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    concrete = function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)


def _check_integer(content: bytes) -> None:
    """Raises an InputError if the file computes in float.

    The converter, limited to int8 operations, keeps those without an int8 version in float.
    """
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    left = [t["name"] for t in interpreter.get_tensor_details() if t["dtype"] == np.float32]
    if left:
        raise InputError(
            "model has operations without an integer version, which quantize='int8' needs; left in"
            f" float: {', '.join(left[:3])}. Use quantize='dynamic' or another layer."
        )
