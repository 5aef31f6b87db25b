"""One training run from its settings to its pictures, and a finished run read back."""

import os
import platform
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_archs
from keras_archs.errors import InputError
from keras_archs.registry import Family, find
from training.config import TrainConfig
from training.data import ImageData, make_batches, open_dataset
from training.optimization import make_optimizer
from training.plots import plot_confusion_matrix, plot_curves
from training.run_folder import RunFolder, Settings, write_json


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
        self, split: str, training: bool = False, epoch: int = 0, step: int = 0, epochs: int = 1
    ) -> Any:
        """Batches of `"train"`, `"validation"` or `"test"` as the model takes them.

        Returns:
            A `tf.data.Dataset` of float32 images `(batch, height, width, channels)` and one-hot
            labels `(batch, classes)`; for training shuffled and augmented, from that step of that
            epoch on, to the end of so many epochs.
        """
        height, _, channels = self.settings.input_shape
        config = self.settings.config
        return make_batches(
            self.data.splits[split],
            image_size=height,
            channels=channels,
            classes=len(self.settings.class_names),
            batch_size=config.batch_size,
            preprocess=self.family.preprocessing,
            training=training,
            seed=config.seed,
            flip=config.flip,
            crop=config.crop,
            epoch=epoch,
            step=step,
            epochs=epochs,
        )

    def arrays(self, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` images of a split, preprocessed, and their labels as integers."""
        images, labels = zip(
            *self.batches(split).unbatch().take(count).as_numpy_iterator(), strict=True
        )
        return np.stack(images), np.argmax(labels, axis=1)


def train(config: TrainConfig, out: str | Path, *, overwrite: bool = False) -> dict[str, Any]:
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
            confusion_matrix.png and metrics.json.
        overwrite: whether a run that the folder already holds may be replaced.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: the dataset, the network or the folder does not do, before training starts.
    """
    folder = RunFolder(Path(out))
    folder.check_free(overwrite)
    data = open_dataset(
        config.dataset,
        data_dir=config.data_dir,
        seed=config.seed,
        skip_corrupt=config.skip_corrupt,
    )
    run = Run(folder, Settings(config, _input_shape(config, data), data.class_names), data)
    with _precision(config.precision):
        model = _build(run.settings)
        folder.clear()
        folder.write_settings(run.settings)
        return _fit_and_evaluate(run, model)


def resume(out: str | Path) -> dict[str, Any]:
    """Goes on with an interrupted run from the end of its last whole epoch.

    Args:
        out: the run's folder; all settings come from there.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: the folder holds no run, or one that is finished.
    """
    run = load_run(out)
    if run.folder.metrics.exists():
        raise InputError(
            f"The run in {str(run.folder.path)!r} is finished; there is no more to do."
        )
    with _precision(run.settings.config.precision):
        return _fit_and_evaluate(run, _build(run.settings))


def load_run(out: str | Path) -> Run:
    """A run read back from its folder, its dataset opened again.

    Raises:
        ValueError: the folder holds no run, or its dataset cannot be found any more.
    """
    folder = RunFolder(Path(out))
    settings = folder.read_settings()
    config = settings.config
    data = open_dataset(
        config.dataset,
        data_dir=config.data_dir,
        seed=config.seed,
        skip_corrupt=config.skip_corrupt,
    )
    if data.class_names != settings.class_names:
        raise InputError(
            f"dataset {config.dataset!r} has changed since the run in {str(folder.path)!r}: it had"
            f" the classes {', '.join(settings.class_names)} and has now"
            f" {', '.join(data.class_names)}."
        )
    return Run(folder, settings, data)


def _input_shape(config: TrainConfig, data: ImageData) -> tuple[int, int, int]:
    height, width, channels = data.image_shape
    family = find(config.model).family
    if config.image_size:
        size = config.image_size
    elif "rho" in config.model_args:
        size = round(family.size * float(config.model_args["rho"]))
    elif height and width:
        # Multiples of 32, the stride of the networks: with 32 their last stage would see one
        # position, with more than their own size they would cost more than they were made for.
        size = min(family.size, max(64, 32 * -(-max(height, width) // 32)))
    else:
        size = family.size
    return size, size, 3 if config.model_args.get("weights") == "imagenet" else channels


def _build(settings: Settings) -> keras.Model:
    keras.utils.set_random_seed(settings.config.seed)
    model = keras_archs.create_model(
        settings.config.model,
        input_shape=settings.input_shape,
        classes=len(settings.class_names),
        **settings.config.model_args,
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = settings.config.batch_norm_momentum
    return model


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _Checkpoints(keras.callbacks.Callback):
    """Saves the last and the best model after each epoch; stands behind the callback of the log.

    Keras' BackupAndRestore writes its file in place: a kill while it does so loses the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self.model.save(self.folder.beside)
        # One file, so that weights, optimizer and number of epochs are never of different ages.
        with zipfile.ZipFile(self.folder.beside, "a") as archive:
            archive.writestr(_EPOCHS, str(epoch + 1))
        self.folder.beside.replace(self.folder.last)
        self.folder.keep_if_best(epochs=epoch + 1)

    def restore(self, model: keras.Model) -> int:
        """Loads the last checkpoint, if any, into a compiled model; returns its epochs."""
        self.folder.beside.unlink(missing_ok=True)
        if not self.folder.last.exists():
            return 0
        with zipfile.ZipFile(self.folder.last) as archive:
            epochs = int(archive.read(_EPOCHS))
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.folder.last)
        return epochs


_EPOCHS = "epochs.txt"
"""A member of the checkpoint's zip archive; Keras reads its own members and no others."""


def _fit_and_evaluate(run: Run, model: keras.Model) -> dict[str, Any]:
    config, folder = run.settings.config, run.folder
    steps = len(run.batches("train", training=True))
    model.compile(
        optimizer=make_optimizer(config, model, steps_per_epoch=steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
    )
    checkpoints = _Checkpoints(folder)
    done = checkpoints.restore(model)
    folder.cut_log(done)
    if done:
        folder.keep_if_best(done)
    started = time.perf_counter()
    model.fit(
        run.batches("train", training=True, epoch=done, epochs=config.epochs - done),
        steps_per_epoch=steps,
        validation_data=run.batches("validation"),
        initial_epoch=done,
        epochs=config.epochs,
        shuffle=False,  # as Keras asks for where the batches come shuffled
        callbacks=[
            keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False),
            keras.callbacks.CSVLogger(folder.log, append=True),
            checkpoints,
        ],
    )
    seconds = time.perf_counter() - started
    images = steps * config.batch_size * (config.epochs - done)
    metrics = {
        **evaluate(run),
        "validation_top1": max(row["val_accuracy"] for row in folder.history()),
        "epochs": config.epochs,
        "training_seconds": round(seconds, 1),
        "training_images_per_second": round(images / seconds, 1),
        "machine": _machine(),
    }
    plot_curves(folder.history(), f"{model.name} on {config.dataset}", folder.curves)
    write_json(folder.metrics, metrics)
    return metrics


def evaluate(run: Run) -> dict[str, Any]:
    """Measures the best model on the test images and draws its confusion matrix.

    Returns:
        `test_top1`, `test_top5` (shares of the images), `test_loss` (cross-entropy without
        label smoothing), `test_images`, `recall` of each class, `confusion_matrix` (true classes
        as rows), and the model's `parameters` and `multiply_adds`.
    """
    model = run.model()
    test = run.batches("test")
    scores = model.predict(test, verbose=0)
    truth = np.concatenate([labels for _, labels in test.as_numpy_iterator()]).argmax(axis=1)
    of_truth = scores[np.arange(len(truth)), truth]
    ranks = (scores > of_truth[:, None]).sum(axis=1)
    names = run.settings.class_names
    matrix = tf.math.confusion_matrix(truth, scores.argmax(axis=1), len(names)).numpy()
    top1 = float((scores.argmax(axis=1) == truth).mean())
    title = f"{model.name} on {run.settings.config.dataset}: top-1 {top1:.1%}"
    plot_confusion_matrix(matrix, names, title, run.folder.confusion_matrix)
    recall = matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1)
    cost = keras_archs.profile(model)
    return {
        "model": model.name,
        "dataset": run.settings.config.dataset,
        "test_images": len(truth),
        "test_top1": top1,
        "test_top5": float((ranks < 5).mean()),
        "test_loss": float(-np.log(np.maximum(of_truth, 1e-7)).mean()),
        "recall": dict(zip(names, recall.round(4).tolist(), strict=True)),
        "confusion_matrix": matrix.tolist(),
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
    }


def _machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
