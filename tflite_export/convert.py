"""From a Keras model to a TFLite file."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_archs.files import atomic_write, check_target
from tflite_export.lowering import Quantize, lower


@dataclass(frozen=True)
class Conversion:
    """A TFLite file in memory.

    Attributes:
        quantize: one of `KINDS`.
        content: the bytes of the file.
    """

    quantize: Quantize
    content: bytes

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the file whole or not at all, and returns its path.

        Raises:
            InputError: the folder is missing or cannot be written to, or `path` exists and
                `overwrite` is False.
        """
        path = Path(path)
        check_target(path, overwrite)
        atomic_write(path, self.content)
        return path


def convert(
    model: keras.Model,
    quantize: Quantize = "none",
    *,
    representative: np.ndarray | None = None,
) -> Conversion:
    """Converts an image classifier to a TFLite file for one image at a time.

    Args:
        model: a functional Keras model of one input, [n, height, width, channels] with fixed
            sizes, and one output, [n, classes]. A model in mixed precision is converted in
            float32. The model is left as it is.
        quantize: "none" keeps float32; "float16" stores the weights in half the bytes; "dynamic"
            stores them as int8 and computes the activations' ranges for each image; "int8" has
            weights, activations, input and output in integers and nothing in float.
        representative: for "int8" only, float32 images [n, height, width, channels], at least 50,
            preprocessed as in training: the activations' ranges are measured on them.

    Raises:
        InputError: `quantize` is unknown, `model` has another number of inputs or outputs or
            sizes that are not fixed, `representative` is missing, out of place or unfit, or "int8"
            is asked for a model with an operation that has no integer version. An operation that
            TFLite lacks altogether ends in the converter's own error, which names it.
    """
    return Conversion(quantize, lower(model, quantize, representative=representative))
