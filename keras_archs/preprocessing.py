"""What a network expects of its pixels, and what its output says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_archs.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """Maps pixels of 0..255 in RGB order to `(x - mean) / scale`, in RGB or BGR order.

    Attributes:
        mean: one value for all channels, or one for each channel in the order of the output.
        scale: divisor, the same for all channels.
        bgr: whether the channels are reversed.
    """

    mean: tuple[float, ...]
    scale: float
    bgr: bool = False

    def __call__(self, x: Any) -> Any:
        """Preprocesses images; the argument itself is never changed.

        Args:
            x: numpy array or tensor, `(..., height, width, channels)`, any number type.
                One-channel images get the mean of the channels' means.

        Returns:
            The same kind of array, in Keras' `floatx`, or in float16/bfloat16 if x was.

        Raises:
            ValueError: the number of channels is neither 1 nor that of the means.
        """
        channels = x.shape[-1]
        mean = np.asarray(self.mean)
        if channels == 1:
            mean = mean.mean(keepdims=True)
        elif mean.size not in {1, channels}:
            raise InputError(f"x has {channels} channels (shape {x.shape}); allowed are 1 and 3.")
        floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        dtype = x.dtype if floating else keras.config.floatx()
        x = x.astype(dtype) if isinstance(x, np.ndarray) else keras.ops.cast(x, dtype)
        if self.bgr:
            x = x[..., ::-1]
        return (x - mean.astype(x.dtype if isinstance(x, np.ndarray) else "float32")) / self.scale


# The names are those of keras.applications.imagenet_utils.preprocess_input's modes.
TF = Preprocessing(mean=(127.5,), scale=127.5)
CAFFE = Preprocessing(mean=(103.939, 116.779, 123.68), scale=1.0, bgr=True)


def decode_predictions(
    predictions: Any, top: int = 5, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """The `top` classes of each prediction, best first.

    Args:
        predictions: `(batch, classes)` scores.
        top: how many classes to return.
        class_names: names of the classes in the order of the output. Without them the 1,000
            classes of ImageNet are meant, whose names Keras downloads at the first use.

    Returns:
        One list an image of `(identifier, name, score)`; the identifier is ImageNet's synset, or
        the index of the class.

    Raises:
        ValueError: the shape fits neither `class_names` nor ImageNet, or `top` is below 1.
    """
    scores = np.asarray(predictions)
    classes = 1000 if class_names is None else len(class_names)
    if scores.ndim != 2 or scores.shape[1] != classes:
        raise InputError(
            f"predictions must have the shape (batch, {classes}), got {scores.shape};"
            " give class_names for classes other than ImageNet's."
        )
    if top < 1:
        raise InputError(f"top must be at least 1, got {top}.")
    if class_names is None:
        return keras.applications.imagenet_utils.decode_predictions(scores, top=top)
    best = np.argsort(-scores, axis=1)[:, :top]
    return [
        [(str(i), class_names[i], float(row[i])) for i in indices]
        for row, indices in zip(scores, best, strict=True)
    ]
