"""Checkpoints: all that a run needs to go on as if nothing had happened."""

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

from .averaging import Averages
from .callbacks import State
from .config import TrainConfig
from .stopping import TrainingStopped

KEPT = 2
_STATE = "state.json"
_SUFFIX = ".checkpoint"


class NotFiniteError(Exception):
    """A variable holds NaN or infinity."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        config: its settings.
        epoch: the running one, from 0.
        step: the next one of that epoch, from 0.
        history: the log's rows of the epochs before, whose epochs count from 1.
        images: seen in training by all processes that the run has had.
        seconds: that they have taken for it, validation included.
        timed_images: images of the steps that did not compile.
        timed_seconds: that these steps have taken.
        callbacks: names and states of the user's callbacks.
        ended: whether one of them has ended the run before its last epoch.
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
        """Of training alone: without compilation, validation and checkpoints, if that is known."""
        if self.timed_seconds:
            return self.timed_images / self.timed_seconds
        return self.images / self.seconds


@dataclass(frozen=True)
class Checkpoint:
    """One that has been read."""

    progress: Progress
    arrays: list[np.ndarray]

    def restore(self, model: keras.Model, averages: Averages | None = None) -> None:
        """Gives a compiled model, and the averages of its weights, their variables.

        Raises:
            InputError: they are those of another model or optimizer.
        """
        variables = _variables(model, averages)
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [array.shape for array in self.arrays]:
            raise InputError(
                f"The checkpoint's {len(self.arrays)} variables are not in number and shape the"
                f" {len(variables)} of the network and optimizer that the settings ask for."
            )
        for variable, array in zip(variables, self.arrays, strict=True):
            variable.assign(array)


@dataclass(frozen=True)
class Checkpoints:
    """The newest checkpoints of a run, in a folder of their own.

    Each is a zip archive of the variables as NumPy files, by their order, and of the progress as
    JSON. Keras' own file of weights leaves out dropout's seeds and the metrics.
    """

    folder: Path

    def save(
        self, model: keras.Model, progress: Progress, averages: Averages | None = None
    ) -> None:
        """Writes a checkpoint and removes all but the newest ones.

        `require_finite` comes first, or they are not worth going back to.

        Raises:
            OSError: it cannot be written; those before it are as they were.
        """
        arrays = [np.asarray(variable) for variable in _variables(model, averages)]
        state = asdict(progress) | {"config": progress.config.model_dump(mode="json")}
        self.folder.mkdir(exist_ok=True)
        newest = self.newest()
        path = self.folder / f"{int(newest.stem) + 1 if newest else 0:08}{_SUFFIX}"
        # The archive's checksums tell a damaged file from a whole one.
        with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr(_STATE, json.dumps(state))
            for index, array in enumerate(arrays):
                with archive.open(_name(index), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        kept = self._newest_first()[:KEPT]
        for other in self.folder.iterdir():  # what a kill has left of a file included
            if other not in kept:
                other.unlink()

    def load(self) -> Checkpoint | None:
        """The newest checkpoint, if any; newer ones that are damaged go, with a warning.

        Raises:
            TrainingStopped: a file cannot be read now, or is of another version's settings. It may
                well be whole, so all stay.
        """
        try:
            for path in self._newest_first():
                try:
                    return _read(path.read_bytes())
                except _DamagedError as error:
                    warnings.warn(
                        f"The checkpoint {str(path)!r} is damaged ({error}) and is removed; the run"
                        " goes back to the one before.",
                        stacklevel=2,
                    )
                    path.unlink()
                except (InputError, TypeError) as error:
                    raise TrainingStopped(
                        f"The checkpoint {str(path)!r} is of a version of keras-archs with other"
                        f" settings ({error}); nothing is removed. Go on with that version."
                    ) from error
        except OSError as error:
            raise TrainingStopped(
                f"The checkpoints cannot be read now ({error}); nothing is removed. --resume tries"
                " again."
            ) from error
        return None

    def newest(self) -> Path | None:
        return next(iter(self._newest_first()), None)

    def _newest_first(self) -> list[Path]:
        # Path.glob is silent about a folder that cannot be read: all would begin anew.
        files = list(self.folder.iterdir()) if self.folder.exists() else []
        whole = (file for file in files if file.suffix == _SUFFIX and file.stem.isdecimal())
        return sorted(whole, reverse=True)


class _DamagedError(Exception):
    """A file's content is not what was written."""


def _read(content: bytes) -> Checkpoint:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            state = json.loads(archive.read(_STATE))
            arrays = []
            for index in range(len(archive.namelist()) - 1):
                # All at once: the checksum is only compared at a member's end.
                member = io.BytesIO(archive.read(_name(index)))
                arrays.append(np.lib.format.read_array(member, allow_pickle=False))
    except MemoryError:
        raise
    except Exception as error:  # zipfile has many for a damaged directory
        raise _DamagedError(error) from error
    config, history = TrainConfig(**state["config"]), from_one(state["history"])
    return Checkpoint(Progress(**state | {"config": config, "history": history}), arrays)


def from_one(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """A log from its first epoch on, which has number 1; older runs gave it number 0."""
    return [row | {"epoch": row["epoch"] - history[0]["epoch"] + 1} for row in history]


def require_finite(model: keras.Model, averages: Averages | None = None) -> None:
    """Raises a NotFiniteError if a variable of a checkpoint is not worth keeping."""
    if not are_finite(_variables(model, averages)):
        raise NotFiniteError


def are_finite(arrays: Iterable[Any]) -> bool:
    return all(np.isfinite(np.asarray(array)).all() for array in arrays)


def _name(index: int) -> str:
    return f"{index:06}.npy"


def _variables(model: keras.Model, averages: Averages | None) -> list[Any]:
    """Weights, statistics, seeds, the optimizer's with its loss scale, the metrics', averages."""
    more = averages.variables if averages else []
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables, *more]
