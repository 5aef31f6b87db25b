"""How fast a run is, and how long it will take."""

import time
from typing import Any

from .monitor import Monitor


class Speedometer(Monitor):
    """Measures for the monitors behind it.

    The first step of a process, which compiles, is left out.

    Attributes:
        images_per_second: of the running epoch's training, without validation; None at first.
        seconds_left: to the end of the last epoch at the pace so far, validation included; None at
            first.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.images_per_second: float | None = None
        self.seconds_left: float | None = None
        self._taken = -1  # steps behind the first
        self._started = self._epoch_started = 0.0
        self._epoch = self._taken_in_epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch, self._taken_in_epoch = epoch, 0
        self._epoch_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        now = time.perf_counter()
        self._taken += 1
        if self._taken == 0:
            self._started = self._epoch_started = now
            return
        self._taken_in_epoch += 1
        images = self._taken_in_epoch * self.batch_size
        self.images_per_second = images / (now - self._epoch_started)
        epochs, steps = self.params["epochs"], self.params["steps"]
        left = (epochs - self._epoch) * steps - batch - 1
        self.seconds_left = left * (now - self._started) / self._taken
