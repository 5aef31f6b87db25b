"""A run: folder, settings, dataset and best model."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_archs.arguments import called_as
from keras_archs.errors import InputError
from keras_archs.files import local_path
from keras_archs.registry import Family, find

from ..data import ImageData, make_batches, open_dataset, steps_in_epoch
from ..data.image_data import Announce, Shape
from ..settings.config import TrainConfig
from ..settings.image_sizes import Stage
from .input_shape import input_shape
from .run_folder import RunFolder, Settings

REPRESENTATIVE = 300
"""Minimum number of images for the initial ranges of `qat`."""


@dataclass(frozen=True)
class Run:
    """A run in its folder.

    Attributes:
        folder: paths of the run's files.
        settings: config, input shape and class names.
        data: dataset of the run.
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
        """Number of training batches in an epoch."""
        return steps_in_epoch(len(self.data.splits["train"]), self.settings.config.batch_size)

    @property
    def validation_steps(self) -> int:
        """Number of validation batches, including an incomplete last batch."""
        return -(-len(self.data.splits["validation"]) // self.settings.config.batch_size)

    def model(self) -> keras.Model:
        """Loads the model with the best validation accuracy.

        Raises:
            ValueError: the run has not finished an epoch, or the file is damaged.
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
        """Returns batches of `"train"`, `"validation"` or `"test"` for the model.

        Args:
            split: name of the split.
            training: whether to shuffle and augment.
            epoch, step, epochs: first epoch, first step in that epoch, and number of epochs, for
                training only.
            shard: `(i, n)` for worker i of n, which gets its part of each batch.
            stage: stage of progressive resizing.

        Returns:
            a `tf.data.Dataset` of float32 images `(batch, height, width, channels)` and one-hot
            labels `(batch, classes)`.
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
        """Returns the first `count` preprocessed images of a split, and their integer labels."""
        images, labels = zip(
            *self.batches(split).unbatch().take(count).as_numpy_iterator(), strict=True
        )
        return np.stack(images), np.argmax(labels, axis=1)

    def representative(self) -> np.ndarray:
        """Returns the first training images, augmented and preprocessed."""
        batches = self.batches("train", training=True).as_numpy_iterator()
        count = -(-REPRESENTATIVE // self.settings.config.batch_size)
        return np.concatenate([images for images, _ in itertools.islice(batches, count)])


def new_run(config: TrainConfig, folder: RunFolder, announce: Announce = lambda *_: None) -> Run:
    """Creates a run and opens its dataset. Writes nothing.

    Args:
        config: the settings.
        folder: folder of the run.
        announce: as in `open_dataset`.

    Raises:
        InputError: the dataset or a setting is invalid. Settings are checked before images are
            read.
    """
    data = _open_data(config, announce)
    shape = input_shape(config, data.image_shape)
    return Run(folder, Settings(config, shape, data.class_names, data.counts), data)


@called_as("training.load_run('runs/first')")
def load_run(out: str | Path) -> Run:
    """Loads a run from its folder and opens its dataset.

    Raises:
        ValueError: the folder does not hold a run, or the dataset can no longer be opened.
    """
    folder = RunFolder(local_path(out))
    return open_run(folder, folder.read_settings())


def open_run(folder: RunFolder, settings: Settings, announce: Announce = lambda *_: None) -> Run:
    """Loads the run of a folder with given settings, and opens its dataset.

    Args:
        folder: folder of the run.
        settings: settings of the run.
        announce: as in `open_dataset`.

    Raises:
        ValueError: the dataset can no longer be opened, or has other classes.
    """
    config = settings.config

    def check(class_names: tuple[str, ...]) -> None:
        if class_names != settings.class_names:
            raise InputError(
                f"dataset {config.dataset!r} has changed since the run in {str(folder.path)!r}: it"
                f" had the classes {', '.join(settings.class_names)} and now has"
                f" {', '.join(class_names)}."
            )

    def check_and_announce(class_names: tuple[str, ...] | None, image_shape: Shape) -> None:
        if class_names is not None:
            check(class_names)
        announce(class_names, image_shape)

    data = _open_data(config, check_and_announce)
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
