"""What stands before and after every network: its input, its head, its weights.

A builder opens a `Scaffold` with the arguments that all builders share, lets the features grow
from `scaffold.inputs`, and gets the model from `scaffold.finish`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from keras_archs.errors import InputError
from keras_archs.registry import Family
from keras_archs.weights import ImageNet, check_weights, load_weights

Shape = tuple[int | None, int | None, int]


def head_dtype() -> str | None:
    """float32 where the policy computes in half precision, else the policy itself."""
    half = keras.config.dtype_policy().compute_dtype in {"float16", "bfloat16"}
    return "float32" if half else None


def check_positive_int(name: str, value: Any) -> int:
    """Returns `value`, or raises a ValueError that names it unless it is an integer above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a positive integer, got {value!r}.")
    return value


def check_rate(name: str, value: float) -> float:
    """Returns `value`, or raises a ValueError that names it unless it lies in [0, 1)."""
    if not 0 <= value < 1:
        raise InputError(f"{name} must be at least 0 and below 1, got {value!r}.")
    return value


class Scaffold:
    """The arguments of a builder that all families share, checked.

    Args:
        family: gives the default and the smallest size.
        size: default height and width in place of the family's.
        static: whether the top flattens the last map, so that its size must be known.
        published: the ImageNet weights of the network, if there are any.
        others: see any builder.

    Attributes:
        inputs: the tensor to build on, `(batch, height, width, channels)`.
        classes, classifier_activation: the checked arguments, for a top of the family's own.

    Raises:
        ValueError: an argument is out of range or contradicts another.
    """

    def __init__(
        self,
        family: Family,
        *,
        input_shape: Shape | None,
        input_tensor: Any,
        include_top: bool,
        weights: str | Path | None,
        pooling: str | None,
        classes: int,
        classifier_activation: Any,
        size: int | None = None,
        static: bool = False,
        published: ImageNet | None = None,
    ) -> None:
        if keras.config.image_data_format() != "channels_last":
            raise InputError(
                "keras_archs builds channels_last networks, but keras.config.image_data_format()"
                " is 'channels_first'; call keras.config.set_image_data_format('channels_last')."
            )
        if pooling not in {None, "avg", "max"}:
            raise InputError(f"pooling must be None, 'avg' or 'max', got {pooling!r}.")
        self.classes = check_positive_int("classes", classes)
        try:
            keras.activations.get(classifier_activation)
        except ValueError as error:
            raise InputError(
                f"classifier_activation={classifier_activation!r} is no activation of Keras."
            ) from error
        self.classifier_activation = classifier_activation
        self.include_top, self.pooling = include_top, pooling
        self.weights, self.published = weights, published

        if input_tensor is not None:
            input_shape = _shape_of(input_tensor, input_shape)
        elif input_shape is None:
            side = size or family.size if include_top or size else None
            input_shape = (side, side, 3)
        height, width, channels = _check_shape(input_shape, family.min_size)
        if include_top and static:
            if height is None or width is None:
                raise InputError(
                    f"input_shape={input_shape} must have a fixed height and width: the top of"
                    f" {family.name} flattens the last map. Allowed without the top."
                )
            if weights == "imagenet" and (height, width) != (family.size, family.size):
                raise InputError(
                    f"input_shape={input_shape} does not fit weights='imagenet' with the top of"
                    f" {family.name}, which needs ({family.size}, {family.size}, 3)."
                )
        check_weights(
            weights,
            published,
            channels=channels,
            include_top=include_top,
            classes=classes,
            classifier_activation=classifier_activation,
        )
        if input_tensor is None:
            self.inputs = keras.Input(input_shape, name="input")
        elif keras.backend.is_keras_tensor(input_tensor):
            self.inputs = input_tensor
        else:
            self.inputs = keras.Input(tensor=input_tensor, name="input")

    def finish(self, x: Any, name: str, top: Callable[[Any], Any] | None = None) -> keras.Model:
        """The model from the input to `x` and its head, with its weights loaded.

        Args:
            x: the last feature map.
            name: name of the model.
            top: builds the classifier; global average pooling and `classify` unless given.
        """
        if self.include_top:
            x = top(x) if top else self.classify(_pool("avg", x))
        elif self.pooling:
            x = _pool(self.pooling, x)
        sources = keras.utils.get_source_inputs(self.inputs)
        model = keras.Model(sources[0] if len(sources) == 1 else sources, x, name=name)
        load_weights(model, self.weights, self.published, self.include_top)
        return model

    def classify(self, x: Any) -> Any:
        """The classifier as a dense layer on `(batch, features)`, in float32."""
        return layers.Dense(
            self.classes,
            activation=self.classifier_activation,
            dtype=head_dtype(),
            name="predictions",
        )(x)


def _pool(kind: str, x: Any) -> Any:
    if kind == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return layers.GlobalMaxPooling2D(name="max_pool")(x)


def _shape_of(input_tensor: Any, input_shape: Shape | None) -> Shape:
    shape = tuple(input_tensor.shape)[1:]
    if input_shape is not None and tuple(input_shape) != shape:
        raise InputError(f"input_shape={input_shape} contradicts input_tensor of shape {shape}.")
    return shape


def _check_shape(shape: Any, min_size: int) -> Shape:
    sides_fit = isinstance(shape, tuple | list) and len(shape) == 3
    for side in tuple(shape)[:2] if sides_fit else ():
        if side is not None:
            sides_fit = sides_fit and isinstance(side, int) and side >= min_size
    if not sides_fit:
        raise InputError(
            f"input_shape must be (height, width, channels) with at least {min_size} pixels each"
            f" way, got {shape}."
        )
    height, width, channels = shape
    return height, width, check_positive_int(f"The channels of input_shape={shape}", channels)
