"""Training that knows of int8: a float32 network that computes as its TFLite file will.

`quantize_aware` makes it of a trained one, any training goes on with it, and `to_int8` writes it.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_archs.errors import InputError

from ..calibration import check_real
from ..converting import built_in_alone, make_converter
from ..flatbuffer import with_kernels_in_reach
from ..images import as_batch
from ..preparing import image_shape
from ..reach import BATCH, in_reach
from .flattening import flatten
from .layers import FakeQuantize, exporting, observing
from .rewriting import rewrite


def quantize_aware(model: keras.Model, representative: np.ndarray | None = None) -> keras.Model:
    """A copy of a trained classifier that computes, in float32, what its int8 file will.

        aware = tflite_export.quantize_aware(model, images[:300])
        aware.compile("adam", "categorical_crossentropy")
        aware.fit(...)  # a few epochs at a small learning rate
        aware.save("aware.keras")

    Batch norms are part of the convolutions, as in the file, and dropout is gone. Kernels are
    rounded to int8 by output channel, biases to int32, and each tensor that the file will hold to
    256 steps of a range that moves while training, but not beyond the ends of a sigmoid or swish
    that takes the tensor. Gradients pass as if nothing had been rounded.

    Args:
        model: a functional classifier of any precision; it stays as it is.
        representative: float32 images [n, height, width, channels] as the model takes them, such
            as 300 training images: the ranges to start with. Without them all ranges are empty,
            for a model whose weights are loaded next.

    Returns:
        A functional model, not compiled, with the layers of `fuse(model)` under their names. It
        can be trained, saved, loaded (where `tflite_export.fake_quantization` is imported) and
        converted, as it is: its file takes none of `pixels`, `scores`, `keep_float` and `auto`. It
        can be cut behind a `FakeQuantize` layer, `keras.Model(aware.input, layer.output)`, and
        before what follows, `keras.Model(layer.output, aware.output)`, where nothing goes around
        that layer; other layers take the range of their input besides, and concatenation and a ReLU
        of its own that of their output.

        It rounds as an interpreter does by default, with XNNPACK, to the last bit: logits are on
        the same step as the file's. In a deep network a single value on another step would move
        many behind it. So they are off by one to five steps on the average where TFLite's own
        kernels compute, which round twice: without XNNPACK, and behind products of matrices and
        softmax in the midst of a network, as of a non-local block.

        Refused are layers without an int8 version or none known here: local response normalisation
        (inceptionv1 without batch norm), layer normalisation (gcresnet) and self-attention with
        weights of its own (aaresnet, botnet, coatnet).

    Raises:
        InputError: it is no such classifier, see `image_shape`, or has a layer that cannot be
            trained for int8, which is named;
            `representative` does not fit or is noise; or Keras' backend is not
            TensorFlow, whose operation for ranges the converter reads.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "quantize_aware needs the TensorFlow backend, whose operation for ranges TFLite's"
            f" converter reads; Keras runs on {keras.backend.backend()}."
        )
    shape = image_shape(model)
    if is_quantize_aware(model):
        raise InputError("model is quantisation-aware already; give the float one.")
    if representative is not None:
        representative = as_batch("representative", representative, shape)
        check_real("representative", representative)
    flat = flatten(model)
    if representative is None:
        return rewrite(flat)
    aware = rewrite(in_reach(flat, representative))
    calibrate(aware, representative)
    return aware


def calibrate(model: keras.Model, images: np.ndarray) -> None:
    """Widens the ranges of a quantisation-aware model to all that they see of images."""
    with observing():
        for start in range(0, len(images), BATCH):
            model(images[start : start + BATCH], training=False)


def is_quantize_aware(model: keras.Model) -> bool:
    """Whether a model has ranges of its own."""
    return any(isinstance(layer, FakeQuantize) for layer in model.layers)


def to_int8(model: keras.Model, io: str = "int8", batch: int | None = 1) -> bytes:
    """The TFLite file of a quantisation-aware model.

    Args:
        model: by `quantize_aware`.
        io: type of the input and the output: "int8", "uint8" or "float32".
        batch: images at a time, None for any number.
    """
    with exporting():
        converter = make_converter(model, (batch, *model.input_shape[1:]))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)
    with built_in_alone(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return with_kernels_in_reach(converter.convert())
