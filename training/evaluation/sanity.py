"""Warns of trainings that succeed but give a useless network."""

import warnings
from collections.abc import Sequence

import keras
import numpy as np

from ..data import Examples
from ..runs.run import Run
from .metrics import Predictions

FEW = 100
"""Smaller splits cause a warning. In a split of this size, an image is one point of accuracy."""
IMBALANCE = 10
"""Larger ratios of the largest to the smallest class cause a warning."""
MOST_COUNTED = 100_000
"""Labels of larger splits are not counted, because some sources read whole images for a label."""
REMAINDER = 0.1
"""A larger share of initial values in the final moving statistics causes a warning."""
_SHOWN = 5


def check_data(run: Run) -> None:
    """Warns of small splits, of classes without images in a split, and of class imbalance."""
    names, name = run.settings.class_names, run.settings.config.dataset
    sizes = run.data.counts
    if few := [split for split in ("validation", "test") if sizes[split] < FEW]:
        text = " and ".join(
            f"{sizes[split]} {split} images (one is {100 / sizes[split]:.1f} points of accuracy)"
            for split in few
        )
        _warn(f"dataset {name!r} has only {text}.")
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
                " accuracy says little about small classes; see the recall of each class in"
                " metrics.json."
            )


def check_statistics(run: Run, network: keras.Model) -> None:
    """Warns if a run is too short for the moving statistics of its batch norms."""
    config, steps = run.settings.config, run.settings.config.epochs * run.steps
    remainder = config.batch_norm_momentum**steps
    norms = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if norms and not config.is_pretrained and remainder > REMAINDER:
        _warn(
            f"batch_norm_momentum={config.batch_norm_momentum:g} leaves {remainder:.0%} of the"
            f" initial batch norm statistics after the {steps} steps of the run, and validation"
            " uses these statistics: give a lower momentum, more epochs or smaller batches."
        )


def check_predictions(predictions: Predictions, class_names: Sequence[str]) -> None:
    """Warns of classes that the best epoch never predicts correctly in validation.

    Otherwise, warns if the accuracy is not above that of a constant prediction.
    """
    matrix = predictions.confusion_matrix()
    support, hits = matrix.sum(axis=1), matrix.diagonal()
    if len(never := np.flatnonzero((hits == 0) & (support > 0))):
        texts = [f"{class_names[int(i)]!r} (0 of {support[i]} images)" for i in never]
        _warn(
            f"In the best epoch, {len(never)} of {len(class_names)} classes have no correct"
            f" prediction in validation: {_listed(texts)}."
        )
    elif hits.sum() <= support.max():
        _warn(
            f"The best validation accuracy, {hits.sum() / support.sum():.1%}, is not above the"
            f" share of the largest class, {class_names[int(support.argmax())]!r} with"
            f" {support.max() / support.sum():.1%}."
        )


def count_labels(examples: Examples, classes: int) -> np.ndarray:
    """Counts the images of each class, int64 `(classes,)`, without decoding them."""
    counts = np.zeros(classes, "int64")
    for batch in examples.labels().batch(1024).as_numpy_iterator():
        counts += np.bincount(batch[batch >= 0], minlength=classes)  # -1: unlabelled
    return counts


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)
