"""Trains a run from its settings to its report, and resumes a run from its last checkpoint."""

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_archs.arguments import called_as
from keras_archs.errors import InputError, shown
from keras_archs.files import local_path

from .data.image_data import Shape
from .distributed.devices import open_devices
from .evaluation.evaluate import evaluate_model
from .evaluation.html_report import write_report
from .evaluation.metrics import Metrics, predict
from .evaluation.plots import plot_curves
from .evaluation.sanity import check_data, check_predictions, check_statistics
from .loop import Loop
from .model.build import TrainingModel, build_training_model, numerics
from .model.check_settings import check_by_building, check_devices, check_new_run
from .monitoring import make_monitors, require_tracker
from .runs.callback_state import check_callbacks, states
from .runs.checkpoints import Progress
from .runs.input_shape import input_shape
from .runs.run import Run, new_run, open_run
from .runs.run_folder import RunFolder, Settings, write_json
from .runs.signals import stop_at_signal, stop_request
from .runs.unreadable_data import stop_if_unreadable
from .settings.config import TrainConfig

_BEFORE_NEXT_STEP = "before its next step; --resume resumes it"


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
    """Trains a network, evaluates its best epoch on the test images, and writes the run to `out`.

        training.train(
            training.TrainConfig(
                model="mobilenet", model_args={"alpha": 0.5}, dataset="fashion_mnist_small"
            ),
            out="runs/first",
        )

    Args:
        config: the settings.
        out: the run's folder. It is created if it does not exist. Training writes config.json,
            log.csv, tensorboard/, best.keras (by validation accuracy), last.keras, curves.png,
            confusion_matrix.png, report.html, metrics.json, and checkpoints/ until the run is
            finished.
        overwrite: whether to replace an existing run in the folder.
        callbacks: Keras callbacks. They are called for the steps and epochs of training and
            validation as in `Model.fit`, in each worker. If a callback sets
            `model.stop_training`, the run ends after the current epoch and is evaluated as usual.
            Checkpoints store the state of callbacks with `get_state()` and `set_state(state)`
            (numbers, texts, lists and dicts), the counters of EarlyStopping and the best value of
            ModelCheckpoint, but nothing of other callbacks. `restore_best_weights` does not change
            the folder, which always has best.keras. The schedule sets the learning rate, so
            ReduceLROnPlateau and LearningRateScheduler are rejected.

    Returns:
        the content of metrics.json.

    Raises:
        ValueError: the dataset, the network, a setting or the folder is invalid. It is raised
            before training starts.
        TrainingStopped: SIGTERM or SIGINT was received, the loss is not finite, the disk is full,
            or the images can no longer be read.
    """
    folder = RunFolder(local_path(out))
    folder.check_free(overwrite)
    check_callbacks(callbacks)
    require_tracker(config.track)
    devices = open_devices(config.strategy)
    check_devices(config, devices)
    stopping = folder.path, "before its first step; nothing was saved"
    with stop_at_signal(*stopping):
        run = new_run(config, folder, partial(check_new_run, config))
        devices.check_batch(config.batch_size, len(run.data.splits["train"]))
    with (
        numerics(config),
        stop_if_unreadable(config.dataset, folder),
        devices.worker_folder(folder.path) as path,
    ):
        run = replace(run, folder=RunFolder(path))
        with stop_at_signal(*stopping):
            # Without the folder, whose checkpoint belongs to an earlier run.
            with stop_if_unreadable(config.dataset, None):
                model = build_training_model(
                    run.settings, run.steps, devices, representative=run.representative
                )
                if devices.is_chief:
                    check_data(run)
                    check_statistics(run, model.network)
            with run.folder.writing():
                run.folder.clear()
                run.folder.write_settings(run.settings)
        return _fit_and_evaluate(run, model, Progress(config), callbacks)


@called_as("training.resume('runs/first')")
def resume(
    out: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    force: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Resumes an interrupted run from its last checkpoint, also in the middle of an epoch.

    Data order, augmentation, schedule, optimizer, metrics and random numbers continue exactly.

    Args:
        out: the run's folder, which contains the settings.
        changes: settings that change for the rest of the run.
        force: whether to allow changes that change the result, and other callbacks.
        callbacks: new instances of the callbacks given to `train`. Their state is restored from the
            checkpoint. Other callbacks (with `force`) start without a state.

    Returns:
        the content of metrics.json.

    Raises:
        ValueError: the folder does not hold a run, the run is finished, or it has other settings or
            callbacks.
        TrainingStopped: as in `train`.
    """
    if not isinstance(changes, Mapping | None):
        raise InputError(
            f"changes must be a dict, for example {{'on_nan': 'rollback'}}, got {shown(changes)}."
        )
    folder = RunFolder(local_path(out))
    stored = folder.read_settings()
    if folder.metrics.exists():
        raise InputError(f"The run in {str(folder.path)!r} is finished and cannot be resumed.")
    config = TrainConfig(**stored.config.model_dump() | dict(changes or {}))
    check_callbacks(callbacks)
    require_tracker(config.track)
    devices = open_devices(config.strategy)
    check_devices(config, devices)
    with (
        numerics(config),
        stop_if_unreadable(config.dataset, folder),
        devices.worker_folder(folder.path) as path,
    ):
        with stop_at_signal(folder.path, _BEFORE_NEXT_STEP):
            folder = RunFolder(path)
            folder.remove_parts()
            checkpoint = folder.checkpoints.load()
            progress = checkpoint.progress if checkpoint else Progress(stored.config)
            differences = config.differences(progress.config)
            if differences and not force:
                raise InputError(
                    f"The run in {str(out)!r} has other settings: {'; '.join(differences)}. Give"
                    " force=True (--force) to resume with the new settings, or omit them."
                )
            names, run_names = (
                [name for name, _ in callback_states]
                for callback_states in (states(callbacks), progress.callbacks)
            )
            if names != run_names:
                if checkpoint and not force:
                    raise InputError(
                        f"The run in {str(out)!r} has the callbacks with state {run_names}, got"
                        f" {names}: give training.resume the same callbacks, or force=True"
                        " (--force)."
                    )
                progress = replace(progress, callbacks=[])
            settings = replace(stored, config=config)

            def with_input_shape(image_shape: Shape) -> Settings:
                shape = input_shape(config, image_shape) if differences else stored.input_shape
                return replace(settings, input_shape=shape)

            run = open_run(
                folder,
                settings,
                lambda _, shape: check_by_building(
                    with_input_shape(shape), initialised=checkpoint is not None
                ),
            )
            images = run.data.counts
            devices.check_batch(config.batch_size, len(run.data.splits["train"]))
            if differences:
                settings = replace(with_input_shape(run.data.image_shape), images=images)
                run = replace(run, settings=settings)
            elif stored.images not in (None, images):
                # The order would change, and images seen in training would be held out.
                raise InputError(
                    f"dataset {config.dataset!r} has changed since the run in {str(out)!r} began:"
                    f" it had {_counted(stored.images)} images and now has {_counted(images)}."
                )
            model = build_training_model(
                run.settings,
                run.steps,
                devices,
                representative=run.representative,
                initialised=checkpoint is not None,
            )
            if checkpoint:
                checkpoint.restore(model.model, model.averages)
            step = progress.step * progress.config.batch_size // config.batch_size
            progress = replace(progress, config=config, step=step)
            with folder.writing():
                folder.write_settings(run.settings)
                folder.write_log(progress.history)
                folder.keep_if_best(progress.history)
        return _fit_and_evaluate(run, model, progress, callbacks)


def _counted(images: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in images.items())


def _fit_and_evaluate(
    run: Run,
    model: TrainingModel,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, Any]:
    config, folder = run.settings.config, run.folder
    with stop_at_signal(folder.path, _BEFORE_NEXT_STEP):
        loop = _make_loop(run, model, progress)
        monitors = make_monitors(run, loop.restarts, quiet=not model.devices.is_chief)
    with monitors:
        loop.run([*monitors.callbacks, *callbacks])
        progress = loop.progress
        with stop_at_signal(folder.path, loop.stopped_at()), folder.writing():
            best = run.model()
            test_metrics, predictions = evaluate_model(run, best)
            if model.devices.is_chief:
                check_predictions(predict(run, best, "validation"), run.settings.class_names)
            metrics = {
                **test_metrics,
                "validation_top1": max(row["val_accuracy"] for row in folder.history()),
                "epochs": progress.epoch,
                "training_seconds": round(progress.seconds, 1),
                "training_images_per_second": round(progress.images_per_second, 1),
                "machine": _machine(),
            }
            title = f"{model.network.name} on {config.dataset}"
            plot_curves(folder.history(), title, folder.curves)
            write_report(run, predictions, metrics)
            monitors.on_run_end(metrics)
    with stop_request(), folder.writing():  # finish in spite of a signal
        write_json(folder.metrics, metrics)
        shutil.rmtree(folder.checkpoints.folder)
    return Metrics(metrics)


def _make_loop(run: Run, model: TrainingModel, progress: Progress) -> Loop:
    config, folder, devices = run.settings.config, run.folder, model.devices

    def batches(epoch: int, step: int) -> Any:
        stage = next(stage for stage in model.stages if epoch < stage.stop)
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
        model.model,
        model.network,
        model.averages,
        folder,
        progress,
        batches=batches,
        restarts=[stage.first for stage in model.stages],
        validation=devices.share(
            lambda shard: run.batches("validation", shard=shard),
            config.batch_size,
            steps=run.validation_steps,
        ),
        validation_steps=run.validation_steps,
        steps=model.steps,
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
