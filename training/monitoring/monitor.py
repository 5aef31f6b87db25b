"""Callbacks that also learn how their run has ended."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import keras


class Monitor(keras.callbacks.Callback):
    """A callback that outlives the training, to the end of the run."""

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """Gets the content of metrics.json; the run's pictures are written."""

    def close(self, error: BaseException | None) -> None:
        """The run is over, or has been left by an error."""


class Monitors(ExitStack):
    """Monitors that are closed, each of them, when their `with` block is left.

    Attributes:
        callbacks: the monitors, in their order.
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
    """Lets a run go on where a monitor fails, with a warning of the failure and its error."""
    try:
        yield
    except kinds as error:
        warnings.warn(f"{failure}: {type(error).__name__}: {error}", stacklevel=2)
