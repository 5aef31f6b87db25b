"""The training loop: Keras' steps and callbacks, with stop and resume at any step.

`Model.fit` can only start at the first step of an epoch, with reset metrics. A second call would
restart the callbacks. The loop uses only public methods of Keras.
"""

import time
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from signal import Signals
from typing import Any

import keras
import numpy as np

from .distributed.devices import Devices
from .model.schedules import make_schedule
from .monitoring import Monitor
from .optim.ema import Averages
from .runs.callback_state import restore, states
from .runs.checkpoints import NotFiniteError, Progress, require_finite
from .runs.run_folder import RunFolder
from .runs.signals import StopRequest, TrainingStopped, stop_request, stopped

CHECKPOINT_SECONDS = 300
"""Time between checkpoints, unless checkpoint_steps is set."""


@dataclass
class Loop:
    """Trains a compiled model from `progress` to its last epoch.

    Attributes:
        model: compiled model.
        network: model of the same layers that is saved. It is not compiled.
        averages: moving averages of the weights. They are validated and saved instead of the
            weights.
        folder: folder of the run.
        progress: progress of the run.
        batches: returns training batches, starting at a given epoch and step.
        restarts: epochs that need new training batches, and whose first step compiles.
        validation: validation batches.
        validation_steps: number of steps in a validation.
        steps: number of steps in an epoch.
        devices: devices that share each step.
    """

    model: keras.Model
    network: keras.Model
    averages: Averages | None
    folder: RunFolder
    progress: Progress
    batches: Callable[[int, int], Any]
    restarts: Collection[int]
    validation: Any
    validation_steps: int
    steps: int
    devices: Devices
    _not_finite_at: set[tuple[int, int]] = field(default_factory=set)
    _compiles: bool = True
    _saved_at: float = 0.0
    _counted_at: float = 0.0
    _callbacks: Sequence[keras.callbacks.Callback] = ()

    def run(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Trains to the last epoch, or to the epoch in which a callback sets `stop_training`.

        Raises:
            TrainingStopped: a stop signal was received, the loss is not finite, or a file cannot be
                written. A checkpoint for resuming remains.
        """
        with stop_request() as request:
            hooks = keras.callbacks.CallbackList(
                list(callbacks),
                model=self.model,
                epochs=self.progress.config.epochs,
                steps=self.steps,
            )
            self._counted_at = time.monotonic()
            self.devices.prepare(self.model)
            hooks.on_train_begin()
            self._callbacks = callbacks
            self._restore_callbacks()
            self._save()
            iterator = None
            while not self.progress.ended and self.progress.epoch < self.progress.config.epochs:
                if iterator is None or self.progress.epoch in self.restarts:
                    iterator = iter(self.batches(self.progress.epoch, self.progress.step))
                    self._compiles = True
                try:
                    self._train(iterator, hooks, request)
                    self._end_epoch(self._validate(hooks, request), hooks)
                    if received := self.devices.agree(request.received)[0]:
                        raise self._stopped(received)
                except NotFiniteError:
                    self._roll_back()
                    iterator = None
            hooks.on_train_end()
            self._count()

    def _train(
        self, iterator: Any, hooks: keras.callbacks.CallbackList, request: StopRequest
    ) -> None:
        """Trains the remaining steps of the current epoch."""
        progress = self.progress
        if progress.step == 0:
            self.model.reset_metrics()
        hooks.on_epoch_begin(progress.epoch)
        for step in range(progress.step, self.steps):
            hooks.on_train_batch_begin(step)
            start = time.monotonic()
            logs = _floats(self.model.train_function(iterator))
            if self.averages:
                self.averages.update()
            if not self._compiles:
                progress.timed_images += progress.config.batch_size
                progress.timed_seconds += time.monotonic() - start
            self._compiles = False
            hooks.on_train_batch_end(step, logs)
            progress.step += 1
            progress.images += progress.config.batch_size
            if not np.isfinite(logs["loss"]):
                raise NotFiniteError
            received, due = self.devices.agree(request.received, self._is_due())
            if received:
                self._save()
                raise self._stopped(received)
            if due:
                self._save()

    def _validate(
        self, hooks: keras.callbacks.CallbackList, request: StopRequest
    ) -> dict[str, float]:
        """Validates, and returns the epoch's training and validation metrics."""
        model = self.model
        logs = _floats(model.get_metrics_result())
        training_state = [np.array(variable) for variable in model.metrics_variables]
        hooks.on_test_begin()
        model.reset_metrics()
        iterator, metrics, received = iter(self.validation), {}, None
        with self._averaged():
            for step in range(self.validation_steps):
                hooks.on_test_batch_begin(step)
                metrics = _floats(model.test_function(iterator))
                hooks.on_test_batch_end(step, metrics)
                if received := self.devices.agree(request.received)[0]:
                    break
        if received:
            for variable, value in zip(model.metrics_variables, training_state, strict=True):
                variable.assign(value)
            self._save()  # a resumed run repeats the whole validation
            raise self._stopped(received)
        next(iterator, None)  # `cache` keeps its content only if the iterator reaches the end
        hooks.on_test_end(metrics)
        return logs | {f"val_{name}": value for name, value in metrics.items()}

    def _end_epoch(self, logs: dict[str, float], hooks: keras.callbacks.CallbackList) -> None:
        progress, folder = self.progress, self.folder
        require_finite(self.model, self.averages)  # before the epoch enters log and last.keras
        hooks.on_epoch_end(progress.epoch, dict(logs))
        if not all(isinstance(callback, Monitor) for callback in self._callbacks):
            require_finite(self.model, self.averages)  # the user's callbacks may change weights
        # Callbacks of all workers get the same metrics, but their clocks may differ.
        progress.ended = self.devices.agree(due=bool(self.model.stop_training))[1]
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.history.append({"epoch": progress.epoch, **dict(sorted(logs.items()))})
        with self.folder.writing():
            folder.write_log(progress.history)
            with self._averaged():
                folder.save_last(self.network, progress.epoch)
        self._write_checkpoint()
        with self.folder.writing():
            folder.keep_if_best(progress.history)

    def _restore_callbacks(self) -> None:
        """Restores the state of callbacks. Called after `on_train_begin`, which resets them."""
        self.model.stop_training = False
        if stored := self.progress.callbacks:
            restore(self._callbacks, stored)

    def _averaged(self) -> AbstractContextManager[None]:
        return self.averages.in_model() if self.averages else nullcontext()

    def _is_due(self) -> bool:
        if every := self.progress.config.checkpoint_steps:
            return (self.progress.epoch * self.steps + self.progress.step) % every == 0
        return time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS

    def _count(self) -> None:
        """Adds the elapsed time to the progress."""
        now = time.monotonic()
        self.progress.seconds += now - self._counted_at
        self._counted_at = now

    def _save(self) -> None:
        require_finite(self.model, self.averages)
        self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        self._count()
        self.progress.callbacks = states(self._callbacks)
        with self.folder.writing():
            self.folder.checkpoints.save(self.model, self.progress, self.averages)
        self._saved_at = time.monotonic()

    def stopped_at(self) -> str:
        """The current position, for the message of a stopped run."""
        return f"at {self._place(self.progress)}; --resume resumes it from there"

    def _stopped(self, received: Signals) -> TrainingStopped:
        return stopped(received, self.folder.path, self.stopped_at())

    def _roll_back(self) -> None:
        """Returns to the last checkpoint.

        Stops the run instead if on_nan is "stop", or if the loss was not finite at this step
        before.
        """
        progress, checkpoint = self.progress, self.folder.checkpoints.load()
        assert checkpoint  # the loop starts by writing one
        rate = float(
            make_schedule(progress.config, self.steps)(
                progress.epoch * self.steps + progress.step - 1
            )
        )
        problem = (
            f"The loss or a weight is not finite at {self._place(progress)}, with a learning rate"
            f" of {rate:.3g}"
        )
        last_good = (
            f"the last good checkpoint, {str(self.folder.checkpoints.newest())!r}, of"
            f" {self._place(checkpoint.progress)}"
        )
        place = progress.epoch, progress.step
        if place in self._not_finite_at:
            raise TrainingStopped(f"{problem}, again after a rollback to {last_good}.")
        if progress.config.on_nan == "stop":
            raise TrainingStopped(
                f"{problem}. --resume --on-nan rollback resumes from {last_good}; to lower"
                " learning_rate, start a new run."
            )
        self._not_finite_at.add(place)
        warnings.warn(f"{problem}; rolling back to {last_good}.", stacklevel=2)
        checkpoint.restore(self.model, self.averages)
        self.progress = checkpoint.progress
        self._restore_callbacks()
        with self.folder.writing():
            self.folder.write_log(self.progress.history)

    def _place(self, progress: Progress) -> str:
        return f"epoch {progress.epoch + 1}, step {progress.step} of {self.steps}"


def _floats(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}
