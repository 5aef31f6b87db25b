"""What stands before and after every network: its input, its head, its weights.

A builder opens a `Scaffold` with the arguments that all builders share, lets the features grow
from `scaffold.inputs`, and gets the model from `scaffold.finish`.
"""

from collections.abc import Callable
from typing import Any, Literal

import keras
from keras import layers

from ...arguments import Shape, Shared
from ...errors import InputError
from ...preprocessing import Preprocessing
from ...registry import Family
from .attention_argument import attend, check_attention
from .weights import ImageNet, check_weights, load_weights


def head_dtype() -> str | None:
    """float32 where the policy computes in half precision, else the policy itself."""
    half = keras.config.dtype_policy().compute_dtype in {"float16", "bfloat16"}
    return "float32" if half else None


class Scaffold:
    """What the arguments say that all families share.

    Args:
        family: gives the preprocessing, the default and the smallest size.
        shared: the arguments, as `check_shared` returns them.
        name: name of the model unless one is given.
        size: height and width of an input whose shape is not given, the top or not.
        top_size: the same with the top only, in place of the family's.
        static: whether the height and width must be known: `"top"` with the top only (it flattens
            the last map), `"always"` (weights depend on the size) or None.
        published: the ImageNet weights of the network, if there are any.
        preprocessing: that of the published weights, in place of the family's.

    Attributes:
        inputs: the tensor to build on, `(batch, height, width, channels)`.
        include_top, classes, classifier_activation: the arguments.

    Raises:
        ValueError: an argument contradicts another, or `attention` is wrong.
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
        self.include_top, self.pooling = shared["include_top"], shared["pooling"]
        self.weights, self.published = shared["weights"], published
        self.name = shared["name"] or name
        self.attention = check_attention(shared["attention"])
        self.classes = shared["classes"]
        self.classifier_activation = shared["classifier_activation"]

        input_tensor, input_shape = shared["input_tensor"], shared["input_shape"]
        if input_shape is None:
            needed = self.include_top or static == "always"
            side = size or ((top_size or family.size) if needed else None)
            input_shape = (side, side, 3)
        channels = input_shape[-1]
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
            input_tensor = keras.Input(input_shape, name="input")
        self.inputs = self._source = input_tensor
        if shared["include_preprocessing"]:
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
            x = pool(self.pooling, x, name=None)  # two networks may share an input
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
