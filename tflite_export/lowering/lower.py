"""Lowers a Keras model to the bytes of a TFLite file."""

import keras
import numpy as np
import tensorflow as tf

from keras_archs.analysis.classifier import image_shape
from keras_archs.errors import InputError
from keras_archs.preprocessing import Preprocessing
from keras_archs.transforms.quantization.dead_filters import rescale_dead_filters
from keras_archs.transforms.quantization.quantize_aware import is_quantize_aware

from ..settings import (
    CALIBRATED,
    ExportSettings,
    Io,
)
from ..tflite_file.graph import Graph
from .converter import built_in_alone, make_converter
from .flatbuffer import with_uint8_ends
from .from_aware import to_int8
from .prepare import prepare
from .quantize import Keep, keeper, quantize_by_recipe, quantize_calibrated


def lower(
    model: keras.Model,
    settings: ExportSettings,
    *,
    representative: np.ndarray | None = None,
    preprocessing: Preprocessing | None = None,
) -> bytes:
    """Converts an image classifier to a TFLite file of built-in operators.

    The file has the signature "serving_default" with an input "image" and an output "scores".
    `checks.check_model` and `checks.check_representative` have passed the arguments.

    Args:
        model: a functional Keras model of one input, [n, height, width, channels] with fixed
            sizes, and one output, [n, classes], in any precision. It is not changed.
        settings: only `quantize`, `keep_float`, `io`, `batch` and `scores` are used here.
            "none" keeps float32. "float16" stores the weights in half the bytes, "weight_int8" in
            a quarter and "weight_int4" in about an eighth (depthwise ones in a quarter); all three
            compute in float. "dynamic" has int8 weights and computes the ranges of activations for
            each image. "int8" has weights, activations, input and output in integers. "int16x8"
            has int8 weights and int16 activations, and leaves operators that ai-edge-quantizer
            cannot convert to int16 in float (such as ELU). The layers in `keep_float` stay in
            float32 together with what the converter fuses into their operators, such as an
            activation.
        representative: float32 images [n, height, width, channels] as `model` takes them, for
            "int8" and "int16x8": the ranges of activations are measured on them. A model by
            `quantize_aware` has its own ranges and needs none.
        preprocessing: what `model` expects of its images, to be done inside the file. The file
            then takes pixels of 0..255 in RGB order; with io="uint8" as they are in an image file.

    Raises:
        InputError: "int8" is asked for a model with an operation that has no integer version, or
            the model does not convert. The error's cause then has the converter's whole message.
    """
    kind, batch, shape = settings.quantize, settings.batch, image_shape(model)
    io, keep_float = settings.io or "int8", settings.keep_float
    if is_quantize_aware(model):
        content = to_int8(model, io, batch)
        _check_integer(content, set())
        return content
    clean = prepare(
        model,
        scores=settings.scores,
        preprocessing=preprocessing,
        integers=kind in CALIBRATED,
    )
    if representative is not None and preprocessing is not None:
        representative = _pixels(representative, preprocessing)
    if representative is not None and kind == "int8":
        clean = rescale_dead_filters(clean, representative, keep_float)
    keep = keeper(clean, keep_float) if keep_float else None
    with built_in_alone():
        converter = make_converter(clean, (batch, *shape))
        if kind.startswith("weight") or kind == "int16x8" or (kind == "dynamic" and keep):
            return quantize_by_recipe(converter.convert(), kind, keep, representative)
        if kind != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            assert representative is not None
            converter.representative_dataset = lambda: ([image[None]] for image in representative)
            return _int8(converter, representative, io, keep)
        return converter.convert()


def _int8(
    converter: tf.lite.TFLiteConverter, representative: np.ndarray, io: Io, keep: Keep | None
) -> bytes:
    content = quantize_calibrated(converter, representative, keep=keep, float_ends=io == "float32")
    _check_integer(content, set(keep(content)) if keep else set())
    return with_uint8_ends(content) if io == "uint8" else content


def _pixels(representative: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Converts representative images to pixels; sets the first value to 0, the last one to 255.

    So the scale of a quantized input is 1 for any images.
    """
    pixels = np.clip(preprocessing.undo(representative), 0, 255)
    pixels.flat[0], pixels.flat[-1] = 0, 255
    return pixels


def _check_integer(content: bytes, kept: set[str]) -> None:
    """Raises an InputError if an operator that is not in `kept` computes in float.

    The converter keeps operations without an int8 version in float.
    """
    left = [
        operator.tensor
        for operator in Graph.read(content).operators
        if operator.computes_in_float and operator.tensor not in kept
    ]
    if left:
        raise InputError(
            "model has operations without an integer version, which quantize='int8' needs; left in"
            f" float: {', '.join(left[:3])}. Use quantize='dynamic' or another layer."
        )
