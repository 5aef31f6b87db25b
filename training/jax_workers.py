"""Distributed training with JAX and `keras.distribution`, recommended by Keras' maintainers.

    KERAS_BACKEND=jax python -m training.jax_workers runs/first --config config.json

This module uses the same networks, batches, optimizers and run folder with `Model.fit`. Arrays span
the devices of all processes, so batch norms use the statistics of the whole batch.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import keras
import tensorflow as tf
import typer

from keras_archs.errors import InputError
from keras_archs.files import local_path

from .distributed.cluster import find_cluster
from .distributed.devices import pad_with_empty_batches
from .model.build import build_network, build_state, precision
from .model.check_settings import check_new_run
from .model.schedules import make_loss, make_optimizer
from .runs.checkpoints import NotFiniteError, Progress, require_finite
from .runs.run import Run, load_run, new_run
from .runs.run_folder import RunFolder
from .runs.signals import TrainingStopped
from .runs.unreadable_data import stop_if_unreadable
from .settings.config import TrainConfig

REQUIRED = {"ema": None, "teacher": None, "progressive_from": None, "qat": False, "track": "none"}
"""The only supported values of these settings."""


def train(config: TrainConfig | None, out: str | Path) -> None:
    """Trains in all processes in TF_CONFIG or SLURM, or in this process alone.

    The first process writes config.json, log.csv, best.keras, last.keras and checkpoints/ to `out`.

    Args:
        config: the settings. `strategy`, `checkpoint_steps`, `on_nan` and `deterministic` are
            ignored. The settings in `REQUIRED` must have the values given there. None resumes the
            run in `out` after its last complete epoch.
        out: the run's folder, which all processes must be able to read.

    Raises:
        InputError: the backend, the dataset, the network, a setting or the folder is invalid.
        TrainingStopped: the loss is not finite, or the images can no longer be read.
    """
    if keras.backend.backend() != "jax":
        raise InputError("training.jax_workers needs the JAX backend: set KERAS_BACKEND=jax.")
    folder = RunFolder(local_path(out))
    if config:
        folder.check_free(overwrite=False)
    settings = config or folder.read_settings().config
    for name, allowed in REQUIRED.items():
        if (value := getattr(settings, name)) != allowed:
            raise InputError(f"training.jax_workers needs {name}={allowed!r}, got {value!r}.")
    cluster = find_cluster()
    shard = (cluster.index, len(cluster.addresses)) if cluster else (0, 1)
    if cluster:
        keras.distribution.initialize(",".join(cluster.addresses), shard[1], cluster.index)
    tf.config.set_visible_devices([], "GPU")  # TensorFlow only makes the batches
    distribution = keras.distribution.DataParallel(
        devices=keras.distribution.list_devices(), auto_shard_dataset=False
    )
    with precision(settings.precision), distribution.scope():
        run = new_run(config, folder, partial(check_new_run, config)) if config else load_run(out)
        with tempfile.TemporaryDirectory(prefix="keras-archs-") as temporary:
            # Saving a model runs JAX operations, in which all processes must take part.
            worker_folder = run.folder if shard[0] == 0 else RunFolder(Path(temporary))
            with stop_if_unreadable(settings.dataset, run.folder, again="a start without --config"):
                _fit(run, worker_folder, shard)


def _fit(run: Run, worker_folder: RunFolder, shard: tuple[int, int]) -> None:
    config = run.settings.config
    checkpoint = run.folder.checkpoints.load()
    network = build_network(run.settings, initialised=checkpoint is not None)
    model = keras.Model(network.input, network.output, name=network.name)
    model.compile(
        optimizer=make_optimizer(config, model, steps_per_epoch=run.steps),
        loss=make_loss(config),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    build_state(model, len(run.settings.class_names))
    progress = Progress(config)
    if checkpoint:
        checkpoint.restore(model)
        progress = checkpoint.progress
        if worker_folder is run.folder:  # a kill may have come after the checkpoint
            worker_folder.write_log(progress.history)
            worker_folder.keep_if_best(progress.history)
    start = progress.epoch
    if start >= config.epochs:
        return
    worker_folder.write_settings(run.settings)
    batches = run.batches(
        "train", training=True, epoch=start, epochs=config.epochs - start, shard=shard
    )
    try:
        model.fit(
            batches,
            validation_data=_validation(run, shard),
            initial_epoch=start,
            epochs=config.epochs,
            steps_per_epoch=run.steps,
            callbacks=[_SaveEpoch(worker_folder, progress, network)],
            verbose="auto" if worker_folder is run.folder else 0,
        )
    except NotFiniteError as error:
        newest = run.folder.newest_checkpoint()
        hint = f" The last good checkpoint is {str(newest)!r}." if newest else ""
        raise TrainingStopped(
            f"The loss or a weight is not finite in epoch {progress.epoch + 1}; to lower"
            f" learning_rate, start a new run.{hint}"
        ) from error


def _validation(run: Run, shard: tuple[int, int]) -> tf.data.Dataset:
    """Returns validation batches of the same size in all processes, as JAX requires.

    Padding has weight zero. With the weight of the images, Keras' mean over padded batches equals
    the mean over the images.
    """
    count, batch_size = len(run.data.splits["validation"]), run.settings.config.batch_size
    steps, size = run.validation_steps, batch_size // shard[1]

    def pad(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        weights = tf.fill([tf.shape(labels)[0]], steps * batch_size / count)
        missing = size - tf.shape(labels)[0]
        batch = []
        for tensor in (images, labels, weights):
            batch.append(tf.pad(tensor, [[0, missing]] + [[0, 0]] * (len(tensor.shape) - 1)))
            batch[-1].set_shape([size, *tensor.shape[1:]])
        return tuple(batch)

    return pad_with_empty_batches(run.batches("validation", shard=shard), steps).map(pad)


class _SaveEpoch(keras.callbacks.Callback):
    """Writes the run's folder at the end of each epoch."""

    model: keras.Model

    def __init__(self, folder: RunFolder, progress: Progress, network: keras.Model) -> None:
        super().__init__()
        self.folder, self.progress, self.network = folder, progress, network

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        require_finite(self.model)
        history = self.progress.history
        logs = {name: float(value) for name, value in sorted((logs or {}).items())}
        history.append({"epoch": epoch + 1, **logs})
        self.progress.epoch = epoch + 1
        self.folder.write_log(history)
        self.folder.save_last(self.network, self.progress.epoch)
        self.folder.checkpoints.save(self.model, self.progress)
        self.folder.keep_if_best(history)


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the run.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of a new run as JSON. Without: resume the run in the folder."),
    ] = None,
) -> None:
    """Train with JAX on all devices of all processes in TF_CONFIG or SLURM."""
    try:
        train(TrainConfig(**json.loads(config.read_text())) if config else None, out)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except TrainingStopped as stop:
        print(f"Stopped: {stop}", file=sys.stderr)
        raise typer.Exit(stop.exit_code) from stop


if __name__ == "__main__":
    typer.run(main)
