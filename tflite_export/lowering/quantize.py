"""Quantises files; chosen layers stay in float."""

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe, recipe_manager
from ai_edge_quantizer.utils import qsv_utils

from keras_archs.analysis.classifier import output_operations
from keras_archs.errors import InputError, did_you_mean
from keras_archs.graph import inner_layers

from ..runtime.classifier import Classifier, probabilities
from ..tflite_file.graph import Graph
from .calibrated_ranges import Spread, narrowed
from .flatbuffer import zero_refused_kernels

Keep = Callable[[bytes], list[str]]
"""Gives the names of the tensors of a file whose operators stay in float."""

_FEW = 0.1
_CUTS = (0.0, 0.0), (0.0, _FEW), (1e-4, _FEW), (1e-3, _FEW)
"""Shares of a tensor's values, and of the images, that may be beyond each end of its range."""
_EVERY = qtyping.TFLOperationName.ALL_SUPPORTED
_ENDS = qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT
_IN_FLOAT = quantizer.AlgorithmName.NO_QUANTIZE


def keeper(model: keras.Model, names: Sequence[str]) -> Keep:
    """A `Keep` for some layers of a model, or of models inside it, by name.

    Raises:
        InputError: a name is not a layer of `model`. The `Keep` raises it for a layer that computes
            nothing in the file.
    """
    known = {layer.name for layer in inner_layers(model)}
    for name in names:
        if name not in known:
            raise InputError(
                f"keep_float: the model in the file has no layer {name!r}: batch norms are folded"
                f" and dropout is removed.{did_you_mean(name, known)}"
            )
    last = [layer.name for layer in output_operations(model)]

    def keep(content: bytes) -> list[str]:
        every = [
            (operator.tensor, operator.layers(known, last))
            for operator in Graph.read(content).operators
        ]
        for name in names:
            if all(name not in layers for _, layers in every):
                raise InputError(
                    f"keep_float: the layer {name!r} has no operator in the file, because it is"
                    " merged into the layer before it. Pass that layer instead."
                )
        return [tensor for tensor, layers in every if not layers.isdisjoint(names)]

    return keep


def _check_some_left(content: bytes, kept: Sequence[str], kind: str) -> None:
    """Raises an InputError if all operators of a file stay in float."""
    if len(kept) == len(Graph.read(content).operators):
        raise InputError(f"keep_float names all layers that {kind} can quantize. Leave one out.")


def quantize_by_recipe(
    content: bytes, kind: str, keep: Keep | None, images: np.ndarray | None = None
) -> bytes:
    """Quantises a float32 file, with a scale for each channel of the weights.

    Args:
        content: the file.
        kind: "weight_int8" and "weight_int4" convert the weights to float before they compute.
            With "weight_int4", dense layers and convolutions have int4 weights. Others (depthwise
            layers) have int8 weights, since LiteRT has no int4 for them. "dynamic" computes in
            int8 with the ranges of each image. "int16x8" has int8 weights and computes in int16
            with the ranges of `images`; input and output are float32.
        keep: gives the operators that stay in float, if any.
        images: representative images for "int16x8", float32 [n, height, width, channels].

    Raises:
        InputError: no operator is left for int16.
    """
    work = quantizer.Quantizer(content)
    # If two recipes match an operator, the later one applies.
    if kind == "dynamic":
        # As in TensorFlow, small kernels stay in float.
        work.load_quantization_recipe(recipe.dynamic_legacy_wi8_afp32())
    elif kind == "int16x8":
        work.load_quantization_recipe(recipe.static_wi8_ai16())
        for end in _ENDS:
            work.update_quantization_recipe(".*", end, algorithm_key=_IN_FLOAT)
    else:
        work.add_weight_only_config(".*", _EVERY, 8)
    if kind == "weight_int4":
        work.add_weight_only_config(".", _EVERY, 4)
    kept = keep(content) if keep else []
    if images is not None:
        _check_some_left(content, kept, kind)
    for tensor in kept:
        work.update_quantization_recipe(f"^{re.escape(tensor)};$", _EVERY, algorithm_key=_IN_FLOAT)
    with quiet():
        chosen = work.get_quantization_recipe()
        ranges = None if images is None else _ranges(content, chosen, images)
        result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model or b"")


def _ranges(content: bytes, chosen: Any, images: np.ndarray) -> dict[str, Any]:
    """The minimum and maximum over all images of each tensor that a recipe quantizes.

    `Quantizer.calibrate` computes moving averages instead, which clip what few images reach.
    """
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(chosen)
    work = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    work.calibrate(signature(images), manager)
    return work.get_model_qsvs()


def signature(images: np.ndarray) -> dict[str, list[dict[str, np.ndarray]]]:
    """Images, one at a time, in the form that ai-edge-quantizer takes."""
    return {"serving_default": [{"image": image[None]} for image in images]}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides progress bars, and the warning that preserving all tensors takes memory."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        yield


def quantize_calibrated(
    converter: tf.lite.TFLiteConverter,
    images: np.ndarray,
    *,
    keep: Keep | None,
    float_ends: bool,
) -> bytes:
    """Makes an int8 file; some operators stay in float if `keep` is given.

    Ranges may be narrowed, see `narrowed`. The function tries several ranges, and returns the file
    whose probabilities are closest to those in float, on average over all images. An outlier counts
    as much as any other image, and not at all if its probabilities stay the same.

    Args:
        converter: has optimizations and representative images.
        images: the representative images.
        keep: gives the operators that stay in float, if any.
        float_ends: whether input and output are float32 rather than int8.

    Raises:
        InputError: no operator is left for int8.
    """
    options = tf.lite.experimental.QuantizationDebugOptions
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        # TensorFlow leaves steps out, and shows the ranges that it has measured, in its debugger
        # alone.
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=options(fully_quantize=not float_ends),
        )
        calibrated = debugger.calibrated_model
        if keep:
            kept = keep(calibrated)
            _check_some_left(calibrated, kept, "int8")
            debugger.options = options(fully_quantize=not float_ends, denylisted_nodes=kept)
    sure = Graph.read(calibrated).gives_probabilities()

    def said(content: bytes) -> np.ndarray:
        scores = Classifier(content).predict(images)
        return scores if sure else probabilities(scores)

    exact, spread = said(calibrated), Spread(calibrated, images)
    found = []
    for cut in _CUTS:
        debugger.calibrated_model = narrowed(calibrated, spread.without(*cut))
        content = zero_refused_kernels(debugger.get_nondebug_quantized_model())
        found.append((np.abs(said(content) - exact).mean(), cut, content))
    return min(found)[-1]
