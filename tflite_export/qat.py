"""Quantisation-aware training of a classifier for an int8 file."""

from typing import Any

import keras

from keras_archs.analysis.classifier import image_shape
from keras_archs.transforms.quantization import quantize_aware as transform

from .runtime.images import as_batch

is_quantize_aware = transform.is_quantize_aware


def quantize_aware(model: keras.Model, representative: Any = None) -> keras.Model:
    if representative is not None:
        representative = as_batch("representative", representative, image_shape(model))
    return transform.quantize_aware(model, representative)


quantize_aware.__doc__ = transform.quantize_aware.__doc__
