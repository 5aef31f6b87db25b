"""The training loop: Keras' own step and callbacks, entered and left at any step.

`Model.fit` begins each epoch at its first step with metrics at zero, and a second call of it would
begin the callbacks anew. Of Keras, the loop takes public methods alone.
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

from .averaging import Averages
from .callbacks import restore, states
from .checkpoints import NotFiniteError, Progress, require_finite
from .distribution import Devices
from .monitoring import Monitor
from .optimization import make_schedule
from .run_folder import RunFolder
from .stopping import StopRequest, TrainingStopped, stop_request, stopped

CHECKPOINT_SECONDS = 300
"""From one checkpoint to the next, unless they are asked for by steps."""


def build_state(model: keras.Model, classes: int) -> None:
    """Makes the variables that Keras makes in the first step: the optimizer's and the metrics'."""
    model.optimizer.build(model.trainable_variables)
    scores = np.zeros((1, classes), "float32")
    # In a distributed model metrics can be updated by a replica alone, or without effect.
    with keras.StatelessScope():
        model.compute_metrics(None, scores, scores)


@dataclass
class Loop:
    """Trains a compiled model from where `progress` stands to its last epoch.

    Attributes:
        network: of the same layers, and not compiled: what is saved.
        averages: of its weights, which are validated and saved in their place.
        batches: gives the batches for training from a step of an epoch on.
        restarts: epochs whose batches are to be asked for anew, and whose first step compiles.
        validation: batches.
        validation_steps: in a validation.
        steps: in an epoch.
        devices: that share each step.
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
        """Trains to the last epoch, or to the one in which a callback sets `model.stop_training`.

        Raises:
            TrainingStopped: the process was asked to end, the loss is not finite, or a file cannot
                be written. A checkpoint remains to go on from.
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
                    if asked := self.devices.agree(request.received)[0]:
                        raise self._stopped(asked)
                except NotFiniteError:
                    self._roll_back()
                    iterator = None
            hooks.on_train_end()
            self._count()

    def _train(
        self, iterator: Any, hooks: keras.callbacks.CallbackList, request: StopRequest
    ) -> None:
        """The rest of the running epoch."""
        progress = self.progress
        if progress.step == 0:
            self.model.reset_metrics()
        hooks.on_epoch_begin(progress.epoch)
        for step in range(progress.step, self.steps):
            hooks.on_train_batch_begin(step)
            began = time.monotonic()
            logs = _floats(self.model.train_function(iterator))
            if self.averages:
                self.averages.update()
            if not self._compiles:
                progress.timed_images += progress.config.batch_size
                progress.timed_seconds += time.monotonic() - began
            self._compiles = False
            hooks.on_train_batch_end(step, logs)
            progress.step += 1
            progress.images += progress.config.batch_size
            if not np.isfinite(logs["loss"]):
                raise NotFiniteError
            asked, due = self.devices.agree(request.received, self._is_due())
            if asked:
                self._save()
                raise self._stopped(asked)
            if due:
                self._save()

    def _validate(
        self, hooks: keras.callbacks.CallbackList, request: StopRequest
    ) -> dict[str, float]:
        """The metrics of the whole epoch, in training and in validation."""
        model = self.model
        logs = _floats(model.get_metrics_result())
        trained = [np.array(variable) for variable in model.metrics_variables]
        hooks.on_test_begin()
        model.reset_metrics()
        iterator, found, asked = iter(self.validation), {}, None
        with self._averaged():
            for step in range(self.validation_steps):
                hooks.on_test_batch_begin(step)
                found = _floats(model.test_function(iterator))
                hooks.on_test_batch_end(step, found)
                if asked := self.devices.agree(request.received)[0]:
                    break
        if asked:
            for variable, value in zip(model.metrics_variables, trained, strict=True):
                variable.assign(value)
            self._save()  # a validation has no steps to come back to
            raise self._stopped(asked)
        next(iterator, None)  # to its end, or what was cached of it is thrown away
        hooks.on_test_end(found)
        return logs | {f"val_{name}": value for name, value in found.items()}

    def _end_epoch(self, logs: dict[str, float], hooks: keras.callbacks.CallbackList) -> None:
        progress, folder = self.progress, self.folder
        require_finite(self.model, self.averages)  # or log and last model had the epoch already
        hooks.on_epoch_end(progress.epoch, dict(logs))
        if not all(isinstance(each, Monitor) for each in self._callbacks):
            require_finite(self.model, self.averages)  # the user's may have changed weights
        # The workers' callbacks have seen the same numbers, but perhaps not the same clock.
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
        """Behind `on_train_begin`, with which they begin anew."""
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
        """The time that has passed, into the progress."""
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
        """Where the run stands, for one that is stopped there."""
        return f"at {self._place(self.progress)}; --resume goes on from there"

    def _stopped(self, asked: Signals) -> TrainingStopped:
        return stopped(asked, self.folder.path, self.stopped_at())

    def _roll_back(self) -> None:
        """To the last checkpoint; or the end, where that is asked for or has been of no use."""
        progress, checkpoint = self.progress, self.folder.checkpoints.load()
        assert checkpoint  # the loop begins with one
        rate = float(
            make_schedule(progress.config, self.steps)(
                progress.epoch * self.steps + progress.step - 1
            )
        )
        found = (
            f"The loss or a weight is not finite at {self._place(progress)}, with a learning rate"
            f" of {rate:.3g}"
        )
        good = (
            f"the last good checkpoint, {str(self.folder.checkpoints.newest())!r}, of"
            f" {self._place(checkpoint.progress)}"
        )
        place = progress.epoch, progress.step
        if place in self._not_finite_at:
            raise TrainingStopped(f"{found}, again after going back to {good}.")
        if progress.config.on_nan == "stop":
            raise TrainingStopped(
                f"{found}. --resume --on-nan rollback goes on from {good}; a lower learning_rate is"
                " another run."
            )
        self._not_finite_at.add(place)
        warnings.warn(f"{found}; going back to {good}.", stacklevel=2)
        checkpoint.restore(self.model, self.averages)
        self.progress = checkpoint.progress
        self._restore_callbacks()
        with self.folder.writing():
            self.folder.write_log(self.progress.history)

    def _place(self, progress: Progress) -> str:
        return f"epoch {progress.epoch + 1}, step {progress.step} of {self.steps}"


def _floats(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}
