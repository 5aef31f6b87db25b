"""What stands before and after every network: its input, its head, its weights.

A builder opens a `Scaffold` with the arguments that all builders share, lets the features grow
from `scaffold.inputs`, and gets the model from `scaffold.finish`.
"""

from collections.abc import Callable
from typing import Any, Literal

import keras
from keras import layers

from .arguments import DEFAULTS, Shape, Shared, check_activation, check_positive_int
from .attention import attend, check_attention
from .errors import InputError
from .preprocessing import Preprocessing
from .registry import Family
from .weights import ImageNet, check_weights, load_weights


def head_dtype() -> str | None:
    """float32 where the policy computes in half precision, else the policy itself."""
    half = keras.config.dtype_policy().compute_dtype in {"float16", "bfloat16"}
    return "float32" if half else None


class Scaffold:
    """The arguments of a builder that all families share, checked.

    Args:
        family: gives the preprocessing, the default and the smallest size.
        shared: the arguments as given; those left out have their value in `DEFAULTS`.
        name: name of the model unless one is given.
        size: height and width of an input whose shape is not given, the top or not.
        top_size: the same with the top only, in place of the family's.
        static: whether the height and width must be known: `"top"` with the top only (it flattens
            the last map), `"always"` (weights depend on the size) or None.
        published: the ImageNet weights of the network, if there are any.
        preprocessing: that of the published weights, in place of the family's.

    Attributes:
        inputs: the tensor to build on, `(batch, height, width, channels)`.
        include_top, classes, classifier_activation: the checked arguments.

    Raises:
        ValueError: an argument is out of range or contradicts another.
    """

    def __init__(
        self,
        family: Family,
        shared: Shared,
        *,
        name: str,
        size: int | None = None,
        top_size: int | None = None,
        static: Literal["top", "always"] | None = None,
        published: ImageNet | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        if keras.config.image_data_format() != "channels_last":
            raise InputError(
                "keras_archs builds channels_last networks, but keras.config.image_data_format()"
                " is 'channels_first'; call keras.config.set_image_data_format('channels_last')."
            )
        given: Shared = {**DEFAULTS, **shared}
        self.include_top, self.pooling = given["include_top"], given["pooling"]
        self.weights, self.published = given["weights"], published
        self.name = given["name"] or name
        check_attention(given["attention"])
        self.attention = given["attention"]
        if self.pooling not in {None, "avg", "max"}:
            raise InputError(f"pooling must be None, 'avg' or 'max', got {self.pooling!r}.")
        self.classes = check_positive_int("classes", given["classes"])
        self.classifier_activation = check_activation(given["classifier_activation"])

        input_tensor, input_shape = given["input_tensor"], given["input_shape"]
        if input_tensor is not None:
            input_shape = _shape_of(input_tensor, input_shape)
        elif input_shape is None:
            needed = self.include_top or static == "always"
            side = size or ((top_size or family.size) if needed else None)
            input_shape = (side, side, 3)
        channels = _check_shape(input_shape, family.min_size)[-1]
        if static == "always" or (static == "top" and self.include_top):
            _check_static(family, input_shape, self.weights, self.include_top, static)
        check_weights(
            self.weights,
            published,
            channels=channels,
            include_top=self.include_top,
            classes=self.classes,
            classifier_activation=self.classifier_activation,
        )
        if input_tensor is None:
            self._source = keras.Input(input_shape, name="input")
        elif keras.backend.is_keras_tensor(input_tensor):
            self._source = input_tensor
        else:
            self._source = keras.Input(tensor=input_tensor, name="input")
        self.inputs = self._source
        if given["include_preprocessing"]:
            chosen = preprocessing or family.preprocessing
            if not chosen.takes(channels):
                raise InputError(
                    f"include_preprocessing=True needs an input_shape of 1 or 3 channels for"
                    f" {family.name}, whose means differ by channel, got {input_shape}."
                )
            self.inputs = chosen.layer()(self._source)

    def finish(self, x: Any, top: Callable[[Any], Any] | None = None) -> keras.Model:
        """The model from the input to `x` and its head, with its weights loaded.

        Args:
            x: the last feature map.
            top: builds the classifier; global average pooling and `classify` unless given.
        """
        if self.include_top:
            x = top(x) if top else self.classify(pool("avg", x))
        elif self.pooling:
            x = pool(self.pooling, x, name=None)  # two networks may stand on one input
        sources = keras.utils.get_source_inputs(self._source)
        model = keras.Model(sources[0] if len(sources) == 1 else sources, x, name=self.name)
        published = self.weights == "imagenet"
        if published:
            load_weights(model, self.weights, self.published, self.include_top)
        model = attend(model, self.attention)
        if not published:
            load_weights(model, self.weights, self.published, self.include_top)
        return model

    def classify(
        self, x: Any, kernel_initializer: Any = "glorot_uniform", name: str = "predictions"
    ) -> Any:
        """The classifier as a dense layer on `(batch, features)`, in float32."""
        return layers.Dense(
            self.classes,
            activation=self.classifier_activation,
            kernel_initializer=kernel_initializer,
            dtype=head_dtype(),
            name=name,
        )(x)

    def classify_map(self, x: Any, name: str) -> Any:
        """The classifier as a 1x1 convolution on `(batch, 1, 1, features)`, in float32.

        MobileNet's published weights have this shape.
        """
        x = layers.Conv2D(self.classes, 1, dtype=head_dtype(), name=name)(x)
        x = layers.Flatten(dtype=head_dtype(), name="flatten")(x)
        return layers.Activation(
            self.classifier_activation, dtype=head_dtype(), name="predictions"
        )(x)


def pool(kind: str, x: Any, name: str | None = "avg_pool") -> Any:
    """Global pooling of the kind that the argument `pooling` names; Keras finds a name for None."""
    if kind == "avg":
        return layers.GlobalAveragePooling2D(name=name)(x)
    return layers.GlobalMaxPooling2D(name=name)(x)


def _check_static(
    family: Family, shape: Shape, weights: Any, include_top: bool, static: str
) -> None:
    height, width, _ = shape
    if height is None or width is None:
        why = (
            f"the top of {family.name} flattens the last map. Allowed without the top."
            if static == "top"
            else "it has weights whose shapes depend on them."
        )
        raise InputError(f"input_shape={shape} must have a fixed height and width: {why}")
    if include_top and weights == "imagenet" and (height, width) != (family.size, family.size):
        raise InputError(
            f"input_shape={shape} does not fit weights='imagenet' with the top of"
            f" {family.name}, which needs ({family.size}, {family.size}, 3)."
        )


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
