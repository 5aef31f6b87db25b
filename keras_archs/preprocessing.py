"""Preprocessing of a network's images, and names for its scores."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from PIL import Image, ImageOps

from .arguments import check_positive_int
from .errors import InputError, shown
from .files import downloading

IMAGENET_CLASSES = 1000
IMAGENET_NAMES_URL = (
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
)
"""The address from which Keras' `decode_predictions` downloads the names of the classes."""


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
        """Preprocesses images; the argument is never changed.

        Args:
            x: an array or tensor `(..., height, width, channels)` of any number type, a PIL image,
                or a list of arrays or PIL images of one size. One-channel images get the mean of
                the channels' means. PIL images are turned upright by their EXIF data and converted
                to RGB.

        Returns:
            The same kind of array: of the same type if it is floating, else of Keras' `floatx`.

        Raises:
            ValueError: `x` does not hold images, or the number of channels is neither 1 nor that of
                the means.
        """
        x = as_images("x", x)
        channels = x.shape[-1]
        if not self.takes(channels):
            raise InputError(
                f"x has {channels} channels (shape {tuple(x.shape)}); allowed are 1 and 3."
            )
        _warn_unless_pixels(x)
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
            # Plain operators: tf.data gives TensorFlow's tensors on other backends as well.
            dtype = x.dtype if isinstance(x, np.ndarray) else "float32"
            return (x - mean.astype(dtype)) / scale.astype(dtype)
        return (x - keras.ops.cast(mean, dtype)) / keras.ops.cast(scale, dtype)

    def undo(self, x: Any) -> Any:
        """Turns preprocessed images `(..., height, width, c)` back into pixels of 0..255 in RGB.

        Args:
            x: a NumPy array or a tensor, of a floating type.
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
        """Whether there are means and scales for images of this number of channels."""
        return channels == 1 or max(np.size(self.mean), np.size(self.scale)) in {1, channels}

    def layer(self) -> "PreprocessInput":
        """The same preprocessing as a layer."""
        return PreprocessInput(self.mean, self.scale, self.bgr)


@keras.saving.register_keras_serializable(package="keras_archs")
class PreprocessInput(keras.layers.Layer):
    """A `Preprocessing` as a layer: maps pixels of 0..255 of any number type to another range.

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
        # Float32, cast at the end. Half precision holds pixels exactly (integers up to 2048, or 256
        # in bfloat16), but not their differences. The cost is small beside a convolution.
        super().__init__(name=name, autocast=False, **kwargs)
        if isinstance(scale, Sequence | np.ndarray):
            scale = tuple(map(float, scale))
        else:
            scale = float(scale)
        self.preprocessing = Preprocessing(tuple(map(float, mean)), scale, bool(bgr))

    def call(self, inputs: Any) -> Any:
        x = self.preprocessing(keras.ops.cast(inputs, "float32"))
        return keras.ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **dataclasses.asdict(self.preprocessing)}


def as_images(name: str, images: Any) -> Any:
    """Images as one array or tensor, `(..., height, width, channels)`.

    Args:
        name: name of the argument, for errors.
        images: an array or tensor, which is returned; a PIL image, which is turned upright and
            converted to RGB; or a list or tuple of these of one size.

    Raises:
        InputError: `images` is something else, or the images differ in size.
    """
    if isinstance(images, Image.Image):
        return _pixels(images)
    array = images
    if isinstance(images, list | tuple):
        arrays = [_pixels(image) if isinstance(image, Image.Image) else image for image in images]
        try:
            array = np.stack(arrays)
        except (TypeError, ValueError, NotImplementedError):  # sizes differ; no arrays; symbolic
            sizes = [getattr(image, "shape", None) for image in arrays]
            raise InputError(f"{name} must hold images of one size, got {shown(sizes)}.") from None
    try:
        dtype = keras.backend.standardize_dtype(array.dtype)
        fits = len(array.shape) >= 3 and dtype.startswith(("int", "uint", "float", "bfloat"))
    except (AttributeError, TypeError, ValueError):  # no array; of objects; of unknown rank
        fits = False
    if not fits:
        raise InputError(
            f"{name} must be an array or tensor (..., height, width, channels) of numbers, a PIL"
            f" image or a list of these, got {_described(images)}."
        )
    return array


def _pixels(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip values above 255
        image = Image.fromarray(np.uint8(np.asarray(image) >> 8))
    return np.asarray(image.convert("RGB"))


def _described(value: Any) -> str:
    if not hasattr(value, "shape"):
        return shown(value)
    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__} of shape {value.shape} and dtype {dtype}"


def _warn_unless_pixels(x: Any) -> None:
    """Warns if an array of floats was scaled already; tensors may not have values yet."""
    if not (isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.size):
        return
    low, high = float(x.min()), float(x.max())
    # Resizing gives values slightly beyond 0..255. Pixels of 0..3 with fractions occur in black
    # images alone.
    scaled = low < -64 or (high <= 3 and (x % 1).any())
    if scaled:
        warnings.warn(
            f"x has values from {low:.4g} to {high:.4g}, but preprocessing takes pixels of 0..255:"
            " was x scaled before?",
            stacklevel=3,
        )


# Named after the modes of keras.applications.imagenet_utils.preprocess_input.
TF = Preprocessing(mean=(127.5,), scale=127.5)
TORCH = Preprocessing(mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375))
CAFFE = Preprocessing(mean=(103.939, 116.779, 123.68), scale=1.0, bgr=True)


def decode_predictions(
    predictions: Any, top: int = 5, class_names: Sequence[str] | Mapping[int, str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """The `top` classes of each prediction, best first.

    Args:
        predictions: `(batch, classes)` scores, an array or tensor; or `(classes,)` of one image.
        top: how many classes to return.
        class_names: names of the classes in the order of the output, or a dict from indices to
            them. The default is the 1,000 classes of ImageNet. Keras downloads their names at the
            first use.

    Returns:
        A list of `(identifier, name, score)` for each image; the identifier is ImageNet's synset,
        or the index of the class.

    Raises:
        ValueError: the shape matches neither `class_names` nor ImageNet, `top` is below 1, an
            argument has a wrong type, or the names of ImageNet's classes cannot be downloaded.
    """
    top = check_positive_int("top", top)
    names = None if class_names is None else _names(class_names)
    classes = 1000 if names is None else len(names)
    try:
        scores = np.asarray(predictions)
    except (TypeError, ValueError, NotImplementedError):  # ragged; symbolic
        scores = np.empty((), object)
    if scores.dtype.kind not in "fiu":
        raise InputError(f"predictions must be numbers, got {_described(predictions)}.")
    scores = scores[None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or scores.shape[1] != classes:
        raise InputError(
            f"predictions must have the shape (batch, {classes}), got {scores.shape};"
            " give class_names for classes other than ImageNet's."
        )
    if names is None:
        with downloading("class_names=None", IMAGENET_NAMES_URL):
            return keras.applications.imagenet_utils.decode_predictions(scores, top=top)
    best = np.argsort(-scores, axis=1)[:, :top]
    return [
        [(str(i), names[i], float(row[i])) for i in indices]
        for row, indices in zip(scores, best, strict=True)
    ]


def _names(class_names: Any) -> list[str]:
    try:
        if isinstance(class_names, str):
            raise TypeError
        return [str(class_names[i]) for i in range(len(class_names))]
    except (TypeError, KeyError) as error:
        raise InputError(
            "class_names must be a list of names, or a dict from indices to names, got"
            f" {shown(class_names)}."
        ) from error


PIXELS = Preprocessing(mean=(0.0,), scale=1.0)
"""The preprocessing of a model that takes pixels of 0..255."""
