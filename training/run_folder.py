"""The folder of a run: what lies in it, and when it may be written."""

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

from .checkpoints import Checkpoints, from_one
from .config import TrainConfig
from .stopping import TrainingStopped

_EPOCHS = "epochs.txt"
"""A member of last.keras, a zip archive; Keras reads its own members and no others."""


@dataclass(frozen=True)
class Settings:
    """What a run needs to be read again: its config and what followed from the data.

    Attributes:
        images: of each split; None in folders of before they were counted.
    """

    config: TrainConfig
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    images: dict[str, int] | None = None


@dataclass(frozen=True)
class RunFolder:
    """Paths of everything that a run writes."""

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
    def beside(self) -> Path:
        """A model that is being written, until it is whole and gets its name."""
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
        """Names of the run in trackers of experiments, if it has one."""
        return self.path / "tracking.json"

    @property
    def exports(self) -> Path:
        return self.path / "export"

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints")

    def check_free(self, overwrite: bool) -> None:
        """Raises a ValueError unless a new run may and can be written here; changes nothing."""
        require_local(self.path, "out")
        part = f".{self.settings.name}."  # what a kill has left, or another worker's test
        path = self.path.absolute()
        nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
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
                " (--resume) or overwrite (--overwrite) it."
            )
        others = (file for file in self.path.iterdir() if not file.name.startswith(part))
        if not self.settings.exists() and any(others):
            raise InputError(
                f"out={str(self.path)!r} is not empty and holds no run; choose another folder."
            )

    def clear(self) -> None:
        """Removes the files of an earlier run, and no others; by the last it was known as one."""
        self.remove_parts()
        for folder in (self.checkpoints.folder, self.tensorboard, self.exports):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self._files():
            file.unlink(missing_ok=True)

    def remove_parts(self) -> None:
        """Removes what a kill has left of files that were being written."""
        self.beside.unlink(missing_ok=True)
        for file in self._files():
            remove_parts(file)

    def _files(self) -> list[Path]:
        files = [self.best, self.last, self.log, self.metrics, self.curves]
        return [*files, self.confusion_matrix, self.report, self.tracking, self.settings]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Ends a run that its folder has no room for, or that has lost its folder.

        Raises:
            TrainingStopped: an OSError came.
        """
        try:
            yield
        except OSError as error:
            newest = self.newest_checkpoint()
            rest = f"; the checkpoint {str(newest)!r} is whole, --resume goes on" if newest else ""
            raise TrainingStopped(
                f"The run's folder {str(self.path)!r} cannot be written to: {error}{rest}."
            ) from error

    def newest_checkpoint(self) -> Path | None:
        """What a run that ends goes on from, if there is anything and the folder can be read."""
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
        """Raises a ValueError if the folder holds no run or its config cannot be read."""
        if not self.settings.is_file():
            raise InputError(
                f"{str(self.path)!r} holds no run: {self.settings.name} is missing. A run folder is"
                " made by training."
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
        """The best model. Raises a ValueError if there is none yet, or its file is damaged."""
        if not self.best.is_file():
            raise InputError(
                f"{str(self.path)!r} holds no {self.best.name}: its training has not finished an"
                " epoch; resume it."
            )
        try:
            return keras.saving.load_model(self.best, compile=False)
        except Exception as error:  # Keras and zipfile raise what they like on a foreign file
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{str(self.best)!r} cannot be read: {reason}") from error

    def read_metrics(self) -> dict[str, Any]:
        """Raises a ValueError if the run is not finished or its metrics cannot be read."""
        if not self.metrics.is_file():
            raise InputError(
                f"The run in {str(self.path)!r} is not finished; --resume goes on with it."
            )
        with _undamaged(self.metrics):
            metrics = json.loads(self.metrics.read_text())
            metrics["machine"]  # the last of them
            return metrics

    def history(self) -> list[dict[str, float]]:
        """The log, one entry an epoch; they count from 1.

        Raises:
            ValueError: it cannot be read.
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
        """Writes the model behind so many epochs."""
        try:
            model.save(self.beside)
            with zipfile.ZipFile(self.beside, "a") as archive:
                archive.writestr(_EPOCHS, str(epochs))
            put_in_place(self.beside, self.last)
        finally:
            self.beside.unlink(missing_ok=True)

    def keep_if_best(self, history: Sequence[dict[str, float]]) -> None:
        """Copies the last model to the best if its epoch ends the history and has validated best.

        The last model can be of a later epoch, if a kill came before that epoch's checkpoint.
        """
        accuracies = [row["val_accuracy"] for row in history]
        if not history or accuracies.index(max(accuracies)) != len(history) - 1:
            return
        with zipfile.ZipFile(self.last) as archive:
            epochs = int(archive.read(_EPOCHS))
        if epochs == len(history):
            try:
                shutil.copyfile(self.last, self.beside)
                put_in_place(self.beside, self.best)
            finally:
                self.beside.unlink(missing_ok=True)


@contextmanager
def _undamaged(file: Path) -> Iterator[None]:
    """Raises an InputError where a file of a run does not hold what training has written."""
    try:
        yield
    except InputError as error:  # of settings that are not allowed
        raise InputError(f"{str(file)!r}: {error}") from error
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(file)!r} is damaged: {error!r}.") from error


def write_json(path: Path, content: Any) -> None:
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())
