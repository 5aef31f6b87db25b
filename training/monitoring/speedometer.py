"""Measures the speed of a run and estimates the remaining time."""

import time
from collections.abc import Collection
from typing import Any

from .monitor import Monitor


class Speedometer(Monitor):
    """Measures speed for the monitors after it in the list of callbacks.

    Args:
        batch_size: images in a step.
        restarts: epochs whose first step compiles, like the first step of a process.

    Attributes:
        compiles: whether the next step compiles.
        images_per_second: speed in the current epoch, without compilation, validation and
            checkpoints. None before the first measurement.
        seconds_left: estimated time to the end of the last epoch, including validation. None
            before the first measurement.
    """

    def __init__(self, batch_size: int, restarts: Collection[int] = ()) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.restarts = restarts
        self.compiles = True
        self.images_per_second: float | None = None
        self.seconds_left: float | None = None
        self._steps = -1  # steps after the first
        self._started = self._step_began = self._seconds = 0.0
        self._epoch = self._images = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch, self._images, self._seconds = epoch, 0, 0.0
        self.compiles |= epoch in self.restarts

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._step_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        now = time.perf_counter()
        if not self.compiles:
            self._images += self.batch_size
            self._seconds += now - self._step_began
            self.images_per_second = self._images / self._seconds
        self.compiles = False
        self._steps += 1
        if self._steps == 0:
            self._started = now
            return
        epochs, steps = self.params["epochs"], self.params["steps"]
        steps_left = (epochs - self._epoch) * steps - batch - 1
        self.seconds_left = steps_left * (now - self._started) / self._steps
