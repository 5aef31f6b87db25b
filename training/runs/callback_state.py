"""Checks the user's callbacks, and saves and restores their state in checkpoints."""

import json
from collections.abc import Sequence
from typing import Any

import keras

from keras_archs.errors import InputError, shown

State = tuple[str, Any]
"""The name of a callback's class, and its state as read from JSON."""

_KERAS_STATE: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("best", "stopped_epoch", "wait"),
    keras.callbacks.ModelCheckpoint: ("best",),
}
"""Attributes that change in Keras' callbacks, except weights, which the run's folder holds."""
_SET_THE_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)


def check_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Raises an InputError if a run cannot use one of the callbacks."""
    if not isinstance(callbacks, Sequence):
        raise InputError(
            f"callbacks must be a list of keras.callbacks.Callback, got {shown(callbacks)}."
        )
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise InputError(f"callbacks must be of keras.callbacks.Callback, got {callback!r}.")
        if isinstance(callback, _SET_THE_RATE):  # Keras would fail at the first change
            raise InputError(
                f"callbacks may not set the learning rate, as {type(callback).__name__} does: the"
                " learning rate follows schedule and warmup_epochs."
            )
    states(callbacks)


def states(callbacks: Sequence[keras.callbacks.Callback]) -> list[State]:
    """Returns the states of all callbacks that have a state.

    Raises:
        InputError: JSON cannot store a state.
    """
    callback_states = []
    for callback in callbacks:
        if hasattr(callback, "get_state"):
            state = callback.get_state()
        elif names := _names(callback):
            state = {name: getattr(callback, name) for name in names}
        else:
            continue
        try:
            callback_states.append((type(callback).__name__, json.loads(json.dumps(state))))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"callbacks: the state of {type(callback).__name__} must consist of numbers, texts,"
                f" lists and dicts with texts as keys ({error})."
            ) from error
    return callback_states


def restore(callbacks: Sequence[keras.callbacks.Callback], stored: Sequence[State]) -> None:
    """Restores stored states to the callbacks that have a state, in the same order."""
    stateful = [item for item in callbacks if hasattr(item, "get_state") or _names(item)]
    for callback, (_, state) in zip(stateful, stored, strict=True):
        if hasattr(callback, "set_state"):
            callback.set_state(state)
        else:
            for name, value in state.items():
                setattr(callback, name, value)


def _names(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _KERAS_STATE.items() if isinstance(callback, kind)), ())
