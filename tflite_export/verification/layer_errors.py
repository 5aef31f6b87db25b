"""Which layers of a file lose the most against the float model."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import recipe
from ai_edge_quantizer.quantizer import Quantizer, ValidationErrorMetric

from keras_archs.analysis.classifier import image_shape, output_operations
from keras_archs.errors import InputError
from keras_archs.graph import inner_layers
from keras_archs.preprocessing import Preprocessing
from keras_archs.transforms.quantization.quantize_aware import is_quantize_aware

from ..calibration import as_seen
from ..lowering.lower import lower
from ..lowering.prepare import prepare
from ..lowering.quantize import quiet, signature
from ..runtime.classifier import Classifier, best_class
from ..runtime.images import as_batch
from ..settings import CALIBRATED, ExportSettings, Quantize, Scores
from ..tflite_file.graph import Graph, Operator

IMAGES = 32
"""Images that losses are measured on; each layer is run on all of them."""

_RECIPES = {
    "int8": recipe.static_wi8_ai8,
    "int16x8": recipe.static_wi8_ai16,
    "dynamic": recipe.dynamic_legacy_wi8_afp32,  # small weights stay in float, as in TensorFlow's
    "weight_int8": recipe.weight_only_wi8_afp32,
    # Depthwise convolutions, for which LiteRT has no int4, are int8 there.
    "weight_int4": lambda: [*recipe.weight_only_wi8_afp32(), *recipe.weight_only_wi4_afp32()],
}


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


def check_layers(model: keras.Model, quantize: Quantize) -> None:
    """Tells, before the work for it is done, whether `debug` can look into a file of a model."""
    if quantize not in _RECIPES:
        raise InputError(
            f"debug (--debug) needs quantize to be one of {', '.join(_RECIPES)}, got {quantize!r}."
        )
    if is_quantize_aware(model):
        raise InputError(
            "debug: a quantization-aware model has no float file to compare with. Pass the model"
            " that it was made from."
        )


def debug(
    model: keras.Model,
    quantize: Quantize,
    content: bytes,
    images: np.ndarray,
    *,
    keep_float: Sequence[str] = (),
    scores: Scores = "model",
    preprocessing: Preprocessing | None = None,
) -> list[LayerLoss]:
    """Measures each layer that a file computes in integers, or whose weights are integers.

    Args:
        model: the model that was converted.
        quantize: kind of the file; one that quantizes to integers.
        content: the bytes of the file.
        images: floats [n, height, width, channels], preprocessed as in training; the first
            `IMAGES` of them are taken.
        keep_float: layers that the file was told to keep.
        scores: as the file was told.
        preprocessing: what the file does inside, as it was told.

    Returns:
        The layers whose quantization changes the scores, the one with the greatest loss first.
        Operations outside layers are left out: `keep_float` cannot name them.

    Raises:
        InputError: the kind has no integers, the model has no float file to compare with, or the
            images do not fit.
    """
    check_layers(model, quantize)
    settings = ExportSettings(quantize=quantize, keep_float=tuple(keep_float), scores=scores)
    images = as_batch("images", images, image_shape(model))
    return layer_losses(model, settings, content, images, preprocessing)


def layer_losses(
    model: keras.Model,
    settings: ExportSettings,
    content: bytes,
    images: np.ndarray,
    preprocessing: Preprocessing | None,
) -> list[LayerLoss]:
    """What `debug` returns, for arguments that were checked."""
    quantize = settings.quantize
    images = as_seen(images[:IMAGES], preprocessing)
    clean = prepare(
        model, scores=settings.scores, preprocessing=preprocessing, integers=quantize in CALIBRATED
    )
    whole = lower(clean, ExportSettings())
    exact = Classifier(whole).predict(images)
    span = float(np.ptp(exact) or 1)
    probabilities = Graph.read(whole).gives_probabilities()
    exact_class = best_class(exact, probabilities)
    snr = _signal_to_noise(Quantizer(whole, previous_quantized_model=content), images)
    alone = _Alone(whole, quantize, content, images)
    kept = _by_layer(
        clean, [each for each in Graph.read(content).operators if each.computes_in_float]
    )
    losses = []
    for layer, own in _by_layer(clean, Graph.read(whole).operators).items():
        # All outputs are in float where weights alone are integers: there only the caller knows.
        if layer in settings.keep_float or (quantize in CALIBRATED and layer in kept):
            continue
        found = Classifier(alone.quantized(own)).predict(images)
        losses.append(
            LayerLoss(
                layer,
                alone=float(np.sqrt(np.mean(np.square(found - exact)))) / span,
                agreement_alone=float(np.mean(best_class(found, probabilities) == exact_class)),
                noise_db=float(10 * np.log10(snr.get(own[-1].tensor, np.nan))),
            )
        )
    return sorted((each for each in losses if each.alone), key=lambda each: -each.alone)


class _Alone:
    """Makes files that have one layer of a float file quantized."""

    def __init__(
        self, whole: bytes, quantize: Quantize, content: bytes, images: np.ndarray
    ) -> None:
        self._recipe = _RECIPES[quantize]()
        self._quantizer = Quantizer(whole, self._recipe)
        with quiet():
            self._ranges = self._quantizer.calibrate(signature(images), num_threads=1)
        # These are moving averages over the images; the file's own are those that it computes with.
        for tensor in Interpreter(model_content=content).get_tensor_details():
            scale, zero_point = tensor["quantization"]
            if scale and tensor["name"] in self._ranges:
                limits = np.iinfo(tensor["dtype"])
                measured = self._ranges[tensor["name"]]
                for end, step in (("min", limits.min), ("max", limits.max)):
                    measured[end] = np.full_like(measured[end], (step - zero_point) * scale)

    def quantized(self, own: Sequence[Operator]) -> bytes:
        names = "|".join(re.escape(step.tensor) for step in own)
        # The quantizer knows an operator by the names of its outputs, each followed by a semicolon.
        # It drops the first of two parts with one expression, so their expressions differ by a "^".
        only = [
            {**part, "regex": f"{'^' * place}({names});?$"}
            for place, part in enumerate(self._recipe, start=1)
        ]
        self._quantizer.load_quantization_recipe(only)
        with quiet():
            result = self._quantizer.quantize(self._ranges, enable_progress_report=False)
        return bytes(result.quantized_model)


def _by_layer(model: keras.Model, operators: Sequence[Operator]) -> Mapping[str, list[Operator]]:
    """Operators of a file by the layer of `model`, which went into the file, that they compute."""
    layers = {layer.name: layer for layer in inner_layers(model)}
    last = [each.name for each in output_operations(model)]
    found = defaultdict(list)
    for step in operators:
        if names := sorted(step.layers(layers, last)):
            # If a convolution has fused an activation, the operator belongs to the convolution.
            owner = next((name for name in names if layers[name].weights), names[0])
            found[owner].append(step)
    return found


def _signal_to_noise(quantizer: Quantizer, images: np.ndarray) -> dict[str, float]:
    """Power of the signal by that of the noise, of each tensor that both files have."""
    with quiet():
        result = quantizer.validate(
            signature(images),
            [ValidationErrorMetric.SNR],
            use_xnnpack=False,  # a delegate keeps what is inside of it to itself
            num_threads=1,
        )
    return {name: each["snr"] for name, each in result.get_all_tensor_results().items()}
