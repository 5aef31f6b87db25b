"""Checkpoints: the complete state for an exact resume."""

import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_archs.errors import InputError
from keras_archs.files import atomic_file

from ..optim.ema import Averages
from ..settings.config import TrainConfig
from .callback_state import State
from .signals import TrainingStopped

KEPT = 2
"""Number of checkpoints in a run's folder."""
_STATE = "state.json"
_SUFFIX = ".checkpoint"


class NotFiniteError(Exception):
    """A variable contains NaN or infinity."""


@dataclass
class Progress:
    """The progress of a run, over all processes that have worked on it.

    Attributes:
        config: settings of the run.
        epoch: current epoch, from 0.
        step: next step of the current epoch, from 0.
        history: log rows of the completed epochs, which count from 1.
        images: number of images seen in training.
        seconds: time for training and validation.
        timed_images: number of images in steps without compilation.
        timed_seconds: time for these steps.
        callbacks: names and states of the user's callbacks.
        ended: whether a callback has ended the run before its last epoch.
    """

    config: TrainConfig
    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0
    callbacks: list[State] = field(default_factory=list)
    ended: bool = False

    @property
    def images_per_second(self) -> float:
        """Training speed, without compilation, validation and checkpoints if these are known."""
        if self.timed_seconds:
            return self.timed_images / self.timed_seconds
        return self.images / self.seconds


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file."""

    progress: Progress
    arrays: list[np.ndarray]

    def restore(self, model: keras.Model, averages: Averages | None = None) -> None:
        """Restores the variables of a compiled model and of the averages of its weights.

        Raises:
            InputError: the checkpoint belongs to another model or optimizer.
        """
        variables = _variables(model, averages)
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [array.shape for array in self.arrays]:
            raise InputError(
                f"The checkpoint's {len(self.arrays)} variables differ in number or shape from the"
                f" {len(variables)} variables of the network and optimizer in the settings."
            )
        for variable, array in zip(variables, self.arrays, strict=True):
            variable.assign(array)


@dataclass(frozen=True)
class Checkpoints:
    """The newest checkpoints of a run, in a folder of their own.

    A checkpoint is a zip archive. It contains the variables as numbered NumPy files and the
    progress as JSON. Keras' weights file would omit the seeds of dropout and the metrics.
    """

    folder: Path

    def save(
        self, model: keras.Model, progress: Progress, averages: Averages | None = None
    ) -> None:
        """Writes a checkpoint and removes all but the newest `KEPT` checkpoints.

        Call `require_finite` first: a checkpoint with NaN is useless for a rollback.

        Raises:
            OSError: the file cannot be written. Earlier checkpoints do not change.
        """
        arrays = [np.asarray(variable) for variable in _variables(model, averages)]
        state = asdict(progress) | {"config": progress.config.model_dump(mode="json")}
        self.folder.mkdir(exist_ok=True)
        newest = self.newest()
        path = self.folder / f"{int(newest.stem) + 1 if newest else 0:08}{_SUFFIX}"
        # The archive's checksums detect a damaged file.
        with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr(_STATE, json.dumps(state))
            for index, array in enumerate(arrays):
                with archive.open(_name(index), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        newest_files = self._newest_first()[:KEPT]
        for entry in self.folder.iterdir():  # including partial files of a killed process
            if entry not in newest_files:
                entry.unlink()

    def load(self) -> Checkpoint | None:
        """Reads the newest intact checkpoint, if any. Removes damaged ones, with a warning.

        Raises:
            TrainingStopped: a file cannot be read now, or has the settings of another version. The
                file may be intact, so nothing is removed.
        """
        try:
            for path in self._newest_first():
                try:
                    return _read(path.read_bytes())
                except _DamagedError as error:
                    warnings.warn(
                        f"The checkpoint {str(path)!r} is damaged ({error}) and is removed; the run"
                        " returns to the checkpoint before it.",
                        stacklevel=2,
                    )
                    path.unlink()
                except (InputError, TypeError) as error:
                    raise TrainingStopped(
                        f"The checkpoint {str(path)!r} is from a version of keras-archs with other"
                        f" settings ({error}); nothing is removed. Resume with that version."
                    ) from error
        except OSError as error:
            raise TrainingStopped(
                f"The checkpoints cannot be read now ({error}); nothing is removed. Try again with"
                " --resume."
            ) from error
        return None

    def newest(self) -> Path | None:
        return next(iter(self._newest_first()), None)

    def _newest_first(self) -> list[Path]:
        # Path.glob hides an unreadable folder, and the run would start from scratch.
        files = list(self.folder.iterdir()) if self.folder.exists() else []
        complete = (file for file in files if file.suffix == _SUFFIX and file.stem.isdecimal())
        return sorted(complete, reverse=True)


class _DamagedError(Exception):
    """The content of a file differs from what was written."""


def _read(content: bytes) -> Checkpoint:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            state = json.loads(archive.read(_STATE))
            arrays = []
            for index in range(len(archive.namelist()) - 1):
                # Read completely: zipfile compares the checksum at the end of a member.
                member = io.BytesIO(archive.read(_name(index)))
                arrays.append(np.lib.format.read_array(member, allow_pickle=False))
    except MemoryError:
        raise
    except Exception as error:  # zipfile raises many types for a damaged directory
        raise _DamagedError(error) from error
    config, history = TrainConfig(**state["config"]), from_one(state["history"])
    return Checkpoint(Progress(**state | {"config": config, "history": history}), arrays)


def from_one(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Numbers the epochs of a log from 1. Older versions numbered them from 0."""
    return [row | {"epoch": row["epoch"] - history[0]["epoch"] + 1} for row in history]


def require_finite(model: keras.Model, averages: Averages | None = None) -> None:
    """Raises a NotFiniteError if a variable of a checkpoint contains NaN or infinity."""
    if not are_finite(_variables(model, averages)):
        raise NotFiniteError


def are_finite(arrays: Iterable[Any]) -> bool:
    return all(np.isfinite(np.asarray(array)).all() for array in arrays)


def _name(index: int) -> str:
    return f"{index:06}.npy"


def _variables(model: keras.Model, averages: Averages | None) -> list[Any]:
    """All variables: weights, statistics, seeds, optimizer with loss scale, metrics, averages."""
    ema = averages.variables if averages else []
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables, *ema]
