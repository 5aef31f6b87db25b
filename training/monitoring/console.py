"""The progress of a run on a terminal, in a notebook or in a log file."""

import sys
import time
from datetime import timedelta
from typing import Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .monitor import Monitor
from .speedometer import Speedometer

LINE_SECONDS = 30
"""From one line to the next inside an epoch, where there is no bar."""


class Console(Monitor):
    """A line for each finished epoch, and the running one as a bar.

    Where nothing can be drawn anew, as in a file, a line stands every half a minute for the bar.
    """

    def __init__(self, speed: Speedometer) -> None:
        super().__init__()
        self.speed = speed
        self._bar: Progress | None = None
        self._epoch_started = self._printed_at = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        console = rich.console.Console(highlight=False, markup=False, emoji=False)
        # FORCE_COLOR makes rich take a file for a terminal.
        if console.is_jupyter or (console.is_interactive and sys.stdout.isatty()):
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=console,
                expand=True,
                transient=True,
                redirect_stderr=sys.stderr.isatty(),
            )
            self._bar.add_task("", total=self.params["steps"], numbers="")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch_started = self._printed_at = time.monotonic()
        self._epoch = f"Epoch {epoch + 1}/{self.params['epochs']}"
        if self._bar:
            self._bar.start()
            self._bar.update(self._bar.task_ids[0], description=self._epoch, completed=0)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._bar:
            done = batch + 1
            numbers = self._now(logs or {}, ".3f")
            self._bar.update(self._bar.task_ids[0], completed=done, numbers=numbers)
        elif time.monotonic() - self._printed_at >= LINE_SECONDS:
            self._printed_at = time.monotonic()
            place = f"step {batch + 1}/{self.params['steps']}"
            print(f"{self._epoch}  {place}  {self._now(logs or {}, '.4f')}", flush=True)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self._bar:
            self._bar.update(self._bar.task_ids[0], numbers="validation")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        seconds = time.monotonic() - self._epoch_started
        parts = [self._epoch, *_named(logs or {}, ".4f"), *self._speed(), f"{seconds:.0f} s"]
        line = "  ".join(parts)
        if self._bar:
            self._bar.print(line, soft_wrap=True)
        else:
            print(line, flush=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.close(None)

    def close(self, error: BaseException | None) -> None:  # noqa: ARG002
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _now(self, logs: dict[str, float], digits: str) -> str:
        left = self.speed.seconds_left
        eta = [] if left is None else [f"ETA {timedelta(seconds=round(left))}"]
        return " ".join([*_named(logs, digits), *self._speed(), *eta])

    def _speed(self) -> list[str]:
        speed = self.speed.images_per_second
        return [] if speed is None else [f"{speed:,.0f} images/s"]


def _named(logs: dict[str, float], digits: str) -> list[str]:
    # Loss and accuracy first, then those of validation.
    names = sorted(logs, key=lambda name: (name.startswith("val_"), not name.endswith("loss")))
    return [f"{name} {logs[name]:{digits}}" for name in names]
