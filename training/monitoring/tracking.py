"""Sends a run to Weights & Biases or MLflow, which have their own settings (server, login)."""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from keras_archs.errors import InputError
from keras_archs.files import atomic_write

from ..runs.run_folder import RunFolder
from .monitor import Monitor, warning_of


class Tracker(Monitor):
    """Sends the metrics of each epoch, and the metrics and files of the finished run.

    A run does not start if its tracker fails to start. Later failures only cause warnings.

    Args:
        name: name of the run.
        config: settings of the run.
        stored: file with the tracker's id of the run, for resuming.
        files: PNG and HTML files that are sent at the end of the run.
    """

    package: str
    needs: str
    """A function that the package must have."""

    def __init__(
        self, name: str, config: Mapping[str, Any], stored: Path, files: Sequence[Path]
    ) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.stored = stored
        self.files = files
        self.api = importlib.import_module(self.package)
        self._finished = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        identifiers = json.loads(self.stored.read_text()) if self.stored.exists() else {}
        identifiers[self.package] = self.start(identifiers.get(self.package))
        content = json.dumps(identifiers, indent=2)
        with RunFolder(self.stored.parent).writing():
            atomic_write(self.stored, (content + "\n").encode())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        rate = float(self.model.optimizer.learning_rate)
        with self._warning():
            self.log(epoch, {**(logs or {}), "learning_rate": rate})

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        with self._warning():
            self.end(numbers)
        self._finished = True

    def close(self, error: BaseException | None) -> None:  # noqa: ARG002
        with self._warning():
            self.finish()

    def _warning(self) -> AbstractContextManager[None]:
        # The errors of the packages have no common type.
        return warning_of(f"{self.package} cannot be reached", Exception)

    def start(self, identifier: str | None) -> str:
        """Starts a run, or resumes the run with this identifier. Returns the identifier."""
        raise NotImplementedError

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        raise NotImplementedError

    def end(self, numbers: Mapping[str, float]) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Marks the run as finished or failed."""
        raise NotImplementedError


class WandB(Tracker):
    package = "wandb"
    needs = "init"
    run: Any = None

    def start(self, identifier: str | None) -> str:
        self.run = self.api.init(
            # W&B's default is "uncategorized".
            project=os.environ.get("WANDB_PROJECT", "keras-archs"),
            name=self.name,
            config=dict(self.config),
            id=identifier,
            resume="allow",
        )
        return self.run.id

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        # W&B ignores an epoch that was sent before: its steps only increase.
        self.run.log(dict(numbers), step=epoch)

    def end(self, numbers: Mapping[str, float]) -> None:
        self.run.summary.update(dict(numbers))
        kinds = {".png": self.api.Image, ".html": self.api.Html}
        self.run.log({file.stem: kinds[file.suffix](str(file)) for file in self.files})

    def finish(self) -> None:
        if self.run:
            self.run.finish(exit_code=0 if self._finished else 1)


class MLflow(Tracker):
    package = "mlflow"
    needs = "start_run"
    _sent = -1  # last epoch that was sent

    def start(self, identifier: str | None) -> str:
        run = self.api.start_run(run_id=identifier, run_name=self.name)
        if identifier:
            history = self.api.MlflowClient().get_metric_history(identifier, "loss")
            self._sent = max((metric.step for metric in history), default=-1)
        else:  # MLflow rejects a parameter that is logged twice.
            self.api.log_params(dict(self.config))
        return run.info.run_id

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        if epoch > self._sent:
            self.api.log_metrics(dict(numbers), step=epoch)
            self._sent = epoch

    def end(self, numbers: Mapping[str, float]) -> None:
        self.api.log_metrics(dict(numbers), step=self._sent)
        for file in self.files:
            self.api.log_artifact(file)

    def finish(self) -> None:
        if self.api.active_run():
            self.api.end_run("FINISHED" if self._finished else "FAILED")


TRACKERS: dict[str, type[Tracker]] = {kind.package: kind for kind in (WandB, MLflow)}


def require_tracker(track: str) -> None:
    """Raises an InputError if the package that `track` names is not installed."""
    if track not in TRACKERS:
        return
    try:
        # W&B creates a folder named wandb, which Python can import as an empty package.
        getattr(importlib.import_module(track), TRACKERS[track].needs)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"track={track!r} needs a package that is not installed: pip install"
            f" 'keras-archs[{track}]'."
        ) from error
