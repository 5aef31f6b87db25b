"""TFLite files that several tests read, each made once."""

import functools
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_archs.analysis.classifier import image_shape
from tests.tflite_export.networks import SHAPE, build, stripes
from tflite_export import Metadata, convert
from tflite_export.lowering import lower as lowering
from tflite_export.lowering.checks import check_model, check_representative
from tflite_export.runtime.images import as_batch
from tflite_export.settings import ExportSettings

NAMES = ("lying", "standing", "rising", "falling")


@functools.cache
def file_of(kind):
    representative = stripes(60)[0] if kind == "int8" else None
    return convert(_network(), kind, representative=representative).content


@functools.cache
def uint8_file():
    """Quantized in whole, with bytes for pixels and scores."""
    converter = tf.lite.TFLiteConverter.from_keras_model(_network())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in stripes(60)[0])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    with warnings.catch_warnings(action="ignore"):  # as conversion.py does
        return converter.convert()


@functools.cache
def open_batch_file():
    return tf.lite.TFLiteConverter.from_keras_model(_network()).convert()


@functools.cache
def _network():
    keras.utils.set_random_seed(0)
    return build()


def metadata(**changes):
    facts = {
        "class_names": NAMES,
        "mean": (123.675, 116.28, 103.53),
        "scale": (58.395, 57.12, 57.375),
        "bgr": False,
        "image_shape": SHAPE,
        "quantize": "none",
        "versions": {"keras": keras.__version__},
    }
    return Metadata(**{**facts, **changes})


def pixels(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def lower(model, quantize="none", *, representative=None, preprocessing=None, **settings):
    """The bytes of a file that is compared with nothing; arguments are checked as by `convert`."""
    chosen = ExportSettings(quantize=quantize, **settings)
    check_model(model, chosen, preprocessing)
    if representative is not None:
        representative = as_batch("representative", representative, image_shape(model))
    check_representative(model, chosen, representative)
    return lowering.lower(model, chosen, representative=representative, preprocessing=preprocessing)
