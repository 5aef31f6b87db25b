"""The training loop: Keras' own step and callbacks, entered and left at any step.

`Model.fit` begins each epoch at its first step with metrics at zero, and a second call of it would
begin the callbacks anew. Of Keras, the loop takes public methods alone.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from training.checkpoints import NotFiniteError, Progress
from training.optimization import make_schedule
from training.run_folder import RunFolder
from training.stopping import StopRequest, TrainingStopped, stop_request

CHECKPOINT_SECONDS = 300
"""From one checkpoint to the next, unless they are asked for by steps."""


def build_state(model: keras.Model, classes: int) -> None:
    """Makes the variables that Keras makes in the first step: the optimizer's and the metrics'."""
    model.optimizer.build(model.trainable_variables)
    scores = np.zeros((1, classes), "float32")
    model.compute_metrics(None, scores, scores)
    model.reset_metrics()


@dataclass
class Loop:
    """Trains a compiled model from where `progress` stands to its last epoch.

    Attributes:
        batches: gives the batches for training from a step of an epoch on.
        validation: batches.
        steps: in an epoch.
        taken: steps, of this process.
    """

    model: keras.Model
    folder: RunFolder
    progress: Progress
    batches: Callable[[int, int], Any]
    validation: Any
    steps: int
    taken: int = 0
    _not_finite_at: set[tuple[int, int]] = field(default_factory=set)
    _saved_at: float = 0.0

    def run(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """
        Raises:
            TrainingStopped: the process was asked to end, the loss is not finite, or a file cannot
                be written. A checkpoint remains to go on from.
        """
        with stop_request() as request:
            hooks = keras.callbacks.CallbackList(
                [*callbacks, _InValidation(request)],
                model=self.model,
                epochs=self.progress.config.epochs,
                steps=self.steps,
            )
            self._save()
            self.model.make_train_function()
            hooks.on_train_begin()
            iterator = None
            while self.progress.epoch < self.progress.config.epochs:
                iterator = iterator or iter(self.batches(self.progress.epoch, self.progress.step))
                try:
                    self._train(iterator, hooks, request)
                    self._end_epoch(self._validate(hooks, request), hooks)
                    self._stop_if_asked(request, save=False)
                except NotFiniteError:
                    self._roll_back()
                    iterator = None
            hooks.on_train_end()

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
            logs = _floats(self.model.train_function(iterator))
            hooks.on_train_batch_end(step, logs)
            progress.step += 1
            self.taken += 1
            if not np.isfinite(logs["loss"]):
                raise NotFiniteError
            self._stop_if_asked(request)
            if self._is_due():
                self._save()

    def _validate(
        self, hooks: keras.callbacks.CallbackList, request: StopRequest
    ) -> dict[str, float]:
        """The metrics of the whole epoch, in training and in validation."""
        model = self.model
        logs = _floats(model.get_metrics_result())
        trained = [np.array(variable) for variable in model.metrics_variables]
        try:
            found = model.evaluate(self.validation, callbacks=hooks, return_dict=True)
        except _AskedToStop:
            for variable, value in zip(model.metrics_variables, trained, strict=True):
                variable.assign(value)
            self._stop_if_asked(request)
        return logs | {f"val_{name}": value for name, value in found.items()}

    def _end_epoch(self, logs: dict[str, float], hooks: keras.callbacks.CallbackList) -> None:
        progress, folder = self.progress, self.folder
        hooks.on_epoch_end(progress.epoch, logs)
        progress.history.append({"epoch": progress.epoch, **dict(sorted(logs.items()))})
        progress.epoch, progress.step = progress.epoch + 1, 0
        with self._writing():
            folder.write_log(progress.history)
            folder.save_last(self.model, progress.epoch)
        self._save()
        with self._writing():
            folder.keep_if_best(progress.history)

    def _is_due(self) -> bool:
        if every := self.progress.config.checkpoint_steps:
            return (self.progress.epoch * self.steps + self.progress.step) % every == 0
        return time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS

    def _save(self) -> None:
        with self._writing():
            self.folder.checkpoints.save(self.model, self.progress)
        self._saved_at = time.monotonic()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            newest = self.folder.checkpoints.newest()
            rest = f"; the checkpoint {str(newest)!r} is whole, --resume goes on" if newest else ""
            raise TrainingStopped(
                f"The run's folder {str(self.folder.path)!r} cannot be written to: {error}{rest}."
            ) from error

    def _stop_if_asked(self, request: StopRequest, save: bool = True) -> None:
        if request.received:
            if save:
                self._save()
            raise TrainingStopped(
                f"{request.received.name} has stopped the run in {str(self.folder.path)!r} at"
                f" {self._place(self.progress)}; --resume goes on from there.",
                exit_code=128 + request.received,
            )

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
        checkpoint.restore(self.model)
        self.progress = checkpoint.progress
        with self._writing():
            self.folder.write_log(self.progress.history)

    def _place(self, progress: Progress) -> str:
        return f"epoch {progress.epoch + 1}, step {progress.step} of {self.steps}"


class _AskedToStop(Exception):  # noqa: N818  # no error
    """Leaves a validation, which has no steps to come back to."""


class _InValidation(keras.callbacks.Callback):
    def __init__(self, request: StopRequest) -> None:
        super().__init__()
        self.request = request

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self.request.received:
            raise _AskedToStop


def _floats(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}
