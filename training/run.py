"""A run in its folder: opened, read back, evaluated, reported."""

import itertools
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_archs
from keras_archs.errors import InputError
from keras_archs.files import check_target, local_path
from keras_archs.registry import Family, find

from .building import input_shape
from .calling import called_as
from .checking import check_new
from .config import TrainConfig
from .data import ImageData, make_batches, open_dataset, steps_in_epoch
from .data.encoded import readable
from .data.image_data import Announce, Shape
from .evaluation import Predictions, measure, predict
from .metrics import Metrics
from .plots import plot_confusion_matrix
from .progressive import Stage
from .reporting import write_report
from .run_folder import RunFolder, Settings

REPRESENTATIVE = 300
"""Images, or a few more, that the ranges of `qat` start with."""


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

    def __repr__(self) -> str:
        config = self.settings.config
        return f"<Run {str(self.folder.path)!r}: {config.model} on {config.dataset}>"

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
            ValueError: there is none yet, or its file is damaged.
        """
        return self.folder.load_best()

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


def new_run(config: TrainConfig, folder: RunFolder) -> Run:
    """A run that has not begun, its dataset opened; nothing is written.

    Raises:
        InputError: a setting is wrong, before the images are read; or the dataset is.
    """
    data = _open_data(config, partial(check_new, config))
    shape = input_shape(config, data.image_shape)
    return Run(folder, Settings(config, shape, data.class_names, data.counts), data)


@called_as("training.load_run('runs/first')")
def load_run(out: str | Path) -> Run:
    """A run read back from its folder, its dataset opened again.

    Raises:
        ValueError: the folder holds no run, or its dataset cannot be found any more.
    """
    folder = RunFolder(local_path(out))
    return open_run(folder, folder.read_settings())


def open_run(folder: RunFolder, settings: Settings, announce: Announce = lambda *_: None) -> Run:
    """The run of a folder with these settings, its dataset opened again.

    Args:
        folder: of the run.
        settings: of the run.
        announce: as of `open_dataset`.

    Raises:
        ValueError: the dataset cannot be found any more or has other classes.
    """
    config = settings.config

    def check(class_names: tuple[str, ...]) -> None:
        if class_names != settings.class_names:
            raise InputError(
                f"dataset {config.dataset!r} has changed since the run in {str(folder.path)!r}: it"
                f" had the classes {', '.join(settings.class_names)} and has now"
                f" {', '.join(class_names)}."
            )

    def before_images(class_names: tuple[str, ...] | None, image_shape: Shape) -> None:
        if class_names is not None:
            check(class_names)
        announce(class_names, image_shape)

    data = _open_data(config, before_images)
    check(data.class_names)
    return Run(folder, settings, data)


def _open_data(config: TrainConfig, announce: Announce) -> ImageData:
    return open_dataset(
        config.dataset,
        data_dir=config.data_dir,
        seed=config.seed,
        skip_corrupt=config.skip_corrupt,
        announce=announce,
    )


@called_as("training.evaluate(training.load_run('runs/first'))")
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
        return Metrics(measured(run, run.model())[0])


@called_as("training.report('runs/first')")
def report(out: str | Path) -> Path:
    """Writes the report of a finished run, report.html in its folder, anew; training has done so.

    One file for any browser, without scripts and without anything from elsewhere: headline
    figures, curves, classes, confusions, the worst mistakes as pictures, settings and machine.

    Returns:
        Its path.

    Raises:
        ValueError: the folder holds no run or an unfinished one, or cannot be written to, or its
            dataset has gone or cannot be read.
    """
    folder = RunFolder(local_path(out))
    settings, metrics, model = folder.read_settings(), folder.read_metrics(), folder.load_best()
    check_target(folder.report, overwrite=True)
    run = open_run(folder, settings)
    with readable(settings.config.dataset):
        write_report(run, predict(run, model), metrics)
    return folder.report


def measured(run: Run, model: keras.Model) -> tuple[dict[str, Any], Predictions]:
    """What `evaluate` returns of a run's best model, and what it is worked out from."""
    names = run.settings.class_names
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
