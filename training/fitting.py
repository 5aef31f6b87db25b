"""Training of a run from its settings to its pictures, and on from a checkpoint."""

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_archs.errors import InputError, shown
from keras_archs.files import local_path

from .building import Trained, arithmetic, input_shape, prepare
from .callbacks import check_callbacks, states
from .calling import called_as
from .checking import check_devices, check_parts
from .checkpoints import Progress
from .config import TrainConfig
from .data.image_data import Shape
from .distribution import open_devices
from .evaluation import predict
from .loop import Loop
from .metrics import Metrics
from .monitoring import monitors_of, require_tracker
from .plots import plot_curves
from .reading import reading
from .reporting import write_report
from .run import Run, measured, new_run, open_run
from .run_folder import RunFolder, Settings, write_json
from .sanity import check_data, check_predictions, check_statistics
from .stopping import stop_request, stopping_at_once

_NEXT = "before its next step; --resume goes on with it"


@called_as(
    "training.train(training.TrainConfig(model='mobilenet', dataset='fashion_mnist_small'),"
    " out='runs/first')"
)
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
    folder = RunFolder(local_path(out))
    folder.check_free(overwrite)
    check_callbacks(callbacks)
    require_tracker(config.track)
    devices = open_devices(config.strategy)
    check_devices(config, devices)
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
                if devices.is_chief:
                    check_data(run)
                    check_statistics(run, trained.network)
            with run.folder.writing():
                run.folder.clear()
                run.folder.write_settings(run.settings)
        return _fit_and_evaluate(run, trained, Progress(config), callbacks)


@called_as("training.resume('runs/first')")
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
    if not isinstance(changes, Mapping | None):
        raise InputError(
            f"changes must be a dict such as {{'on_nan': 'rollback'}}, got {shown(changes)}."
        )
    folder = RunFolder(local_path(out))
    stored = folder.read_settings()
    if folder.metrics.exists():
        raise InputError(f"The run in {str(folder.path)!r} is finished; there is no more to do.")
    config = TrainConfig(**stored.config.model_dump() | dict(changes or {}))
    check_callbacks(callbacks)
    require_tracker(config.track)
    devices = open_devices(config.strategy)
    check_devices(config, devices)
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
            settings = replace(stored, config=config)

            def adapted(image_shape: Shape) -> Settings:
                shape = input_shape(config, image_shape) if differences else stored.input_shape
                return replace(settings, input_shape=shape)

            run = open_run(
                folder,
                settings,
                lambda _, shape: check_parts(adapted(shape), initialised=checkpoint is not None),
            )
            images = run.data.counts
            devices.check_batch(config.batch_size, len(run.data.splits["train"]))
            if differences:
                settings = replace(adapted(run.data.image_shape), images=images)
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
        monitors = monitors_of(run, loop.restarts, quiet=not trained.devices.is_chief)
    with monitors:
        loop.run([*monitors.callbacks, *callbacks])
        taken = loop.progress
        with stopping_at_once(folder.path, loop.stopped_at()), folder.writing():
            model = run.model()
            found, predictions = measured(run, model)
            if trained.devices.is_chief:
                check_predictions(predict(run, model, "validation"), run.settings.class_names)
            metrics = {
                **found,
                "validation_top1": max(row["val_accuracy"] for row in folder.history()),
                "epochs": taken.epoch,
                "training_seconds": round(taken.seconds, 1),
                "training_images_per_second": round(taken.images_per_second, 1),
                "machine": _machine(),
            }
            title = f"{trained.network.name} on {config.dataset}"
            plot_curves(folder.history(), title, folder.curves)
            write_report(run, predictions, metrics)
            monitors.on_run_end(metrics)
    with stop_request(), folder.writing():  # so near to the end
        write_json(folder.metrics, metrics)
        shutil.rmtree(folder.checkpoints.folder)
    return Metrics(metrics)


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


def _machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
