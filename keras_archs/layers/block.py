"""The base class of the blocks, and helpers that several layers share."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from ..errors import InputError, shown
from ..graph import inner_layers

Shape = tuple[int | None, ...]


class Block(keras.layers.Layer):
    """A layer made of layers, whose output has the shape of its input.

    Subclasses make sub-layers in `__init__` through `inner`, which gives them the block's policy.
    They build the sub-layers in `build`.

    Args:
        frozen: names of sub-layers that are not trainable although the block is. The names are
            part of the config, so that a frozen batch norm stays frozen in a file and in a clone.
    """

    def __init__(self, *, frozen: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = frozen if isinstance(frozen, list | tuple | set) else [None]
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"frozen must be a list of sub-layers' names, got {shown(frozen)}.")
        self._frozen = tuple(frozen)

    def inner(self, kind: Any, *args: Any, name: str, dtype: Any = None, **kwargs: Any) -> Any:
        """A sub-layer `kind(*args, **kwargs)`, with the precision policy of this block by default.

        The sub-layer is frozen if the block is: a block loaded from a file is frozen before it has
        sub-layers.
        """
        trainable = self.trainable and name not in self._frozen
        dtype = dtype or self.dtype_policy
        return kind(*args, name=name, dtype=dtype, trainable=trainable, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        frozen = [layer.name for layer in inner_layers(self) if not layer.trainable]
        return {**config, "frozen": frozen} if self.trainable and frozen else config

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def scores_shape(self, input_shape: Shape) -> Shape:
        """Shape of the attention scores that `return_attention_scores` adds to the output."""
        raise InputError(f"{self.name} has no attention scores for a map of {tuple(input_shape)}.")

    def compute_output_spec(
        self, inputs: Any, return_attention_scores: bool = False, **_: Any
    ) -> Any:
        # Stated, not traced: tracing each block would make it slow to build a network.
        outputs = keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)
        if not return_attention_scores:
            return outputs
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        return outputs, keras.KerasTensor(self.scores_shape(inputs.shape), dtype)


def register(layer: type) -> type:
    """Registers a layer, so that Keras loads it from a file wherever keras_archs is imported."""
    return keras.saving.register_keras_serializable(package="keras_archs")(layer)


def channels_of(input_shape: Shape, layer: keras.layers.Layer) -> int:
    """The number of channels of a map of `input_shape`.

    Raises:
        ValueError: the shape is not `(batch, height, width, channels)` with known channels.
    """
    if len(input_shape) != 4 or input_shape[-1] is None:
        raise InputError(
            f"{layer.name} takes (batch, height, width, channels) with known channels, got"
            f" {tuple(input_shape)}."
        )
    return int(input_shape[-1])


def reduced(channels: int, ratio: float) -> int:
    """`ratio * channels` rounded down, at least 1."""
    return max(1, int(channels * ratio))


def flatten(x: Any) -> Any:
    """Reshapes `(batch, height, width, channels)` to `(batch, height * width, channels)`."""
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, channels))


def full_precision(x: Any) -> Any:
    """Casts half precision to float32: float16 ends at 65504, bfloat16 has 8 bits."""
    half = keras.backend.standardize_dtype(x.dtype) in {"float16", "bfloat16"}
    return ops.cast(x, "float32") if half else x


def on_cpu() -> bool:
    """Whether Keras runs on TensorFlow and TensorFlow has no devices other than CPUs."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf  # noqa: PLC0415  # Keras runs on other backends without it

    return {device.device_type for device in tf.config.list_logical_devices()} == {"CPU"}
