"""Checks of a model and its images against the settings of an export, before any long work."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_archs.analysis.classifier import image_shape
from keras_archs.errors import InputError, did_you_mean
from keras_archs.graph import inner_layers
from keras_archs.preprocessing import PIXELS, Preprocessing
from keras_archs.transforms.precision import check_quantization, is_float32, not_to_be_copied
from keras_archs.transforms.quantization.quantize_aware import is_quantize_aware

from ..settings import CALIBRATED, MIN_REPRESENTATIVE, ExportSettings
from .prepare import MADE


def check_model(
    model: keras.Model, settings: ExportSettings, preprocessing: Preprocessing | None
) -> None:
    """Raises an InputError unless a model can become a file of these settings.

    Args:
        model: the model to convert.
        settings: those of the export.
        preprocessing: what the file does inside; None if it takes preprocessed images.
    """
    image_shape(model)
    check_quantization(model)
    stuck = next(not_to_be_copied(model), None)
    if stuck and (settings.scores != "model" or not is_float32(model)):
        raise InputError(
            f"The layer {stuck.name!r} ({type(stuck).__name__}) of model cannot be copied, because"
            " its class has no working get_config(). scores= and the conversion to float32 need a"
            " copy. Add get_config() to the class."
        )
    if is_quantize_aware(model):
        _check_as_trained(settings, preprocessing)
    _check_names(model, settings.keep_float)


def _check_as_trained(settings: ExportSettings, preprocessing: Preprocessing | None) -> None:
    """The file of a quantisation-aware model computes what was trained, and nothing else."""
    if settings.quantize != "int8":
        raise InputError(
            "quantize must be 'int8' for a model with quantisation-aware training (train --qat),"
            f" got {settings.quantize!r}. For another kind, pass the run before that training."
        )
    changes = {
        "auto": settings.auto,
        "keep_float": bool(settings.keep_float),
        "scores": settings.scores != "model",
        "pixels": preprocessing not in (None, PIXELS),
    }
    for name, changed in changes.items():
        if changed:
            raise InputError(
                f"{name} does not go with a model that has been trained for int8 (quantize_aware,"
                " train --qat), whose file computes what was trained. Leave it out, or export the"
                " model from before that training."
            )


def _check_names(model: keras.Model, names: Sequence[str]) -> None:
    known = {layer.name for layer in inner_layers(model)} | MADE
    for name in names:
        if name not in known:
            raise InputError(
                f"keep_float: the model has no layer {name!r}.{did_you_mean(name, known)}"
            )


def check_representative(
    model: keras.Model, settings: ExportSettings, images: np.ndarray | None
) -> None:
    """Raises an InputError unless the ranges of a file can be measured on the images.

    They must be at least 50 images of more than one colour, as `as_batch` returns them. Only "int8"
    and "int16x8" take them.
    """
    if is_quantize_aware(model):  # has ranges
        return
    kind, shape = settings.quantize, image_shape(model)
    if kind not in CALIBRATED:
        if images is not None:
            raise InputError(
                f"representative works with quantize='int8' or 'int16x8' only, got {kind!r}."
            )
        return
    if images is None:
        raise InputError(
            f"representative is missing: quantize={kind!r} needs float32 images of shape"
            f" [n, {', '.join(map(str, shape))}], n >= {MIN_REPRESENTATIVE}, preprocessed as in"
            " training."
        )
    if len(images) < MIN_REPRESENTATIVE:
        raise InputError(
            f"representative must hold at least {MIN_REPRESENTATIVE} images, got {len(images)}."
        )
    if images.min() == images.max():
        raise InputError(f"representative must be real images, got {images.min()} everywhere.")
