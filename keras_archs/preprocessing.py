"""What a network expects of its pixels, and what its output says."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """Maps pixels of 0..255 in RGB order to `(x - mean) / scale`, in RGB or BGR order.

    Attributes:
        mean: one value for all channels, or one for each channel in the order of the output.
        scale: divisor, one for all channels or one for each.
        bgr: whether the channels are reversed.
    """

    mean: tuple[float, ...]
    scale: float | tuple[float, ...]
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
        if not self.takes(channels):
            raise InputError(f"x has {channels} channels (shape {x.shape}); allowed are 1 and 3.")
        mean, scale = self._constants(channels)
        floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        dtype = x.dtype if floating else keras.config.floatx()
        if isinstance(x, np.ndarray):
            x = x.astype(dtype)
        elif not floating:
            x = keras.ops.cast(x, dtype)
        if self.bgr:
            x = x[..., ::-1]
        if isinstance(x, np.ndarray) or keras.backend.standardize_dtype(dtype) == "float32":
            # No Keras operation: TensorFlow's tensors come from tf.data on other backends as well.
            dtype = x.dtype if isinstance(x, np.ndarray) else "float32"
            return (x - mean.astype(dtype)) / scale.astype(dtype)
        return (x - keras.ops.cast(mean, dtype)) / keras.ops.cast(scale, dtype)

    def undo(self, x: Any) -> Any:
        """Pixels of 0..255 in RGB order again, of preprocessed ones, `(..., height, width, c)`.

        Args:
            x: floating, a NumPy array or a tensor.
        """
        mean, scale = self._constants(x.shape[-1])
        if isinstance(x, np.ndarray):
            x = x * scale.astype(x.dtype) + mean.astype(x.dtype)
        else:
            x = x * keras.ops.cast(scale, x.dtype) + keras.ops.cast(mean, x.dtype)
        return x[..., ::-1] if self.bgr else x

    def _constants(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        mean, scale = np.atleast_1d(self.mean), np.atleast_1d(self.scale)
        if channels == 1:
            mean, scale = mean.mean(keepdims=True), scale.mean(keepdims=True)
        return mean, scale

    def takes(self, channels: int) -> bool:
        """Whether images of so many channels have means and scales."""
        return channels == 1 or max(np.size(self.mean), np.size(self.scale)) in {1, channels}

    def layer(self) -> "PreprocessInput":
        """The same as the first layer of a network."""
        return PreprocessInput(self.mean, self.scale, self.bgr)


@keras.saving.register_keras_serializable(package="keras_archs")
class PreprocessInput(keras.layers.Layer):
    """A `Preprocessing` inside a model: pixels of 0..255, any number type, to the network's range.

    Args:
        mean, scale, bgr: see `Preprocessing`.

    Raises:
        ValueError: the input has neither 1 nor 3 channels where the means differ by channel.
    """

    def __init__(
        self,
        mean: Sequence[float],
        scale: float | Sequence[float],
        bgr: bool = False,
        *,
        name: str = "preprocess_input",
        **kwargs: Any,
    ) -> None:
        # Pixels are exact in half precision up to 2048 (256 in bfloat16); differences of them are
        # not, and the cost is nothing beside a convolution: so float32, cast at the end.
        super().__init__(name=name, autocast=False, **kwargs)
        scale = float(scale) if isinstance(scale, int | float) else tuple(scale)
        self.preprocessing = Preprocessing(tuple(mean), scale, bgr)

    def call(self, inputs: Any) -> Any:
        x = self.preprocessing(keras.ops.cast(inputs, "float32"))
        return keras.ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **dataclasses.asdict(self.preprocessing)}


# The names are those of keras.applications.imagenet_utils.preprocess_input's modes.
TF = Preprocessing(mean=(127.5,), scale=127.5)
TORCH = Preprocessing(mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375))
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
