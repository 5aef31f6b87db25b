"""Example images: training images after augmentation."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..runs.run import Run

COUNT = 16
MOST_BYTES = 64 * 2**20
"""Limit of the training images that are read for the examples."""


def augmented_examples(run: Run) -> tuple[np.ndarray, list[str]]:
    """Returns a batch of at most 16 augmented training images without preprocessing.

    Returns:
        uint8 images `(images, height, width, channels)` and the names of their classes. A mixed
        image has the names and shares of its classes.
    """
    train = run.data.splits["train"]
    # Examples from the whole split, because image folders are stored class by class. The limit
    # bounds the reading time.
    spread = min(len(train), max(COUNT, MOST_BYTES // train.encoded_bytes))
    encoded = train.encoded.shard(max(1, spread // COUNT), 0).take(COUNT)
    splits = {**run.data.splits, "train": replace(train, encoded=encoded)}
    batches = replace(run, data=replace(run.data, splits=splits)).batches("train", training=True)
    images, labels = next(batches.as_numpy_iterator())
    pixels = np.clip(run.family.preprocessing.undo(images), 0, 255).round().astype("uint8")
    return pixels, [_name(label, run.settings.class_names) for label in labels]


def _name(label: Iterable[float], names: Iterable[str]) -> str:
    parts = [(name, share) for name, share in zip(names, label, strict=True) if share > 0]
    if len(parts) == 1:
        return parts[0][0]
    return " + ".join(f"{name} {share:.0%}" for name, share in parts)
