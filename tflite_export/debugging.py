"""Which layers of a file lose the most against the float model."""

import contextlib
import io
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import recipe
from ai_edge_quantizer.quantizer import Quantizer, ValidationErrorMetric

from keras_archs.errors import InputError
from keras_archs.graph import inner_layers
from keras_archs.preprocessing import Preprocessing

from .calibration import as_seen
from .classifier import Classifier, best_class
from .fake_quantization.model import is_quantize_aware
from .file_graph import Graph
from .images import as_batch
from .lowering import CALIBRATED, Quantize, lower
from .preparing import Scores, ending, image_shape, prepare
from .steps import Step, steps

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
            f"quantize={quantize!r} has no integers; those with them are {', '.join(_RECIPES)}."
        )
    if is_quantize_aware(model):
        raise InputError(
            "debug: a model by quantize_aware has no float file to compare with; give the model"
            " that it was made of."
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
        Operations that are no layers have no name to keep them in float by and are left out.

    Raises:
        InputError: the kind has no integers, the model has no float file to compare with, or the
            images do not fit.
    """
    check_layers(model, quantize)
    images = as_batch("images", images, image_shape(model))
    images = as_seen(images[:IMAGES], preprocessing)
    clean = prepare(
        model, scores=scores, preprocessing=preprocessing, integers=quantize in CALIBRATED
    )
    whole = lower(clean, "none")
    exact = Classifier(whole).predict(images)
    span = float(np.ptp(exact) or 1)
    probabilities = Graph.read(whole).gives_probabilities()
    exact_class = best_class(exact, probabilities)
    snr = _signal_to_noise(Quantizer(whole, previous_quantized_model=content), images)
    alone = _Alone(whole, quantize, content, images)
    kept = _by_layer(clean, [step for step in steps(content) if step.computes_in_float])
    losses = []
    for layer, own in _by_layer(clean, steps(whole)).items():
        # All outputs are in float where weights alone are integers: there only the caller knows.
        if layer in keep_float or (quantize in CALIBRATED and layer in kept):
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
        with _quiet():
            self._ranges = self._quantizer.calibrate(_signature(images), num_threads=1)
        # These are moving averages over the images; the file's own are those that it computes with.
        for tensor in Interpreter(model_content=content).get_tensor_details():
            scale, zero_point = tensor["quantization"]
            if scale and tensor["name"] in self._ranges:
                limits = np.iinfo(tensor["dtype"])
                measured = self._ranges[tensor["name"]]
                for end, step in (("min", limits.min), ("max", limits.max)):
                    measured[end] = np.full_like(measured[end], (step - zero_point) * scale)

    def quantized(self, own: Sequence[Step]) -> bytes:
        names = "|".join(re.escape(step.tensor) for step in own)
        # The quantizer knows an operator by the names of its outputs, each with a semicolon behind.
        # Of two parts with one expression it would drop the first, so theirs differ by a "^".
        only = [
            {**part, "regex": f"{'^' * place}({names});?$"}
            for place, part in enumerate(self._recipe, start=1)
        ]
        self._quantizer.load_quantization_recipe(only)
        with _quiet():
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
    with _quiet():
        result = quantizer.validate(
            _signature(images),
            [ValidationErrorMetric.SNR],
            use_xnnpack=False,  # a delegate keeps what is inside of it to itself
            num_threads=1,
        )
    return {name: each["snr"] for name, each in result.get_all_tensor_results().items()}


def _signature(images: np.ndarray) -> dict[str, list[dict[str, np.ndarray]]]:
    return {"serving_default": [{"image": image[None]} for image in images]}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars, and without warnings that debugging takes memory."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        yield
