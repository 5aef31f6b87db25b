"""Training images as the network gets to see them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..run import Run

COUNT = 16
MOST_BYTES = 64 * 2**20
"""Of the training images, at most read for the examples."""


def augmented_examples(run: Run) -> tuple[np.ndarray, list[str]]:
    """A batch of at most 16 training images, with preprocessing undone.

    Returns:
        uint8 `(images, height, width, channels)` and the name of each one's class; mixed images
        have the names and shares of their classes.
    """
    train = run.data.splits["train"]
    # From all over the split, for a folder of images comes class by class, but not read for long.
    spread = min(len(train), max(COUNT, MOST_BYTES // train.encoded_bytes))
    encoded = train.encoded.shard(max(1, spread // COUNT), 0).take(COUNT)
    few = {**run.data.splits, "train": replace(train, encoded=encoded)}
    batches = replace(run, data=replace(run.data, splits=few)).batches("train", training=True)
    images, labels = next(batches.as_numpy_iterator())
    pixels = np.clip(run.family.preprocessing.undo(images), 0, 255).round().astype("uint8")
    return pixels, [_name(label, run.settings.class_names) for label in labels]


def _name(label: Iterable[float], names: Iterable[str]) -> str:
    parts = [(name, share) for name, share in zip(names, label, strict=True) if share > 0]
    if len(parts) == 1:
        return parts[0][0]
    return " + ".join(f"{name} {share:.0%}" for name, share in parts)
