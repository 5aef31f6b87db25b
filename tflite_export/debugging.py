"""Which layers of a file lose the most against the float model."""

import contextlib
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from ai_edge_quantizer import recipe
from ai_edge_quantizer.quantizer import Quantizer, ValidationErrorMetric

from keras_archs.errors import InputError
from keras_archs.graph import inner_layers
from tflite_export.classifier import Classifier
from tflite_export.flatbuffer import Step, steps
from tflite_export.images import check_images
from tflite_export.lowering import Quantize, lower
from tflite_export.preparing import ending, image_shape, prepare

IMAGES = 32
"""Images that losses are measured on; each layer is run on all of them."""

_RECIPES = {
    "int8": recipe.static_wi8_ai8,
    "int16x8": recipe.static_wi8_ai16,
    "dynamic": recipe.dynamic_wi8_afp32,
    "weight_int8": recipe.weight_only_wi8_afp32,
    "weight_int4": recipe.weight_only_wi4_afp32,
}
CALIBRATED: tuple[Quantize, ...] = ("int8", "int16x8")
"""Kinds whose activations have ranges that are measured beforehand."""



@dataclass(frozen=True)
class LayerLoss:
    """What the quantization of one layer does.

    Attributes:
        layer: name of the Keras layer.
        alone: RMS error of the scores if this layer alone is quantized, as a share of their range.
        agreement_alone: fraction of the images that such a file puts into the same class.
        noise_db: signal to noise of the layer's output in the file itself, in decibels, with all
            that the layers before it have lost.
    """

    layer: str
    alone: float
    agreement_alone: float
    noise_db: float


def debug(
    model: keras.Model,
    quantize: Quantize,
    content: bytes,
    images: np.ndarray,
    *,
    representative: np.ndarray | None = None,
) -> list[LayerLoss]:
    """Measures each layer that a file computes in integers, or whose weights are integers.

    Args:
        model: the model that was converted.
        quantize: kind of the file; one that quantizes to integers.
        content: the bytes of the file.
        images: float32 [n, height, width, channels], preprocessed as in training; the first
            `IMAGES` of them are taken.
        representative: images that ranges are measured on, as for `convert`; `images` if None.

    Returns:
        The layers whose quantization changes the scores, the one with the greatest loss first.
        Operations that are no layers have no name to keep them in float by and are left out.

    Raises:
        InputError: the kind has no integers, or the images do not fit.
    """
    if quantize not in _RECIPES:
        raise InputError(
            f"quantize={quantize!r} has no integers; those with them are {', '.join(_RECIPES)}."
        )
    check_images("images", images, image_shape(model))
    images = images[:IMAGES]
    clean = prepare(model)
    whole = lower(clean, "none")
    exact = Classifier(whole).predict(images)
    span = float(np.ptp(exact) or 1)
    snr = _signal_to_noise(Quantizer(whole, previous_quantized_model=content), images)
    alone = _Alone(whole, quantize, images if representative is None else representative)
    kept = _by_layer(clean, [step for step in steps(content) if step.computes_in_float])
    losses = []
    for layer, own in _by_layer(clean, steps(whole)).items():
        if quantize in CALIBRATED and layer in kept:
            continue
        found = Classifier(alone.quantized(own)).predict(images)
        losses.append(
            LayerLoss(
                layer,
                alone=float(np.sqrt(np.mean(np.square(found - exact)))) / span,
                agreement_alone=float(np.mean(found.argmax(axis=1) == exact.argmax(axis=1))),
                noise_db=float(10 * np.log10(snr.get(own[-1].tensor, np.nan))),
            )
        )
    return sorted((each for each in losses if each.alone), key=lambda each: -each.alone)


class _Alone:
    """Makes files that have one layer of a float file quantized."""

    def __init__(self, whole: bytes, quantize: Quantize, images: np.ndarray) -> None:
        self._recipe = _RECIPES[quantize]()
        self._quantizer = Quantizer(whole, self._recipe)
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
            self._ranges = self._quantizer.calibrate(_signature(images), num_threads=1)

    def quantized(self, own: Sequence[Step]) -> bytes:
        names = "|".join(re.escape(step.tensor) for step in own)
        # The quantizer knows an operator by the names of its outputs, each with a semicolon behind.
        only = [{**part, "regex": f"^({names});?$"} for part in self._recipe]
        self._quantizer.load_quantization_recipe(only)
        with contextlib.redirect_stderr(io.StringIO()):
            result = self._quantizer.quantize(self._ranges, enable_progress_report=False)
        return bytes(result.quantized_model)


def _by_layer(model: keras.Model, operators: Sequence[Step]) -> Mapping[str, list[Step]]:
    """Operators of a file by the layer of `model`, which went into the file, that they compute."""
    layers = {layer.name: layer for layer in inner_layers(model)}
    last = [each.name for each in ending(model)]
    found = defaultdict(list)
    for step in operators:
        if names := sorted(step.layers(layers, last)):
            # Of a convolution and the activation that it takes in, the one that has weights.
            owner = next((name for name in names if layers[name].weights), names[0])
            found[owner].append(step)
    return found


def _signal_to_noise(quantizer: Quantizer, images: np.ndarray) -> dict[str, float]:
    """Power of the signal by that of the noise, of each tensor that both files have."""
    with contextlib.redirect_stderr(io.StringIO()):
        result = quantizer.validate(
            _signature(images),
            [ValidationErrorMetric.SNR],
            use_xnnpack=False,  # a delegate keeps what is inside of it to itself
            num_threads=1,
        )
    return {name: each["snr"] for name, each in result.get_all_tensor_results().items()}


def _signature(images: np.ndarray) -> dict[str, list[dict[str, np.ndarray]]]:
    return {"serving_default": [{"image": image[None]} for image in images]}
