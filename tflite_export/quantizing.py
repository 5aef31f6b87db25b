"""Files with some layers left in float, and files whose weights alone are in integers."""

import re
import warnings
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from ai_edge_quantizer import qtyping, quantizer, recipe

from keras_archs.errors import InputError, did_you_mean
from keras_archs.graph import inner_layers

from .classifier import Classifier, probabilities
from .file_graph import Graph
from .flatbuffer import with_kernels_in_reach
from .preparing import MADE, ending
from .ranges import Spread, narrowed
from .steps import steps

Keep = Callable[[bytes], list[str]]
"""Gives the tensors of a file, by name, whose steps stay in float."""

_FEW = 0.1
_CUTS = (0.0, 0.0), (0.0, _FEW), (1e-4, _FEW), (1e-3, _FEW)
"""Of the values of a tensor, and of the images, that may lie beyond each end of its range."""
_EVERY = qtyping.TFLOperationName.ALL_SUPPORTED


def check_names(model: keras.Model, names: Sequence[str]) -> None:
    """Raises an InputError for a name that no layer of `model` has, before it is made ready."""
    known = {layer.name for layer in inner_layers(model)} | MADE
    for name in names:
        if name not in known:
            raise InputError(
                f"keep_float: {name!r} is no layer of the model.{did_you_mean(name, known)}"
            )


def keeper(model: keras.Model, names: Sequence[str]) -> Keep:
    """Those of some layers of a model, by name, or of models inside it.

    Raises:
        InputError: a name is no layer of `model` or, when it is asked for a file, one that
            computes nothing there.
    """
    known = {layer.name for layer in inner_layers(model)}
    for name in names:
        if name not in known:
            raise InputError(
                f"keep_float: {name!r} is no layer of the model as it is in a file, with batch"
                f" norms folded and dropout left out.{did_you_mean(name, known)}"
            )
    last = [each.name for each in ending(model)]

    def keep(content: bytes) -> list[str]:
        every = [(step.tensor, step.layers(known, last)) for step in steps(content)]
        for name in names:
            if all(name not in layers for _, layers in every):
                raise InputError(
                    f"keep_float: {name!r} computes nothing of its own in the file; name the"
                    " layer before it."
                )
        return [tensor for tensor, layers in every if not layers.isdisjoint(names)]

    return keep


def quantize_weights(content: bytes, kind: str, keep: Keep | None) -> bytes:
    """A float32 file with its weights in integers, a scale for each channel.

    Args:
        content: the file.
        kind: "weight_int8" and "weight_int4" turn them into float before they compute; int4 are
            those of dense layers and convolutions, int8 all others (depthwise ones), for which
            LiteRT has no int4. "dynamic" computes in int8, by the ranges of each image.
        keep: which steps keep theirs, if any.
    """
    work = quantizer.Quantizer(content)
    # Of two recipes for a step, the later holds if it has one for this operator.
    if kind == "dynamic":
        # As TensorFlow does it, which leaves small kernels in float.
        work.load_quantization_recipe(recipe.dynamic_legacy_wi8_afp32())
    else:
        work.add_weight_only_config(".*", _EVERY, 8)
    if kind == "weight_int4":
        work.add_weight_only_config(".", _EVERY, 4)
    for tensor in keep(content) if keep else []:
        work.update_quantization_recipe(
            f"^{re.escape(tensor)};$",
            _EVERY,
            algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
        )
    result = work.quantize(enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model or b"")


def quantize_calibrated(
    converter: tf.lite.TFLiteConverter,
    images: np.ndarray,
    *,
    keep: Keep | None,
    float_ends: bool,
) -> bytes:
    """An int8 file, with some steps in float if asked for; its kernels are in reach.

    Ranges may be cut off, see `narrowed`. How far, the images decide: of some files that is taken
    whose probabilities are nearest to those in float, over all images. An image far from all others
    counts for that no more than another one: for nothing if its class stays as sure as it is.

    Args:
        converter: has optimizations and representative images.
        images: those.
        keep: which steps stay in float, if any.
        float_ends: whether input and output are float32 rather than int8.

    Raises:
        InputError: no step is left for int8.
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
            if len(kept) == len(steps(calibrated)):
                raise InputError("keep_float leaves nothing of the model for int8.")
            debugger.options = options(fully_quantize=not float_ends, denylisted_nodes=kept)
    sure = Graph.read(calibrated).gives_probabilities()

    def said(content: bytes) -> np.ndarray:
        scores = Classifier(content).predict(images)
        return scores if sure else probabilities(scores)

    exact, spread = said(calibrated), Spread(calibrated, images)
    found = []
    for cut in _CUTS:
        debugger.calibrated_model = narrowed(calibrated, spread.without(*cut))
        content = with_kernels_in_reach(debugger.get_nondebug_quantized_model())
        found.append((np.abs(said(content) - exact).mean(), cut, content))
    return min(found)[-1]
