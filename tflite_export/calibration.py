"""Draws calibration images and test images from a run or a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tensorflow as tf

from keras_archs.errors import InputError
from keras_archs.preprocessing import Preprocessing

from .settings import CALIBRATION_SIZE, check_draw

if TYPE_CHECKING:  # exporting a model does not need the training package
    from training.data import Examples, ImageData
    from training.runs.run import Run


def calibration_set(
    source: Run | ImageData,
    count: int = CALIBRATION_SIZE,
    *,
    seed: int = 0,
    image_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """Draws training images, balanced over the classes, preprocessed but not augmented.

    Args:
        source: a run, or a dataset of `training.open_dataset`.
        count: number of images. A smaller dataset gives all its training images. The numbers of
            images of two classes differ by at most one, unless a class has too few images; the
            other classes then give more.
        seed: seed of the draw, 0 to 2**32 - 1.
        image_shape: (height, width, channels) for the images of a dataset. A run has its own.
        preprocessing: preprocessing for the images of a dataset. None returns pixels of 0..255.

    Returns:
        float32 [count, height, width, channels]

    Raises:
        InputError: `count` or `seed` is out of range, or `image_shape` is missing for a dataset.
    """
    check_draw(count, seed)
    examples, read = _reader(source, "train", image_shape, preprocessing)
    batches = examples.labels().batch(4096).as_numpy_iterator()
    indices = balanced(np.concatenate(list(batches)), count, seed)
    return read(_only(examples, indices))[0]


def evaluation_set(
    source: Run | ImageData,
    count: int,
    *,
    seed: int = 0,
    image_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws test images and their labels, without balancing the classes.

    Arguments and errors are the same as for `calibration_set`.

    Returns:
        images, float32 [count, height, width, channels], and labels, int [count]
    """
    check_draw(count, seed)
    examples, read = _reader(source, "test", image_shape, preprocessing)
    indices = np.random.RandomState(seed).permutation(len(examples))[:count]
    return read(_only(examples, indices))


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws indices of labels, balanced over the classes as described in `calibration_set`.

    Args:
        labels: integers [n].
        count: number of indices, at least 1.
        seed: 0 to 2**32 - 1.

    Returns:
        int [min(count, n)]
    """
    # The streams of default_rng may change between NumPy versions.
    random = np.random.RandomState(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # class by class
    sizes = np.unique(labels, return_counts=True)[1]
    # Each round takes one image of every class that has images left, in random class order.
    rounds = np.concatenate([np.arange(size) for size in sizes])
    turns = np.repeat(random.permutation(len(sizes)), sizes)
    return order[np.lexsort((turns, rounds))][:count]


Read = Callable[["Examples"], tuple[np.ndarray, np.ndarray]]


def _reader(
    source: Run | ImageData,
    split: str,
    shape: tuple[int, int, int] | None,
    preprocessing: Preprocessing | None,
) -> tuple[Examples, Read]:
    """Returns the encoded images of a split, and a function that decodes a part of them."""
    from keras_archs.training.data import Augmentation, make_batches  # noqa: PLC0415  # for datasets only

    if hasattr(source, "arrays"):
        run = cast("Run", source)

        def read_run(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
            splits = {**run.data.splits, split: examples}
            part = replace(run, data=replace(run.data, splits=splits))
            return part.arrays(split, len(examples))

        return run.data.splits[split], read_run

    if shape is None:
        raise InputError("image_shape must be (height, width, channels) for a dataset, got None.")

    def read_dataset(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        batches: Any = make_batches(
            examples,
            image_size=shape[:2],
            channels=shape[2],
            classes=len(source.class_names),
            batch_size=64,
            preprocess=preprocessing or (lambda images: images),
            training=False,
            seed=0,
            augmentation=Augmentation(),
        )
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels).argmax(axis=1)

    return source.splits[split], read_dataset


def _only(examples: Examples, indices: np.ndarray) -> Examples:
    """Returns the examples at these indices in their stored order. The others are not decoded."""
    keep = tf.constant(np.isin(np.arange(len(examples)), indices))
    encoded = (
        examples.encoded.enumerate()
        .filter(lambda index, _: keep[index])
        .map(lambda _, example: example)
        .apply(tf.data.experimental.assert_cardinality(len(indices)))
    )
    return replace(examples, encoded=encoded)


def as_seen(images: np.ndarray, inside: Preprocessing | None) -> np.ndarray:
    """Converts preprocessed images to the input of a file.

    Args:
        images: preprocessed images.
        inside: preprocessing inside the file, which then takes pixels of 0..255; None if the file
            takes preprocessed images.
    """
    return images if inside is None else np.clip(inside.undo(images), 0, 255)
