"""From a Keras model to the bytes of a TFLite file."""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from keras_archs.errors import InputError, did_you_mean
from keras_archs.graph import inner_layers
from keras_archs.preprocessing import Preprocessing
from tflite_export.flatbuffer import steps, with_uint8_ends
from tflite_export.images import check_images
from tflite_export.preparing import Scores, ending, image_shape, prepare
from tflite_export.quantizing import quantize_but, quantize_weights

__all__ = ["KINDS", "MIN_REPRESENTATIVE", "Quantize", "image_shape", "lower", "prepare"]

Quantize = Literal["none", "float16", "dynamic", "int8", "int16x8", "weight_int8", "weight_int4"]
KINDS: tuple[Quantize, ...] = get_args(Quantize)
Io = Literal["float32", "int8", "uint8"]

# Kinds whose activations have ranges that are measured beforehand, and that can leave layers out.
_CALIBRATED: tuple[Quantize, ...] = ("int8", "int16x8")
_SELECTIVE: tuple[Quantize, ...] = ("dynamic", "int8", "weight_int8", "weight_int4")
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
    scores: Scores = "model",
    preprocessing: Preprocessing | None = None,
) -> bytes:
    """Converts an image classifier to a TFLite file of built-in operators.

    The file has the signature "serving_default" with an input "image" and an output "scores".

    Args:
        model: a functional Keras model of one input, [n, height, width, channels] with fixed
            sizes, and one output, [n, classes], in any precision. It is left as it is.
        kind: "none" keeps float32; "float16" stores the weights in half the bytes; "weight_int8"
            and "weight_int4" in a quarter and about an eighth, the depthwise ones in a quarter.
            These compute in float. "dynamic" has int8 weights and computes the activations'
            ranges for each image; "int8" has weights, activations, input and output in integers
            and nothing in float; "int16x8" has int8 weights and int16 activations, and leaves in
            float what TFLite has no such version of (hard-swish).
        representative: for "int8" and "int16x8" only, float32 images [n, height, width, channels],
            at least 50, as `model` takes them: the activations' ranges are measured on them.
        keep_float: for "dynamic", "int8" and the weight kinds, names of layers or of models inside
            `model` that stay in float32. What they are joined with in the file, such as a
            convolution with the activation behind it, stays with them.
        io: type of the input and output of kind "int8": "int8", the default, "uint8" or "float32".
            All other kinds have float32.
        batch: images that the file takes at once: 1, or None for any number.
        scores: "model" for the output of `model`, "logits" or "probabilities"; see `prepare`.
        preprocessing: what `model` expects of its images, to be done inside the file, which then
            takes pixels of 0..255 in RGB order; with io="uint8" as they are in an image file.

    Raises:
        InputError: an argument is unfit, or "int8" is asked for a model with an operation that
            has no integer version. An operation that TFLite lacks altogether ends in the
            converter's own error, which names it.
    """
    _check_choices(kind, io, batch, scores)
    shape = image_shape(model)
    if kind in _CALIBRATED:
        _check_representative(representative, kind, shape)
    elif representative is not None:
        raise InputError(
            f"representative goes with quantize='int8' or 'int16x8' only, got {kind!r}."
        )
    clean = prepare(model, scores=scores, preprocessing=preprocessing)
    keep = _keeper(clean, keep_float, kind)
    if representative is not None and preprocessing is not None:
        representative = _pixels(representative, preprocessing)

    converter = _converter(clean, (batch, *shape))
    if kind.startswith("weight") or (kind == "dynamic" and keep_float):
        return quantize_weights(converter.convert(), kind, keep)
    if kind != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if representative is not None:
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
    if kind == "int16x8":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]
    if kind == "int8":
        return _int8(converter, io or "int8", keep, keep_float)
    return converter.convert()


def _int8(
    converter: tf.lite.TFLiteConverter,
    io: Io,
    keep: Callable[[bytes], list[str]],
    keep_float: Sequence[str],
) -> bytes:
    if keep_float:
        content = quantize_but(converter, keep, float_ends=io == "float32")
    else:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        if io != "float32":
            converter.inference_input_type = converter.inference_output_type = tf.int8
        with warnings.catch_warnings():
            # The converter misses statistics of the input, which the representative images give.
            warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
            content = converter.convert()
    _check_integer(content, set(keep(content)) if keep_float else set())
    return with_uint8_ends(content) if io == "uint8" else content


def _check_choices(kind: str, io: str | None, batch: int | None, scores: str) -> None:
    if kind not in KINDS:
        raise InputError(
            f"quantize must be one of {', '.join(KINDS)}, got {kind!r}."
            + did_you_mean(str(kind), KINDS)
        )
    if io not in (None, *get_args(Io)):
        raise InputError(f"io must be one of {', '.join(get_args(Io))}, got {io!r}.")
    if kind != "int8" and io not in (None, "float32"):
        raise InputError(f"io={io!r} goes with quantize='int8' only, got {kind!r}.")
    if batch not in (1, None):
        raise InputError(f"batch must be 1, or None for any number of images, got {batch!r}.")
    if scores not in get_args(Scores):
        raise InputError(f"scores must be one of {', '.join(get_args(Scores))}, got {scores!r}.")


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


def _pixels(representative: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Representative images as pixels, two of which span 0 to 255.

    So one step of a quantized input is one of a pixel, whatever the images.
    """
    pixels = np.clip(preprocessing.undo(representative), 0, 255)
    pixels[0, 0, :2] = [[0], [255]]
    return pixels


def _keeper(
    model: keras.Model, keep_float: Sequence[str], kind: Quantize
) -> Callable[[bytes], list[str]]:
    """A function from a file of `model` to the tensors whose steps are to stay in float.

    Raises:
        InputError: `kind` leaves no layer out, or a name is no layer of `model`.
    """
    if isinstance(keep_float, str):
        raise InputError(f"keep_float must be a list of names of layers, got {keep_float!r}.")
    if keep_float and kind not in _SELECTIVE:
        raise InputError(
            f"keep_float goes with quantize={', '.join(map(repr, _SELECTIVE))} only, got {kind!r}."
        )
    known = {layer.name for layer in inner_layers(model)}
    for name in keep_float:
        if name not in known:
            raise InputError(
                f"keep_float: {name!r} is no layer of the model as it is in a file, with batch"
                f" norms folded and dropout left out.{did_you_mean(name, known)}"
            )
    last = [each.name for each in ending(model)]

    def keep(content: bytes) -> list[str]:
        every = [(step.tensor, step.layers(known, last)) for step in steps(content)]
        for name in keep_float:
            if all(name not in layers for _, layers in every):
                raise InputError(
                    f"keep_float: {name!r} computes nothing of its own in the file; name the"
                    " layer before it."
                )
        return [tensor for tensor, layers in every if not layers.isdisjoint(keep_float)]

    return keep


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


def _check_integer(content: bytes, kept: set[str]) -> None:
    """Raises an InputError if the file computes in float where it was not told to.

    The converter keeps operations without an int8 version in float.
    """
    left = [s.tensor for s in steps(content) if s.computes_in_float and s.tensor not in kept]
    if left:
        raise InputError(
            "model has operations without an integer version, which quantize='int8' needs; left in"
            f" float: {', '.join(left[:3])}. Use quantize='dynamic' or another layer."
        )
