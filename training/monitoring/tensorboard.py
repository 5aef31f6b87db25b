"""Writes a run's metrics and pictures for TensorBoard."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .monitor import Monitor, warning_of
from .speedometer import Speedometer

Examples = Callable[[], np.ndarray]


class TensorBoard(Monitor):
    """Writes the scalars of each epoch, under Keras' names, and two pictures.

    If a resumed run repeats epochs, their earlier events are removed first. Keras' callback would
    leave these epochs in the files twice.

    Args:
        folder: folder for the event files, in `train` and `validation`.
        speed: a speedometer before this monitor in the list of callbacks.
        examples: makes the picture of the first epoch, uint8 `[height, width, 3 or 4]`.
        confusion_matrix: a PNG that exists at the end of the run.
    """

    def __init__(
        self, folder: Path, speed: Speedometer, examples: Examples, confusion_matrix: Path
    ) -> None:
        super().__init__()
        self.folder = folder
        self.speed = speed
        self.examples = examples
        self.confusion_matrix = confusion_matrix
        self._writers: dict[str, Any] = {}
        self._next = 0  # epoch to be written

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        # Not after a rollback inside an epoch, whose events are not written yet.
        if not self._writers or epoch < self._next:
            self.close(None)
            with _warning():
                drop_events(self.folder, from_step=epoch)
            if epoch == 0:
                self._write("train", 0, {"examples": self.examples()})
        self._next = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        training: dict[str, Any] = {}
        validation: dict[str, Any] = {}
        for name, value in (logs or {}).items():
            group = validation if name.startswith("val_") else training
            group["epoch_" + name.removeprefix("val_")] = value
        training["epoch_learning_rate"] = float(self.model.optimizer.learning_rate)
        if self.speed.images_per_second is not None:
            training["epoch_images_per_second"] = self.speed.images_per_second
        self._write("train", epoch, training)
        self._write("validation", epoch, validation)
        self._next = epoch + 1

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        epoch = metrics["epochs"] - 1
        test = {f"test_{name}": metrics[f"test_{name}"] for name in ("top1", "top5", "loss")}
        picture = tf.io.decode_png(self.confusion_matrix.read_bytes()).numpy()
        if not self._writers:  # the run was killed after its last epoch
            with _warning():
                drop_events(self.folder, from_step=epoch + 1)
        self._write("validation", epoch + 1, {**test, "confusion_matrix": picture})

    def close(self, error: BaseException | None) -> None:  # noqa: ARG002
        for writer in self._writers.values():
            with _warning():
                writer.close()
        self._writers = {}

    def _write(self, part: str, step: int, values: Mapping[str, Any]) -> None:
        with _warning():
            if part not in self._writers:
                self._writers[part] = tf.summary.create_file_writer(str(self.folder / part))
            with self._writers[part].as_default(step):
                for name, value in values.items():
                    if isinstance(value, np.ndarray):
                        tf.summary.image(name, value[None])
                    else:
                        tf.summary.scalar(name, value)
                self._writers[part].flush()


def drop_events(folder: Path, from_step: int) -> None:
    """Removes the events from `from_step` on, and partial records, from TensorBoard's files."""
    for path in folder.glob("*/events.out.tfevents.*"):
        # Each record is an event. The last is partial if the process was killed.
        records = list(tf.data.TFRecordDataset(str(path)).ignore_errors().as_numpy_iterator())
        events = [(record, tf.compat.v1.Event.FromString(record)) for record in records]
        part = path.with_name(f".{path.name}")
        with tf.io.TFRecordWriter(str(part)) as writer:
            for record, event in events:
                if event.step < from_step or event.HasField("file_version"):
                    writer.write(record)
        part.replace(path)


def _warning() -> AbstractContextManager[None]:
    return warning_of("TensorBoard's files cannot be written", OSError, tf.errors.OpError)
