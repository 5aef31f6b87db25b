"""What the blocks share."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from ..errors import InputError, shown
from ..graph import inner_layers

Shape = tuple[int | None, ...]


class Block(keras.layers.Layer):
    """A layer made of layers, whose output has the shape of its input.

    Sub-layers are made in `__init__` through `inner`, so that they take its policy, and built in
    `build`.

    Args:
        frozen: names of sub-layers that are not trainable though the block is. They are part of
            the config, so that a frozen batch norm stays frozen in a file and in a clone.
    """

    def __init__(self, *, frozen: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = frozen if isinstance(frozen, list | tuple | set) else [None]
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"frozen must be a list of sub-layers' names, got {shown(frozen)}.")
        self._frozen = tuple(frozen)

    def inner(self, kind: Any, *args: Any, name: str, dtype: Any = None, **kwargs: Any) -> Any:
        """A sub-layer `kind(*args, **kwargs)`, under the precision policy of this layer by default.

        Frozen if this one is: a layer loaded from a file learns that before it has sub-layers.
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
        """Shape of what `return_attention_scores` adds to the output."""
        raise InputError(f"{self.name} has no attention scores for a map of {tuple(input_shape)}.")

    def compute_output_spec(
        self, inputs: Any, return_attention_scores: bool = False, **_: Any
    ) -> Any:
        # Stated, not traced: tracing each block would make building a network slow.
        outputs = keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)
        if not return_attention_scores:
            return outputs
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        return outputs, keras.KerasTensor(self.scores_shape(inputs.shape), dtype)


def register(layer: type) -> type:
    """Lets Keras load the layer from a file wherever keras_archs is imported."""
    return keras.saving.register_keras_serializable(package="keras_archs")(layer)


def channels_of(input_shape: Shape, layer: keras.layers.Layer) -> int:
    """Channels of a map of `input_shape`.

    Raises:
        ValueError: it is no `(batch, height, width, channels)` with known channels.
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
    """`(batch, height, width, channels)` to `(batch, height * width, channels)`."""
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, channels))


def full_precision(x: Any) -> Any:
    """`x` in float32 if it is in half precision, whose range ends at 65504 or has 8 bits."""
    half = keras.backend.standardize_dtype(x.dtype) in {"float16", "bfloat16"}
    return ops.cast(x, "float32") if half else x


def on_cpu() -> bool:
    """Whether Keras computes by TensorFlow on nothing but CPUs."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf  # noqa: PLC0415  # Keras runs on other backends without it

    return {device.device_type for device in tf.config.list_logical_devices()} == {"CPU"}


@dataclass
class _Run:
    """One computation of a stage.

    Attributes:
        again: whether the stage was computed before with the same input.
        drawn: random numbers of the first time, in their order.
        used: how many of them this time.
    """

    again: bool
    drawn: list[Any]
    used: int = 0


_run: ContextVar[_Run | None] = ContextVar("run", default=None)


@contextmanager
def recomputation(again: bool, drawn: list[Any]) -> Iterator[None]:
    """What is computed inside may be, or was, computed twice: no state moves a second time."""
    token = _run.set(_Run(again, drawn))
    try:
        yield
    finally:
        _run.reset(token)


def recomputing() -> bool:
    """Whether this was computed before, and moved all state that there is to move."""
    run = _run.get()
    return run is not None and run.again


def draw_once(draw: Callable[[], Any]) -> Any:
    """`draw()`, or what it gave when this was computed before."""
    run = _run.get()
    if run is None:
        return draw()
    if not run.again:
        run.drawn.append(draw())
    run.used += 1
    return run.drawn[run.used - 1]
