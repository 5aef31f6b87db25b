"""Makes the int8 file of a model by `quantize_aware`."""

import warnings

import keras
import tensorflow as tf

from keras_archs.transforms.quantization.ranges import exporting

from .converter import built_in_alone, make_converter
from .flatbuffer import zero_refused_kernels


def to_int8(model: keras.Model, io: str = "int8", batch: int | None = 1) -> bytes:
    """The TFLite file of a quantisation-aware model.

    Args:
        model: a model by `quantize_aware`.
        io: type of the input and the output: "int8", "uint8" or "float32".
        batch: images that the file takes at once; None for any number.
    """
    with exporting():
        converter = make_converter(model, (batch, *model.input_shape[1:]))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)
    with built_in_alone(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return zero_refused_kernels(converter.convert())
