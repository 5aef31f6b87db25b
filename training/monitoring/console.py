"""Shows the progress of a run on a terminal, in a notebook or in a log file."""

import time
from datetime import timedelta
from typing import Any

from .bars import Bar, make_bar
from .monitor import Monitor
from .speedometer import Speedometer

LINE_SECONDS = 30
"""Time between two lines inside an epoch, without a bar."""


class Console(Monitor):
    """Prints a line for each finished epoch, and a bar for the current epoch.

    If the output cannot be redrawn (a file), a line every 30 seconds replaces the bar.
    """

    def __init__(self, speed: Speedometer) -> None:
        super().__init__()
        self.speed = speed
        self._bar: Bar | None = None
        self._epoch_started = self._printed_at = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._bar = make_bar(self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch_started = self._printed_at = time.monotonic()
        self._epoch = f"Epoch {epoch + 1}/{self.params['epochs']}"
        if self._bar:
            self._bar.show(self._epoch, 0, "compiling" if self.speed.compiles else "")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._bar:
            self._bar.show(self._epoch, batch + 1, self._numbers(logs or {}, ".3f"))
        elif time.monotonic() - self._printed_at >= LINE_SECONDS:
            self._printed_at = time.monotonic()
            place = f"step {batch + 1}/{self.params['steps']}"
            print(f"{self._epoch}  {place}  {self._numbers(logs or {}, '.4f')}", flush=True)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self._bar:
            self._bar.show(self._epoch, self.params["steps"], "validation")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        seconds = time.monotonic() - self._epoch_started
        parts = [self._epoch, *_named(logs or {}, ".4f"), *self._speed(), f"{seconds:.0f} s"]
        line = "  ".join(parts)
        if self._bar:
            self._bar.print(line)
        else:
            print(line, flush=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.close(None)

    def close(self, error: BaseException | None) -> None:  # noqa: ARG002
        if self._bar:
            self._bar.close()
            self._bar = None

    def _numbers(self, logs: dict[str, float], digits: str) -> str:
        seconds = self.speed.seconds_left
        eta = [] if seconds is None else [f"ETA {timedelta(seconds=round(seconds))}"]
        return " ".join([*_named(logs, digits), *self._speed(), *eta])

    def _speed(self) -> list[str]:
        speed = self.speed.images_per_second
        return [] if speed is None else [f"{speed:,.0f} images/s"]


def _named(logs: dict[str, float], digits: str) -> list[str]:
    # Training loss and accuracy first, then validation loss and accuracy.
    names = sorted(logs, key=lambda name: (name.startswith("val_"), not name.endswith("loss")))
    return [f"{name} {logs[name]:{digits}}" for name in names]
