"""Quantisation-aware training: a float32 network that computes what its int8 file computes.

`quantize_aware` makes such a network from a trained one. Any training loop can train it, and
`tflite_export` writes the file.
"""

import keras
import numpy as np

from ...analysis.classifier import image_shape
from ...analysis.real_images import check_real
from ...errors import InputError
from ..flatten import flatten
from .dead_filters import BATCH, rescale_dead_filters
from .ranges import FakeQuantize, observing
from .rewrite import rewrite


def quantize_aware(model: keras.Model, representative: np.ndarray | None = None) -> keras.Model:
    """A copy of a trained classifier that computes in float32 what its int8 file computes.

        aware = tflite_export.quantize_aware(model, images[:300])
        aware.compile("adam", "categorical_crossentropy")
        aware.fit(...)  # a few epochs at a small learning rate
        aware.save("aware.keras")

    Batch norms are folded into the convolutions, as in the file, and dropout is removed. Kernels
    are rounded to int8 with a scale for each output channel, biases to int32, and each tensor of
    the file to the 256 levels of its range. Ranges move during training. They do not extend beyond
    the point where a sigmoid or swish, as the only user of the tensor, saturates. Gradients pass
    through the rounding unchanged.

    Args:
        model: a functional classifier of any precision; it is not changed.
        representative: float32 images [n, height, width, channels] as the model takes them, such
            as 300 training images. They set the initial ranges. Without them all ranges are empty,
            for a model whose weights are loaded next.

    Returns:
        A functional model, not compiled, with the layers of `fuse(model)` under their names. It
        can be trained, saved, loaded (where `keras_archs` is imported) and converted. Its file
        takes none of `pixels`, `scores`, `keep_float` and `auto`.

        The model can be cut after a `FakeQuantize` layer, `keras.Model(aware.input,
        layer.output)`. It can be cut before the next layers, `keras.Model(layer.output,
        aware.output)`, if no connection goes around that layer: other layers also take the range
        of their input, and concatenation and a separate ReLU also take the range of their output.

        The model rounds as an interpreter with XNNPACK, the default, to the last bit: logits have
        the same level as in the file. TFLite's own kernels round twice. They compute without
        XNNPACK, and after matrix products and softmax inside a network, as in a non-local block.
        One value on another level changes many later values in a deep network, so logits then
        differ by one to five levels on average.

        Layers without a supported int8 version are refused: local response normalisation
        (inceptionv1 without batch norm), layer normalisation (gcresnet) and self-attention with
        weights of its own (aaresnet, botnet, coatnet).

    Raises:
        InputError: `model` is not a classifier, see `image_shape`; it has a layer that cannot be
            trained for int8, which the error names; `representative` does not fit, or is noise; or
            Keras' backend is not TensorFlow, from whose operations the converter reads the ranges.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "quantize_aware needs Keras on TensorFlow: TFLite's converter reads the ranges from"
            f" TensorFlow's operations. Keras runs on {keras.backend.backend()}."
        )
    image_shape(model)
    if is_quantize_aware(model):
        raise InputError("model is quantisation-aware already; give the float model.")
    if representative is not None:
        check_real("representative", representative)
    flat = flatten(model)
    if representative is None:
        return rewrite(flat)
    aware = rewrite(rescale_dead_filters(flat, representative))
    calibrate(aware, representative)
    return aware


def calibrate(model: keras.Model, images: np.ndarray) -> None:
    """Widens the ranges of a quantisation-aware model to all values that `images` give."""
    with observing():
        for start in range(0, len(images), BATCH):
            model(images[start : start + BATCH], training=False)


def is_quantize_aware(model: keras.Model) -> bool:
    """Whether a model was made by `quantize_aware`."""
    return any(isinstance(layer, FakeQuantize) for layer in model.layers)
