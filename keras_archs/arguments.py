"""The arguments that every builder takes, and the checks that builders and layers share.

All checks accept NumPy's numbers. They return Python's numbers, since neither Keras nor JSON takes
NumPy's.
"""

import functools
import inspect
import numbers
import operator
import os
from collections.abc import Callable, Collection, Mapping, Set
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar, get_args, get_type_hints

import keras
import numpy as np

from .errors import InputError, shown

T = TypeVar("T")
Shape = tuple[int | None, int | None, int]


class SharedButShape(TypedDict, total=False):
    """The arguments of `Shared` without `input_shape`, for builders that name it themselves."""

    include_top: bool
    weights: str | Path | None
    input_tensor: Any
    pooling: str | None
    classes: int
    classifier_activation: Any
    name: str | None
    include_preprocessing: bool
    attention: Any


class Shared(SharedButShape, total=False):
    """The arguments that a builder takes as `**shared` and passes to its `Scaffold`."""

    input_shape: Shape | None


# In the order of keras.applications: its users give the first ones by position.
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


def check_shared(shared: Shared, min_size: int, others: Collection[str]) -> Shared:
    """Checks the arguments that all builders share, and converts them to Python's numbers.

    A builder may rely on the result. `Scaffold` checks how the arguments fit together, and
    `attention`.

    Args:
        shared: all of `Shared`.
        min_size: smallest height and width in pixels.
        others: names of all arguments of the builder.

    Returns:
        The same arguments; `input_shape` is that of `input_tensor` if one is given.

    Raises:
        InputError: an argument has a wrong type or is out of range; the message names it.
    """
    tensor, shape = shared["input_tensor"], shared["input_shape"]
    if isinstance(factor := as_number(shape), float) and "alpha" in others:
        raise InputError(
            f"input_shape must be (height, width, channels), got {factor}. Did you mean"
            f" alpha={factor}?"
        )
    if shape is not None:
        shape = check_shape("input_shape", shape, min_size)
    if tensor is not None:
        shape = _check_tensor(tensor, shape, min_size)
    return Shared(
        include_top=check_flag("include_top", shared["include_top"]),
        weights=_check_weights(shared["weights"]),
        input_tensor=tensor,
        input_shape=shape,
        pooling=check_choice("pooling", shared["pooling"], (None, "avg", "max")),
        classes=check_positive_int("classes", shared["classes"]),
        classifier_activation=check_activation(
            "classifier_activation", shared["classifier_activation"]
        ),
        name=_check_name(shared["name"]),
        include_preprocessing=check_flag("include_preprocessing", shared["include_preprocessing"]),
        attention=shared["attention"],
    )


def check_shape(name: str, shape: Any, min_size: int) -> Shape:
    """Returns `(height, width, channels)`, or raises a ValueError that names it.

    The shape may be any sequence, such as a list, an array or a `tf.TensorShape`.
    """
    try:
        sides = [] if isinstance(shape, str | bytes | Set | Mapping) else list(shape)
    except (TypeError, ValueError, NotImplementedError):  # a number, an unknown rank, a tensor
        sides = []
    shown_shape = shown(tuple(map(plain, sides)) if sides else shape)
    fitting = [side for side in sides[:2] if side is None or (as_int(side) or 0) >= min_size]
    if len(sides) != 3 or len(fitting) != 2:
        square = as_int(shape) or 0
        hint = ""
        if square >= min_size or (len(sides) == len(fitting) == 2):
            height, width = map(plain, fitting or (square, square))
            hint = f" Did you mean ({height}, {width}, 3)?"
        raise InputError(
            f"{name} must be (height, width, channels) with at least {min_size} pixels each way,"
            f" got {shown_shape}.{hint}"
        )
    height, width = (None if side is None else as_int(side) for side in fitting)
    channels = check_positive_int(f"The channels of {name}={shown_shape}", sides[2])
    return height, width, channels


def _check_tensor(tensor: Any, shape: Shape | None, min_size: int) -> Shape:
    if not keras.backend.is_keras_tensor(tensor):
        raise InputError(
            "input_tensor must be a Keras tensor, such as keras.Input((224, 224, 3)), got"
            f" {type(tensor).__name__}."
        )
    tensor_shape = check_shape("The shape of input_tensor", tensor.shape[1:], min_size)
    if shape not in {None, tensor_shape}:
        raise InputError(f"input_shape={shape} contradicts input_tensor of shape {tensor_shape}.")
    return tensor_shape


def _check_weights(value: Any) -> Any:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise InputError(f"weights must be None, 'imagenet' or a path, got {shown(value)}.")
    return value


def _check_name(value: Any) -> Any:
    # Keras checks the name too, but only after the network is built.
    if value is not None and (not isinstance(value, str) or "/" in value):
        raise InputError(f"name must be a string without '/', got {shown(value)}.")
    return value


def plain(value: Any) -> Any:
    """Converts a NumPy scalar or an array without axes to Python; other values stay unchanged."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating):
        # 0.35 in float32 means 0.35, not 0.3499999940395355: no weights are published for that.
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def as_int(value: Any) -> int | None:
    """An integer of Python, NumPy or a tensor as an `int`; None for all else, and for booleans."""
    value = plain(value)
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except (TypeError, AttributeError):  # a tensor of booleans raises the second
        return None


def as_number(value: Any) -> float | None:
    """An integer as `as_int` gives it, or another real number as a `float`; None for all else."""
    if (integer := as_int(value)) is not None:
        return integer
    number = plain(value)
    real = isinstance(number, numbers.Real) and not isinstance(number, bool)
    return float(number) if real else None


def check_int(name: str, value: Any) -> int:
    """Returns an integer, or raises a ValueError that names it."""
    integer = as_int(value)
    if integer is None:
        raise InputError(f"{name} must be an integer, got {shown(value)}.")
    return integer


def check_positive_int(name: str, value: Any) -> int:
    """Returns an integer above 0, or raises a ValueError that names it."""
    integer = as_int(value)
    if integer is None or integer < 1:
        raise InputError(f"{name} must be a positive integer, got {shown(value)}.")
    return integer


def check_number(name: str, value: Any) -> float:
    """Returns a finite number, or raises a ValueError that names it."""
    number = as_number(value)
    if number is None or not abs(number) < float("inf"):
        raise InputError(f"{name} must be a number, got {shown(value)}.")
    return number


def check_positive(name: str, value: Any) -> float:
    """Returns a finite number above 0, or raises a ValueError that names it."""
    number = as_number(value)
    if number is None or not 0 < number < float("inf"):
        raise InputError(f"{name} must be a positive number, got {shown(value)}.")
    return number


def check_rate(name: str, value: Any) -> float:
    """Returns a number in [0, 1), or raises a ValueError that names it."""
    number = as_number(value)
    if number is None or not 0 <= number < 1:
        raise InputError(f"{name} must be at least 0 and below 1, got {shown(value)}.")
    return number


def check_share(name: str, value: Any) -> float:
    """Returns a number above 0 and below 1, or raises a ValueError that names it."""
    number = as_number(value)
    if number is None or not 0 < number < 1:
        raise InputError(f"{name} must be between 0 and 1, got {shown(value)}.")
    return number


def check_flag(name: str, value: Any) -> bool:
    """Returns a boolean, also for 0 and 1, or raises a ValueError that names it."""
    flag = plain(value)
    if not isinstance(flag, bool) and as_int(flag) not in {0, 1}:
        raise InputError(f"{name} must be True or False, got {shown(value)}.")
    return bool(flag)


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """Returns one of the allowed values, or raises a ValueError that names it."""
    choice = plain(value)
    # Types are compared as well: True == 1, and arrays have no single truth value.
    if not any(type(choice) is type(option) and choice == option for option in allowed):
        *others, last = map(repr, allowed)
        raise InputError(f"{name} must be {', '.join(others)} or {last}, got {shown(value)}.")
    return choice


def check_activation(name: str, value: Any) -> Any:
    """Returns an activation that Keras knows, or raises a ValueError that names it."""
    try:
        keras.activations.get(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}={shown(value)} is not an activation of Keras.") from error
    return value


def if_given(check: Callable[[str, Any], T], name: str, value: Any) -> T | None:
    """Applies a check to a value that is not None; returns None for None."""
    return None if value is None else check(name, value)


P = ParamSpec("P")


Result = TypeVar("Result")


def called_as(example: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Makes a function raise an InputError, with an example of a call, for unknown arguments.

    The types of the arguments without a default are checked as well.

    Args:
        example: a correct call.
    """

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        signature, hints = inspect.signature(function), get_type_hints(function)
        required = {
            name: get_args(hints[name]) or (hints[name],)
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }

        def refusal(reason: str) -> InputError:
            return InputError(f"{function.__name__}: {reason}. Call it as {example}.")

        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> Result:
            try:
                values = signature.bind(*args, **keywords).arguments
            except TypeError as error:
                raise refusal(str(error)) from None
            for name, kinds in required.items():
                if not isinstance(values[name], (*kinds, os.PathLike) if Path in kinds else kinds):
                    names = " or ".join(kind.__name__ for kind in kinds)
                    raise refusal(f"{name} must be {names}, got {type(values[name]).__name__}")
            return function(*args, **keywords)

        return call

    return decorate
