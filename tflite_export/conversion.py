"""From a Keras model to a TFLite file."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_archs.errors import InputError, did_you_mean
from keras_archs.files import atomic_write, check_target
from tflite_export.images import check_images

Quantize = Literal["none", "float16", "dynamic", "int8"]
KINDS: tuple[Quantize, ...] = get_args(Quantize)

# Fewer images leave the ranges of the activations, and with them the accuracy, to chance.
MIN_REPRESENTATIVE = 50


@dataclass(frozen=True)
class Conversion:
    """A TFLite file in memory.

    Attributes:
        quantize: one of `KINDS`.
        content: the bytes of the file.
    """

    quantize: Quantize
    content: bytes

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the file whole or not at all, and returns its path.

        Raises:
            InputError: the folder is missing or cannot be written to, or `path` exists and
                `overwrite` is False.
        """
        path = Path(path)
        check_target(path, overwrite)
        atomic_write(path, self.content)
        return path


def convert(
    model: keras.Model,
    quantize: Quantize = "none",
    *,
    representative: np.ndarray | None = None,
) -> Conversion:
    """Converts an image classifier to a TFLite file for one image at a time.

    Args:
        model: a functional Keras model of one input, [n, height, width, channels] with fixed
            sizes, and one output, [n, classes]. A model in mixed precision is converted in
            float32. The model is left as it is.
        quantize: "none" keeps float32; "float16" stores the weights in half the bytes; "dynamic"
            stores them as int8 and computes the activations' ranges for each image; "int8" has
            weights, activations, input and output in integers and nothing in float.
        representative: for "int8" only, float32 images [n, height, width, channels], at least 50,
            preprocessed as in training: the activations' ranges are measured on them.

    Raises:
        InputError: `quantize` is unknown, `model` has another number of inputs or outputs or
            sizes that are not fixed, `representative` is missing, out of place or unfit, or "int8"
            is asked for a model with an operation that has no integer version. An operation that
            TFLite lacks altogether ends in the converter's own error, which names it.
    """
    if quantize not in KINDS:
        raise InputError(
            f"quantize must be one of {', '.join(KINDS)}, got {quantize!r}."
            + did_you_mean(str(quantize), KINDS)
        )
    shape = _image_shape(model)
    if quantize == "int8":
        _check_representative(representative, shape)
    elif representative is not None:
        raise InputError(f"representative goes with quantize='int8' only, got {quantize!r}.")

    converter = _converter(_in_float32(model), shape)
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
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
    if quantize == "int8":
        _check_integer(content)
    return Conversion(quantize, content)


def _image_shape(model: keras.Model) -> tuple[int, int, int]:
    """The [height, width, channels] that `model` takes; InputError if it is no such classifier."""
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


def _check_representative(images: np.ndarray | None, shape: tuple[int, int, int]) -> None:
    if images is None:
        raise InputError(
            "representative is missing: quantize='int8' needs float32 images of shape"
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


def _in_float32(model: keras.Model) -> keras.Model:
    """`model` itself or, if it computes in half precision, a float32 copy with its weights."""
    if all(layer.compute_dtype not in ("float16", "bfloat16") for layer in model.layers):
        return model

    def rebuild(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if "dtype" in config:  # not so for bare operations such as an addition
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=rebuild, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def _converter(model: keras.Model, shape: tuple[int, int, int]) -> tf.lite.TFLiteConverter:
    """A converter of `model` for a batch of one image.

    `from_keras_model` and a plain SavedModel keep the batch open. Networks that reshape then
    compute the new shape anew for each image, which cuts the graph in pieces for XNNPACK, and each
    file is a little larger; going through a SavedModel also takes twice as long.
    """
    specification = tf.TensorSpec((1, *shape), tf.float32)
    serve = tf.function(
        lambda image: model(image, training=False),
        input_signature=[specification],
        autograph=False,
    )
    # Weights become constants, and batch norms part of the convolutions, only if the converter can
    # reach them from a module; Keras' variables hide TensorFlow's from it.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    return tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], module)


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
