"""Monitors: callbacks that are also notified of the end of a run."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import keras


class Monitor(keras.callbacks.Callback):
    """A callback with methods for the end of the run, after training and evaluation."""

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """Called after evaluation with the content of metrics.json. All plots are written."""

    def close(self, error: BaseException | None) -> None:
        """Called when the run has ended, normally or by an error."""


class Monitors(ExitStack):
    """Closes its monitors at the end of its `with` block.

    Attributes:
        callbacks: the monitors in order.
    """

    def __init__(self, *monitors: Monitor) -> None:
        super().__init__()
        self.callbacks = monitors
        for monitor in monitors:
            self.push(_closing(monitor))

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        for monitor in self.callbacks:
            monitor.on_run_end(metrics)


def _closing(monitor: Monitor) -> Any:
    def close(
        _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        monitor.close(error)

    return close


@contextmanager
def warning_of(failure: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turns errors of a monitor into warnings, so that the run continues."""
    try:
        yield
    except kinds as error:
        warnings.warn(f"{failure}: {type(error).__name__}: {error}", stacklevel=2)
