"""The folder of a run: paths, reading and writing of its files."""

import csv
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_archs.errors import InputError
from keras_archs.files import atomic_write, put_in_place, remove_parts, require_local

from ..settings.config import TrainConfig
from .checkpoints import Checkpoints, from_one
from .signals import TrainingStopped

_EPOCHS = "epochs.txt"
"""A member that we add to the zip archive last.keras. Keras ignores other members than its own."""


@dataclass(frozen=True)
class Settings:
    """Stored settings of a run: the config and what follows from the data.

    Attributes:
        config: settings of the run.
        input_shape: height, width and channels of the network's input.
        class_names: names of the classes.
        images: number of images of each split. None in folders of older versions.
    """

    config: TrainConfig
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    images: dict[str, int] | None = None


@dataclass(frozen=True)
class RunFolder:
    """Paths of all files that a run writes."""

    path: Path

    @property
    def settings(self) -> Path:
        return self.path / "config.json"

    @property
    def best(self) -> Path:
        return self.path / "best.keras"

    @property
    def last(self) -> Path:
        return self.path / "last.keras"

    @property
    def partial(self) -> Path:
        """A model while it is written. It is renamed when complete."""
        return self.path / "saving.keras"

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def confusion_matrix(self) -> Path:
        return self.path / "confusion_matrix.png"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def tracking(self) -> Path:
        """Names of the run in experiment trackers, if it uses one."""
        return self.path / "tracking.json"

    @property
    def exports(self) -> Path:
        return self.path / "export"

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints")

    def check_free(self, overwrite: bool) -> None:
        """Raises a ValueError unless a new run may and can be written here. Changes nothing."""
        require_local(self.path, "out")
        part = f".{self.settings.name}."  # of a killed process, or another worker's check
        path = self.path.absolute()
        nearest = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
        try:
            with tempfile.TemporaryFile(prefix=part, dir=nearest):
                pass
        except NotADirectoryError as error:
            raise InputError(
                f"out={str(self.path)!r}: {str(nearest)!r} is a file; give a folder."
            ) from error
        except OSError as error:
            raise InputError(f"out={str(self.path)!r} cannot be written to: {error}.") from error
        if nearest != path:
            return
        if self.settings.exists() and not overwrite:
            raise InputError(
                f"out={str(self.path)!r} already holds a run; choose another folder, or resume"
                " (--resume) or overwrite (--overwrite) the run."
            )
        other_files = (file for file in self.path.iterdir() if not file.name.startswith(part))
        if not self.settings.exists() and any(other_files):
            raise InputError(
                f"out={str(self.path)!r} is not empty and does not hold a run; choose another"
                " folder."
            )

    def clear(self) -> None:
        """Removes the files of an earlier run and no others, config.json last."""
        self.remove_parts()
        for folder in (self.checkpoints.folder, self.tensorboard, self.exports):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self._files():
            file.unlink(missing_ok=True)

    def remove_parts(self) -> None:
        """Removes partial files of a killed process."""
        self.partial.unlink(missing_ok=True)
        for file in self._files():
            remove_parts(file)

    def _files(self) -> list[Path]:
        files = [self.best, self.last, self.log, self.metrics, self.curves]
        return [*files, self.confusion_matrix, self.report, self.tracking, self.settings]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Stops the run if its folder cannot be written, for example because the disk is full.

        Raises:
            TrainingStopped: an OSError was raised.
        """
        try:
            yield
        except OSError as error:
            newest = self.newest_checkpoint()
            hint = f"; --resume resumes from the checkpoint {str(newest)!r}" if newest else ""
            raise TrainingStopped(
                f"The run's folder {str(self.path)!r} cannot be written to: {error}{hint}."
            ) from error

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint, or None if there is none or the folder cannot be read."""
        with suppress(OSError):
            return self.checkpoints.newest()
        return None

    def write_settings(self, settings: Settings) -> None:
        content = {
            "config": settings.config.model_dump(mode="json"),
            "input_shape": settings.input_shape,
            "class_names": settings.class_names,
            "images": settings.images,
        }
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.settings, content)

    def read_settings(self) -> Settings:
        """Reads config.json. Raises a ValueError if it is missing or damaged."""
        if not self.settings.is_file():
            raise InputError(
                f"{str(self.path)!r} is not a run folder: {self.settings.name} is missing. Training"
                " creates run folders."
            )
        with _undamaged(self.settings):
            content = json.loads(self.settings.read_text())
            height, width, channels = content["input_shape"]
            return Settings(
                TrainConfig(**content["config"]),
                (height, width, channels),
                tuple(content["class_names"]),
                content.get("images"),
            )

    def load_best(self) -> keras.Model:
        """Loads the best model. Raises a ValueError if it does not exist or is damaged."""
        if not self.best.is_file():
            raise InputError(
                f"{str(self.path)!r} does not contain {self.best.name}: the run has not finished an"
                " epoch; resume it with --resume."
            )
        try:
            return keras.saving.load_model(self.best, compile=False)
        except Exception as error:  # Keras and zipfile raise many types for a foreign file
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{str(self.best)!r} cannot be read: {reason}") from error

    def read_metrics(self) -> dict[str, Any]:
        """Reads metrics.json. Raises a ValueError if the run is not finished or it is damaged."""
        if not self.metrics.is_file():
            raise InputError(
                f"The run in {str(self.path)!r} is not finished; resume it with --resume."
            )
        with _undamaged(self.metrics):
            metrics = json.loads(self.metrics.read_text())
            metrics["machine"]  # the last key: the file is complete
            return metrics

    def history(self) -> list[dict[str, float]]:
        """Reads the log: one row per epoch. Epochs count from 1.

        Raises:
            ValueError: the log cannot be read.
        """
        with _undamaged(self.log), self.log.open(newline="") as file:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]
            return from_one(rows)

    def write_log(self, history: Sequence[dict[str, float]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(history[0]) if history else [])
        if history:
            writer.writeheader()
        writer.writerows(history)
        atomic_write(self.log, text.getvalue().encode())

    def save_last(self, model: keras.Model, epochs: int) -> None:
        """Writes the model after `epochs` epochs."""
        try:
            model.save(self.partial)
            with zipfile.ZipFile(self.partial, "a") as archive:
                archive.writestr(_EPOCHS, str(epochs))
            put_in_place(self.partial, self.last)
        finally:
            self.partial.unlink(missing_ok=True)

    def keep_if_best(self, history: Sequence[dict[str, float]]) -> None:
        """Copies last.keras to best.keras if the last epoch of the history is the best one.

        last.keras can be from a later epoch, if a kill came before that epoch's checkpoint. It is
        not copied then.
        """
        accuracies = [row["val_accuracy"] for row in history]
        if not history or accuracies.index(max(accuracies)) != len(history) - 1:
            return
        with zipfile.ZipFile(self.last) as archive:
            epochs = int(archive.read(_EPOCHS))
        if epochs == len(history):
            try:
                shutil.copyfile(self.last, self.partial)
                put_in_place(self.partial, self.best)
            finally:
                self.partial.unlink(missing_ok=True)


@contextmanager
def _undamaged(file: Path) -> Iterator[None]:
    """Raises an InputError if a run's file is unreadable or damaged."""
    try:
        yield
    except InputError as error:  # an invalid setting
        raise InputError(f"{str(file)!r}: {error}") from error
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(file)!r} is damaged: {error!r}.") from error


def write_json(path: Path, content: Any) -> None:
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())
