"""The arguments that every builder takes, and the checks that several builders need."""

from pathlib import Path
from typing import Any, TypedDict

import keras

from .errors import InputError

Shape = tuple[int | None, int | None, int]


class Shared(TypedDict, total=False):
    """What a builder takes as `**shared` and hands to its `Scaffold`."""

    include_top: bool
    weights: str | Path | None
    input_tensor: Any
    input_shape: Shape | None
    pooling: str | None
    classes: int
    classifier_activation: Any
    name: str | None
    include_preprocessing: bool
    attention: Any


# In the order of keras.applications, whose users give the first ones by position.
DEFAULTS = Shared(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
    include_preprocessing=False,
    attention=None,
)


def check_positive_int(name: str, value: Any) -> int:
    """Returns `value`, or raises a ValueError that names it unless it is an integer above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a positive integer, got {value!r}.")
    return value


def check_positive(name: str, value: float) -> float:
    """Returns `value`, or raises a ValueError that names it unless it is a number above 0."""
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{name} must be a positive number, got {value!r}.")
    return value


def check_rate(name: str, value: float) -> float:
    """Returns `value`, or raises a ValueError that names it unless it lies in [0, 1)."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise InputError(f"{name} must be at least 0 and below 1, got {value!r}.")
    return value


def check_activation(value: Any) -> Any:
    """Returns `value`, or raises a ValueError unless Keras knows the activation."""
    try:
        keras.activations.get(value)
    except ValueError as error:
        raise InputError(f"classifier_activation={value!r} is no activation of Keras.") from error
    return value
