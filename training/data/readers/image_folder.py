"""Reads datasets that are folders: one folder of image files for each class."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_archs.display.quiet import quiet
from keras_archs.errors import InputError

from ..decode.decode import CHANNELS, find_flaw, report_flaws
from ..image_data import SPLITS, Announce, Examples, ImageData
from .folder_layout import Files, FolderLayout

_PATH_BYTES = 200
"""Approximate memory of a path."""


def open_image_folder(
    folder: Path,
    *,
    name: str,
    seed: int,
    skip_corrupt: bool,
    announce: Announce,
) -> ImageData:
    """Opens the class folders in `folder`, or in its folders train, validation and test.

    The classes are the names of the training folders, sorted. The function decodes every file once,
    so a corrupt file cannot stop a training run later. A warning lists the skipped files.

    Raises:
        InputError: as in `FolderLayout.find`, or images are corrupt.
    """
    layout = FolderLayout.find(folder, name)
    class_names = layout.class_names
    announce(class_names, (None, None, CHANNELS))
    files = _drop_corrupt(layout, skip_corrupt)
    if layout.skipped:
        warnings.warn(f"dataset {name!r}: skipped {layout.summary()}", stacklevel=3)

    labels = np.array([label for _, label in files["train"]])
    empty_classes = set(range(len(class_names))) - set(labels)
    if empty_classes:
        raise InputError(
            f"dataset {name!r}: every image of class {class_names[min(empty_classes)]!r} is corrupt"
        )
    missing = [split for split in SPLITS if split not in files]
    files |= {
        split: [files["train"][index] for index in indices]
        for split, indices in hold_out(labels, missing, seed).items()
    }
    return ImageData(
        name=name,
        class_names=class_names,
        image_shape=(None, None, CHANNELS),
        splits={split: _read(files[split]) for split in SPLITS},
    )


def hold_out(labels: np.ndarray, parts: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Splits images: a tenth of each class for each of `parts`, and the rest for train.

    Args:
        labels: int `[n]`, the images' classes; n is at least 1.
        parts: names of splits. A class with too few images for train and all parts stays in train.
        seed: 0 to 2**32 - 1.

    Returns:
        int64 indices of each split, in random order. In class order, a shuffle buffer smaller than
        the dataset would never mix the classes.
    """
    # The streams of default_rng may change with NumPy. A run resumed after an upgrade must not
    # train on its held-out images.
    random = np.random.RandomState(seed)
    indices: dict[str, list[np.ndarray]] = {split: [] for split in ("train", *parts)}
    order = random.permutation(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        size = max(1, len(members) // 10) if len(members) > len(parts) else 0
        for part in parts:
            indices[part].append(members[:size])
            members = members[size:]
        indices["train"].append(members)
    return {split: random.permutation(np.concatenate(i)) for split, i in indices.items()}


def _drop_corrupt(layout: FolderLayout, skip_corrupt: bool) -> dict[str, Files]:
    paths = [path for split in layout.files.values() for path, _ in split]
    with quiet(), ThreadPoolExecutor() as pool:
        reasons = pool.map(_find_flaw, paths)
        flaws = {str(path): reason for path, reason in zip(paths, reasons, strict=True) if reason}
    total = len(paths) + len(layout.unreadable)
    report_flaws(layout.name, layout.unreadable | flaws, total=total, skip_corrupt=skip_corrupt)
    return {
        split: [(path, label) for path, label in pairs if str(path) not in flaws]
        for split, pairs in layout.files.items()
    }


def _find_flaw(path: Path) -> str | None:
    try:
        if path.exists() and not path.is_file():
            return "not a file"  # reading a pipe would block until another process writes to it
        return find_flaw(path.read_bytes())
    except OSError as error:
        return error.strerror or str(error)


def _read(files: Files) -> Examples:
    # As bytes, because file names need not be UTF-8.
    paths = tf.constant([os.fsencode(path) for path, _ in files], tf.string)
    labels = tf.constant([label for _, label in files], tf.int64)
    return Examples(
        tf.data.Dataset.from_tensor_slices((paths, labels)),
        lambda path, label: (tf.io.read_file(path), label),
        CHANNELS,
        encoded_bytes=_PATH_BYTES,
    )
