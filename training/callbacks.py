"""Callbacks of the user's: which ones a run takes, and what of them its checkpoints hold."""

import json
from collections.abc import Sequence
from typing import Any

import keras

from keras_archs.errors import InputError, shown

State = tuple[str, Any]
"""The name of a callback's class, and its state as JSON has it."""

_OF_KERAS: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("best", "stopped_epoch", "wait"),
    keras.callbacks.ModelCheckpoint: ("best",),
}
"""What changes of Keras' own, but for weights, which are in the run's folder anyway."""
_SET_THE_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)


def check_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Raises an InputError if there are such as no run can take."""
    if not isinstance(callbacks, Sequence):
        raise InputError(
            f"callbacks must be a list of keras.callbacks.Callback, got {shown(callbacks)}."
        )
    for each in callbacks:
        if not isinstance(each, keras.callbacks.Callback):
            raise InputError(f"callbacks must be of keras.callbacks.Callback, got {each!r}.")
        if isinstance(each, _SET_THE_RATE):  # Keras itself refuses it, at the first change
            raise InputError(
                f"callbacks may not set the learning rate, as {type(each).__name__} does: it"
                " follows schedule and warmup_epochs."
            )
    states(callbacks)


def states(callbacks: Sequence[keras.callbacks.Callback]) -> list[State]:
    """The states of those that have one.

    Raises:
        InputError: JSON has no way to write one.
    """
    found = []
    for each in callbacks:
        if hasattr(each, "get_state"):
            state = each.get_state()
        elif names := _names(each):
            state = {name: getattr(each, name) for name in names}
        else:
            continue
        try:
            found.append((type(each).__name__, json.loads(json.dumps(state))))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"callbacks: the state of {type(each).__name__} must be of numbers, texts, lists"
                f" and dicts with texts as keys ({error})."
            ) from error
    return found


def restore(callbacks: Sequence[keras.callbacks.Callback], stored: Sequence[State]) -> None:
    """Gives callbacks the states of those that were there when they were stored."""
    ours = [each for each in callbacks if hasattr(each, "get_state") or _names(each)]
    for each, (_, state) in zip(ours, stored, strict=True):
        if hasattr(each, "set_state"):
            each.set_state(state)
        else:
            for name, value in state.items():
                setattr(each, name, value)


def _names(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _OF_KERAS.items() if isinstance(callback, kind)), ())
