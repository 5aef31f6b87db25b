"""The other way to many machines, that of Keras' maintainers: JAX and `keras.distribution`.

    KERAS_BACKEND=jax python -m training.jax_workers runs/first --config config.json

The same networks, batches, optimizers and run folder, under `Model.fit`. Arrays span the devices of
all processes, so that batch norms see the whole batch.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import keras
import tensorflow as tf
import typer

from keras_archs.errors import InputError
from keras_archs.files import local_path

from .building import build_network, precision
from .checkpoints import NotFiniteError, Progress, require_finite
from .cluster import find_cluster
from .config import TrainConfig
from .distribution import fill_up
from .loop import build_state
from .optimization import make_loss, make_optimizer
from .reading import reading
from .run import Run, load_run, new_run
from .run_folder import RunFolder
from .stopping import TrainingStopped

OTHER_WAY = {"ema": None, "teacher": None, "progressive_from": None, "qat": False, "track": "none"}


def train(config: TrainConfig | None, out: str | Path) -> None:
    """Trains in all processes that TF_CONFIG or SLURM names, or in this one alone.

    The first one writes config.json, log.csv, best.keras, last.keras and checkpoints/ to `out`.

    Args:
        config: the settings; `strategy`, `checkpoint_steps`, `on_nan` and `deterministic` belong to
            the other way, and so do those of `OTHER_WAY`, which are refused. None goes on with the
            run in `out`, behind its last whole epoch.
        out: the run's folder, which all processes can read.

    Raises:
        InputError: the backend, the dataset, the network, a setting or the folder does not do.
        TrainingStopped: the loss is not finite, or the images cannot be read any more.
    """
    if keras.backend.backend() != "jax":
        raise InputError("training.jax_workers needs the JAX backend: set KERAS_BACKEND=jax.")
    folder = RunFolder(local_path(out))
    if config:
        folder.check_free(overwrite=False)
    settings = config or folder.read_settings().config
    for name, allowed in OTHER_WAY.items():
        if (value := getattr(settings, name)) != allowed:
            raise InputError(f"{name}={value!r} does not go with training.jax_workers.")
    cluster = find_cluster()
    shard = (cluster.index, len(cluster.addresses)) if cluster else (0, 1)
    if cluster:
        keras.distribution.initialize(",".join(cluster.addresses), shard[1], cluster.index)
    tf.config.set_visible_devices([], "GPU")  # of TensorFlow, the batches are all that is used
    everywhere = keras.distribution.DataParallel(
        devices=keras.distribution.list_devices(), auto_shard_dataset=False
    )
    with precision(settings.precision), everywhere.scope():
        run = new_run(config, folder) if config else load_run(out)
        with tempfile.TemporaryDirectory(prefix="keras-archs-") as temporary:
            # Saving a model computes on JAX, in which all processes have to take part.
            own = run.folder if shard[0] == 0 else RunFolder(Path(temporary))
            with reading(settings.dataset, run.folder, again="a start without --config"):
                _fit(run, own, shard)


def _fit(run: Run, own: RunFolder, shard: tuple[int, int]) -> None:
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
        if own is run.folder:  # a kill may have come between the checkpoint and these
            own.write_log(progress.history)
            own.keep_if_best(progress.history)
    start = progress.epoch
    if start >= config.epochs:
        return
    own.write_settings(run.settings)
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
            callbacks=[_Keep(own, progress, network)],
            verbose="auto" if own is run.folder else 0,
        )
    except NotFiniteError as error:
        newest = run.folder.newest_checkpoint()
        rest = f" The last good checkpoint is {str(newest)!r}." if newest else ""
        raise TrainingStopped(
            f"The loss or a weight is not finite in epoch {progress.epoch + 1}; a lower"
            f" learning_rate is another run.{rest}"
        ) from error


def _validation(run: Run, shard: tuple[int, int]) -> tf.data.Dataset:
    """Validation in batches of one size in all processes, as JAX needs them.

    What fills them up has weight zero; that of each image makes Keras' mean over whole batches the
    mean over the images.
    """
    count, batch_size = len(run.data.splits["validation"]), run.settings.config.batch_size
    steps, size = run.validation_steps, batch_size // shard[1]

    def fill(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        weights = tf.fill([tf.shape(labels)[0]], steps * batch_size / count)
        missing = size - tf.shape(labels)[0]
        filled = []
        for each in (images, labels, weights):
            filled.append(tf.pad(each, [[0, missing]] + [[0, 0]] * (len(each.shape) - 1)))
            filled[-1].set_shape([size, *each.shape[1:]])
        return tuple(filled)

    return fill_up(run.batches("validation", shard=shard), steps).map(fill)


class _Keep(keras.callbacks.Callback):
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
        typer.Option(help="Settings as JSON, of a new run; without, the folder's run goes on."),
    ] = None,
) -> None:
    """Train on all devices of all processes that TF_CONFIG or SLURM names, with JAX."""
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
