"""Warnings about trainings that would end without an error, and without a network of use."""

import warnings
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from .data import Examples
from .evaluation import Predictions
from .run import Run

FEW = 100
"""Images in a split from which one image is at most a point of accuracy."""
IMBALANCE = 10
"""Images of the largest class for one of the smallest."""
MOST_COUNTED = 100_000
"""Images in a split whose labels are counted; some sources read whole images for them."""
REMAINDER = 0.1
"""Share of their start that moving statistics may keep to the end."""
_SHOWN = 5


def check_data(run: Run) -> None:
    """Warns of splits that are small, of classes that a split lacks, and of an imbalance."""
    names, name = run.settings.class_names, run.settings.config.dataset
    sizes = run.data.counts
    if few := [split for split in ("validation", "test") if sizes[split] < FEW]:
        told = " and ".join(
            f"{sizes[split]} {split} images (one is {100 / sizes[split]:.1f} points of accuracy)"
            for split in few
        )
        _warn(f"dataset {name!r} has only {told}.")
    for split, examples in run.data.splits.items():
        if sizes[split] > MOST_COUNTED:
            continue
        counts = count_labels(examples, len(names))
        if absent := [repr(names[i]) for i in np.flatnonzero(counts == 0)]:
            _warn(f"dataset {name!r} has no {split} image of {_listed(absent)}.")
        present = np.flatnonzero(counts)
        least, most = present[counts[present].argmin()], counts.argmax()
        if split == "train" and counts[most] > IMBALANCE * counts[least]:
            _warn(
                f"dataset {name!r} has {counts[least]:,} training images of {names[least]!r} and"
                f" {counts[most]:,} of {names[most]!r}, 1:{counts[most] / counts[least]:.0f}. The"
                " accuracy says little about small classes; metrics.json has each class' recall."
            )


def check_statistics(run: Run, network: keras.Model) -> None:
    """Warns if a run is too short for the moving statistics of its batch norms."""
    config, steps = run.settings.config, run.settings.config.epochs * run.steps
    left = config.batch_norm_momentum**steps
    norms = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if norms and not config.is_pretrained and left > REMAINDER:
        _warn(
            f"batch_norm_momentum={config.batch_norm_momentum:g} leaves {left:.0%} of the batch"
            f" norms' first statistics after the {steps} steps of the run, and validation uses"
            " them: give a lower one, more epochs or smaller batches."
        )


def check_predictions(predictions: Predictions, class_names: Sequence[str]) -> None:
    """Warns of classes for which the best epoch has no right answer in validation.

    If there are none, warns if it is right no more often than a constant answer would be.
    """
    matrix = predictions.confusion_matrix()
    support, hits = matrix.sum(axis=1), matrix.diagonal()
    if len(never := np.flatnonzero((hits == 0) & (support > 0))):
        told = [f"{class_names[int(i)]!r} (0 of {support[i]} images)" for i in never]
        _warn(
            f"{len(never)} of {len(class_names)} classes have no right answer in validation, by the"
            f" best epoch: {_listed(told)}."
        )
    elif hits.sum() <= support.max():
        _warn(
            f"The best validation accuracy, {hits.sum() / support.sum():.1%}, is not above the"
            f" share of the largest class, {class_names[int(support.argmax())]!r} with"
            f" {support.max() / support.sum():.1%}."
        )


def count_labels(examples: Examples, classes: int) -> np.ndarray:
    """The images of each class, int64 `(classes,)`; none of them is decoded."""
    labels = examples.encoded.map(lambda *parts: examples.content(*parts)[1], tf.data.AUTOTUNE)
    counts = np.zeros(classes, "int64")
    for batch in labels.batch(1024).as_numpy_iterator():
        counts += np.bincount(batch[batch >= 0], minlength=classes)  # -1 has no class
    return counts


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)
