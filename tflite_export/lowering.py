"""From a Keras model to the bytes of a TFLite file."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from keras_archs.errors import InputError, did_you_mean
from keras_archs.preprocessing import Preprocessing

from .converting import built_in_alone, make_converter
from .fake_quantization.model import is_quantize_aware, to_int8
from .flatbuffer import with_own_biases, with_uint8_ends
from .images import as_batch
from .preparing import PIXELS, Scores, image_shape, prepare
from .quantizing import Keep, keeper, quantize_calibrated, quantize_weights
from .reach import in_reach
from .steps import steps

__all__ = [
    "CALIBRATED",
    "KINDS",
    "MIN_REPRESENTATIVE",
    "SELECTIVE",
    "Io",
    "Quantize",
    "image_shape",
    "lower",
    "prepare",
]

Quantize = Literal["none", "float16", "dynamic", "int8", "int16x8", "weight_int8", "weight_int4"]
KINDS: tuple[Quantize, ...] = get_args(Quantize)
Io = Literal["float32", "int8", "uint8"]

CALIBRATED: tuple[Quantize, ...] = ("int8", "int16x8")
"""Kinds whose activations have ranges that are measured on representative images."""
SELECTIVE: tuple[Quantize, ...] = ("dynamic", "int8", "weight_int8", "weight_int4")
"""Kinds that can keep layers in float."""
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
            float what TFLite has no such version of (ELU).
        representative: for "int8" and "int16x8" only, float32 images [n, height, width, channels],
            at least 50, as `model` takes them: the activations' ranges are measured on them. A
            model by `quantize_aware`, for "int8" only, has its own and needs none.
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
            has no integer version or any kind for one that does not convert. The error's cause
            then has all that the converter says.
    """
    check_choices(kind, io, batch, scores)
    shape = image_shape(model)
    if is_quantize_aware(model):
        check_quantize_aware(
            model,
            kind,
            keep_float=bool(keep_float),
            scores=scores != "model",
            preprocessing=preprocessing not in (None, PIXELS),
        )
        content = to_int8(model, io or "int8", batch)
        _check_integer(content, set())
        return content
    representative = as_representative(representative, kind, shape)
    check_selective(kind, keep_float)
    clean = prepare(model, scores=scores, preprocessing=preprocessing, integers=kind in CALIBRATED)
    if representative is not None and preprocessing is not None:
        representative = _pixels(representative, preprocessing)
    if representative is not None and kind == "int8":
        clean = in_reach(clean, representative, keep_float)
    keep = keeper(clean, keep_float) if keep_float else None
    with built_in_alone():
        converter = make_converter(clean, (batch, *shape))
        if kind.startswith("weight") or (kind == "dynamic" and keep):
            return quantize_weights(converter.convert(), kind, keep)
        if kind != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if representative is not None:
            converter.representative_dataset = lambda: ([image[None]] for image in representative)
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int16x8":
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                tf.lite.OpsSet.TFLITE_BUILTINS,
            ]
        if kind == "int8":
            assert representative is not None
            return _int8(converter, representative, io or "int8", keep)
        content = converter.convert()
        return with_own_biases(content) if kind == "int16x8" else content


def _int8(
    converter: tf.lite.TFLiteConverter, representative: np.ndarray, io: Io, keep: Keep | None
) -> bytes:
    content = quantize_calibrated(converter, representative, keep=keep, float_ends=io == "float32")
    _check_integer(content, set(keep(content)) if keep else set())
    return with_uint8_ends(content) if io == "uint8" else content


def check_choices(kind: str, io: str | None, batch: int | None, scores: str) -> None:
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


def check_quantize_aware(model: keras.Model, kind: Quantize, **changes: bool) -> None:
    """Raises an InputError if a model by `quantize_aware` is to become another file than its own.

    Args:
        model: any model.
        kind: of the file.
        **changes: by the names of settings, whether they are to change it.
    """
    if not is_quantize_aware(model):
        return
    if kind != "int8":
        raise InputError(f"model has been trained for quantize='int8', got {kind!r}.")
    for name, changed in changes.items():
        if changed:
            raise InputError(
                f"{name} does not go with a model that has been trained for int8 (quantize_aware,"
                " train --qat), whose file computes what was trained. Leave it out, or export the"
                " model from before that training."
            )


def check_selective(kind: Quantize, keep_float: Sequence[str]) -> None:
    if isinstance(keep_float, str) or not isinstance(keep_float, Iterable):
        raise InputError(f"keep_float must be a list of names of layers, got {keep_float!r}.")
    if keep_float and kind not in SELECTIVE:
        raise InputError(
            f"keep_float goes with quantize={', '.join(map(repr, SELECTIVE))} only, got {kind!r}."
        )


def as_representative(
    images: Any, kind: Quantize, shape: tuple[int, int, int]
) -> np.ndarray | None:
    """Images to measure the ranges of a kind on, as an array; None for a kind without.

    Raises:
        InputError: they are missing, too few or all of one colour, or the kind takes none.
    """
    if kind not in CALIBRATED:
        if images is not None:
            raise InputError(
                f"representative goes with quantize='int8' or 'int16x8' only, got {kind!r}."
            )
        return None
    if images is None:
        raise InputError(
            f"representative is missing: quantize={kind!r} needs float32 images of shape"
            f" [n, {', '.join(map(str, shape))}], n >= {MIN_REPRESENTATIVE}, preprocessed as in"
            " training."
        )
    images = as_batch("representative", images, shape)
    if len(images) < MIN_REPRESENTATIVE:
        raise InputError(
            f"representative must hold at least {MIN_REPRESENTATIVE} images, got {len(images)}."
        )
    if images.min() == images.max():
        raise InputError(f"representative must be real images, got {images.min()} everywhere.")
    return images


def _pixels(representative: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Representative images as pixels, of which the first and the last are black and white.

    So one step of a quantized input is one of a pixel, whatever the images.
    """
    pixels = np.clip(preprocessing.undo(representative), 0, 255)
    pixels.flat[0], pixels.flat[-1] = 0, 255
    return pixels


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
