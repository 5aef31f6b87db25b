"""One training run from its settings to its pictures, and a finished run read back."""

import itertools
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_archs
from keras_archs.errors import InputError
from keras_archs.registry import Family, find
from training.building import Trained, arithmetic, input_shape, prepare
from training.callbacks import check_callbacks, states
from training.checkpoints import Progress
from training.config import TrainConfig
from training.data import ImageData, make_batches, open_dataset, steps_in_epoch
from training.data.encoded import readable
from training.distribution import open_devices
from training.evaluation import Predictions, measure, predict
from training.loop import Loop
from training.monitoring import monitors_of, require_tracker
from training.plots import plot_confusion_matrix, plot_curves
from training.progressive import Stage
from training.reading import reading
from training.reporting import write_report
from training.run_folder import RunFolder, Settings, write_json
from training.stopping import stop_request, stopping_at_once

REPRESENTATIVE = 300
"""Images, or a few more, that the ranges of `qat` start with."""
_NEXT = "before its next step; --resume goes on with it"


@dataclass(frozen=True)
class Run:
    """A run in its folder.

    Attributes:
        folder: the paths of its files.
        settings: its config, input shape and class names.
        data: the dataset that it was trained on.
    """

    folder: RunFolder
    settings: Settings
    data: ImageData

    @property
    def family(self) -> Family:
        return find(self.settings.config.model).family

    @property
    def steps(self) -> int:
        """Batches of an epoch of training."""
        return steps_in_epoch(len(self.data.splits["train"]), self.settings.config.batch_size)

    @property
    def validation_steps(self) -> int:
        """Batches of a validation, the last of which may not be full."""
        return -(-len(self.data.splits["validation"]) // self.settings.config.batch_size)

    def model(self) -> keras.Model:
        """The best model by validation accuracy.

        Raises:
            ValueError: there is none yet.
        """
        if not self.folder.best.is_file():
            raise InputError(
                f"{str(self.folder.path)!r} holds no {self.folder.best.name}: its training has not"
                " finished an epoch; resume it."
            )
        return keras.saving.load_model(self.folder.best, compile=False)

    def batches(
        self,
        split: str,
        training: bool = False,
        epoch: int = 0,
        step: int = 0,
        epochs: int = 1,
        shard: tuple[int, int] = (0, 1),
        stage: Stage | None = None,
    ) -> Any:
        """Batches of `"train"`, `"validation"` or `"test"` as the model takes them.

        Returns:
            A `tf.data.Dataset` of float32 images `(batch, height, width, channels)` and one-hot
            labels `(batch, classes)`; for training shuffled and augmented, from that step of that
            epoch on, to the end of so many epochs. Of each batch worker i of n, `shard=(i, n)`,
            gets its part.
        """
        height, _, channels = self.settings.input_shape
        config = self.settings.config
        augmentation = config.augmentation
        if stage:
            magnitude = config.randaugment_magnitude * stage.strength
            augmentation = replace(augmentation, randaugment_magnitude=magnitude)
        return make_batches(
            self.data.splits[split],
            image_size=stage.image_size if stage else height,
            channels=channels,
            classes=len(self.settings.class_names),
            batch_size=config.batch_size,
            preprocess=self.family.preprocessing,
            training=training,
            seed=config.seed,
            augmentation=augmentation,
            repeats=config.repeated_augmentation,
            epoch=epoch,
            step=step,
            epochs=epochs,
            shard=shard,
        )

    def arrays(self, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` images of a split, preprocessed, and their labels as integers."""
        images, labels = zip(
            *self.batches(split).unbatch().take(count).as_numpy_iterator(), strict=True
        )
        return np.stack(images), np.argmax(labels, axis=1)

    def representative(self) -> np.ndarray:
        """The first images of training, as it sees them."""
        batches = self.batches("train", training=True).as_numpy_iterator()
        count = -(-REPRESENTATIVE // self.settings.config.batch_size)
        return np.concatenate([images for images, _ in itertools.islice(batches, count)])


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    overwrite: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Trains a network, evaluates its best epoch on the test images, writes all of it to `out`.

        training.train(
            training.TrainConfig(
                model="mobilenet", model_args={"alpha": 0.5}, dataset="fashion_mnist_small"
            ),
            out="runs/first",
        )

    Args:
        config: the settings.
        out: the run's folder; made if it does not exist. It gets config.json, log.csv,
            tensorboard/, best.keras (by validation accuracy), last.keras, curves.png,
            confusion_matrix.png, report.html and metrics.json, and checkpoints/ until it is
            finished.
        overwrite: whether a run that the folder already holds may be replaced.
        callbacks: Keras' callbacks, which see the steps and epochs of training and validation as
            those of `Model.fit` do, in every worker. One that sets `model.stop_training` ends the
            run behind the running epoch, with all that follows the last one. Checkpoints hold what
            `get_state()` returns, of numbers, texts, lists and dicts, of those that have it and
            `set_state(state)`; the counters of EarlyStopping and the best value of
            ModelCheckpoint; and nothing of others. best.keras is kept anyway:
            `restore_best_weights` changes nothing in the folder. The learning rate is the
            schedule's: ReduceLROnPlateau and LearningRateScheduler are refused.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: the dataset, the network or the folder does not do, before training starts.
        TrainingStopped: SIGTERM or SIGINT came, the loss is not finite, the disk is full, or the
            images cannot be read any more.
    """
    folder = RunFolder(Path(out))
    folder.check_free(overwrite)
    check_callbacks(callbacks)
    require_tracker(config.track)
    devices = open_devices(config.strategy)
    devices.check_batch(config.batch_size)
    stopping = folder.path, "before its first step; nothing of it is saved"
    with stopping_at_once(*stopping):
        run = new_run(config, folder)
        devices.check_batch(config.batch_size, len(run.data.splits["train"]))
    with arithmetic(config), reading(config.dataset, folder), devices.own(folder.path) as path:
        run = replace(run, folder=RunFolder(path))
        with stopping_at_once(*stopping):
            with reading(config.dataset, None):  # an earlier run's checkpoint is none of this one
                trained = prepare(
                    run.settings, run.steps, devices, representative=run.representative
                )
            with run.folder.writing():
                run.folder.clear()
                run.folder.write_settings(run.settings)
        return _fit_and_evaluate(run, trained, Progress(config), callbacks)


def resume(
    out: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    force: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Goes on with an interrupted run from its last checkpoint, inside an epoch as well.

    Order, augmentation, schedule, optimizer, metrics and random numbers go on as they would have.

    Args:
        out: the run's folder; the settings come from there.
        changes: settings that are to be others from here on.
        force: whether they may be such as change what the run computes.
        callbacks: new ones as given to `train`; those with a state get it from the checkpoint.
            With `force` they may be others, which begin anew.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: the folder holds no run, or one that is finished or of other settings or
            callbacks.
        TrainingStopped: as in `train`.
    """
    folder = RunFolder(Path(out))
    stored = folder.read_settings()
    if folder.metrics.exists():
        raise InputError(f"The run in {str(folder.path)!r} is finished; there is no more to do.")
    config = TrainConfig(**stored.config.model_dump() | dict(changes or {}))
    check_callbacks(callbacks)
    require_tracker(config.track)
    devices = open_devices(config.strategy)
    devices.check_batch(config.batch_size)
    with arithmetic(config), reading(config.dataset, folder), devices.own(folder.path) as path:
        with stopping_at_once(folder.path, _NEXT):
            folder = RunFolder(path)
            folder.remove_parts()
            checkpoint = folder.checkpoints.load()
            progress = checkpoint.progress if checkpoint else Progress(stored.config)
            differences = config.differences(progress.config)
            if differences and not force:
                raise InputError(
                    f"The run in {str(out)!r} has other settings: {'; '.join(differences)}. Give"
                    " force=True (--force) to go on with the new ones, or leave them out."
                )
            found = states(callbacks), progress.callbacks
            given, known = ([name for name, _ in each] for each in found)
            if given != known:
                if checkpoint and not force:
                    raise InputError(
                        f"The run in {str(out)!r} has callbacks with a state, {known}, got {given}:"
                        " give training.resume the same ones, or force=True (--force)."
                    )
                progress = replace(progress, callbacks=[])
            run = _open_run(folder, replace(stored, config=config))
            images = _count(run.data)
            devices.check_batch(config.batch_size, len(run.data.splits["train"]))
            if differences:
                shape = input_shape(config, run.data)
                settings = replace(run.settings, input_shape=shape, images=images)
                run = replace(run, settings=settings)
            elif stored.images not in (None, images):
                # In another order, and with others held out, which training has seen.
                raise InputError(
                    f"dataset {config.dataset!r} has changed since the run in {str(out)!r} began:"
                    f" it had {_counted(stored.images)} images and has now {_counted(images)}."
                )
            trained = prepare(
                run.settings,
                run.steps,
                devices,
                representative=run.representative,
                initialised=checkpoint is not None,
            )
            if checkpoint:
                checkpoint.restore(trained.model, trained.averages)
            step = progress.step * progress.config.batch_size // config.batch_size
            progress = replace(progress, config=config, step=step)
            with folder.writing():
                folder.write_settings(run.settings)
                folder.write_log(progress.history)
                folder.keep_if_best(progress.history)
        return _fit_and_evaluate(run, trained, progress, callbacks)


def new_run(config: TrainConfig, folder: RunFolder) -> Run:
    """A run that has not begun, its dataset opened; nothing is written."""
    data = _open_data(config)
    shape = input_shape(config, data)
    return Run(folder, Settings(config, shape, data.class_names, _count(data)), data)


def load_run(out: str | Path) -> Run:
    """A run read back from its folder, its dataset opened again.

    Raises:
        ValueError: the folder holds no run, or its dataset cannot be found any more.
    """
    folder = RunFolder(Path(out))
    return _open_run(folder, folder.read_settings())


def _open_run(folder: RunFolder, settings: Settings) -> Run:
    config = settings.config
    data = _open_data(config)
    if data.class_names != settings.class_names:
        raise InputError(
            f"dataset {config.dataset!r} has changed since the run in {str(folder.path)!r}: it had"
            f" the classes {', '.join(settings.class_names)} and has now"
            f" {', '.join(data.class_names)}."
        )
    return Run(folder, settings, data)


def _open_data(config: TrainConfig) -> ImageData:
    return open_dataset(
        config.dataset,
        data_dir=config.data_dir,
        seed=config.seed,
        skip_corrupt=config.skip_corrupt,
    )


def _count(data: ImageData) -> dict[str, int]:
    return {name: len(split) for name, split in data.splits.items()}


def _counted(images: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in images.items())


def _fit_and_evaluate(
    run: Run,
    trained: Trained,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, Any]:
    config, folder = run.settings.config, run.folder
    with stopping_at_once(folder.path, _NEXT):
        loop = _make_loop(run, trained, progress)
        monitors = monitors_of(run, quiet=not trained.devices.is_chief)
    with monitors:
        loop.run([*monitors.callbacks, *callbacks])
        taken = loop.progress
        with stopping_at_once(folder.path, loop.stopped_at()), folder.writing():
            found, predictions = _evaluate(run)
            metrics = {
                **found,
                "validation_top1": max(row["val_accuracy"] for row in folder.history()),
                "epochs": taken.epoch,
                "training_seconds": round(taken.seconds, 1),
                "training_images_per_second": round(taken.images / taken.seconds, 1),
                "machine": _machine(),
            }
            title = f"{trained.network.name} on {config.dataset}"
            plot_curves(folder.history(), title, folder.curves)
            write_report(run, predictions, metrics)
            monitors.on_run_end(metrics)
    with stop_request(), folder.writing():  # so near to the end
        write_json(folder.metrics, metrics)
        shutil.rmtree(folder.checkpoints.folder)
    return metrics


def _make_loop(run: Run, trained: Trained, progress: Progress) -> Loop:
    config, folder, devices = run.settings.config, run.folder, trained.devices

    def batches(epoch: int, step: int) -> Any:
        stage = next(each for each in trained.stages if epoch < each.stop)
        return devices.share(
            lambda shard: run.batches(
                "train",
                training=True,
                epoch=epoch,
                step=step,
                epochs=stage.stop - epoch,
                shard=shard,
                stage=stage,
            ),
            min(config.batch_size, len(run.data.splits["train"])),
        )

    return Loop(
        trained.model,
        trained.network,
        trained.averages,
        folder,
        progress,
        batches=batches,
        restarts=[stage.first for stage in trained.stages],
        validation=devices.share(
            lambda shard: run.batches("validation", shard=shard),
            config.batch_size,
            steps=run.validation_steps,
        ),
        validation_steps=run.validation_steps,
        steps=trained.steps,
        devices=devices,
    )


def evaluate(run: Run) -> dict[str, Any]:
    """Measures the best model on the test images and draws its confusion matrix.

    Returns:
        `test_top1`, `test_top5` (shares of the images), `test_loss` (cross-entropy without
        label smoothing; with loss="binary" the true class' part of it), `test_images`,
        `recall`, `precision`, `f1` and `support` of each class, `confusion_matrix` (true classes
        as rows), and the model's `parameters` and `multiply_adds`.

    Raises:
        ValueError: the test images cannot be read any more.
    """
    with readable(run.settings.config.dataset):
        return _evaluate(run)[0]


def report(out: str | Path) -> Path:
    """Writes the report of a finished run, report.html in its folder, anew; training has done so.

    One file for any browser, without scripts and without anything from elsewhere: headline
    figures, curves, classes, confusions, the worst mistakes as pictures, settings and machine.

    Returns:
        Its path.

    Raises:
        ValueError: the folder holds no run or an unfinished one, or its dataset has gone
            or cannot be read.
    """
    run = load_run(out)
    metrics = run.folder.read_metrics()
    with readable(run.settings.config.dataset):
        write_report(run, predict(run, run.model()), metrics)
    return run.folder.report


def _evaluate(run: Run) -> tuple[dict[str, Any], Predictions]:
    model, names = run.model(), run.settings.class_names
    predictions = predict(run, model)
    found = measure(predictions, names)
    title = f"{model.name} on {run.settings.config.dataset}: top-1 {found['test_top1']:.1%}"
    plot_confusion_matrix(predictions.confusion_matrix(), names, title, run.folder.confusion_matrix)
    cost = keras_archs.profile(model)
    metrics = {
        "model": model.name,
        "dataset": run.settings.config.dataset,
        **found,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
    }
    return metrics, predictions


def _machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
