"""Datasets that are folders: one folder of image files for each class."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_archs.errors import InputError
from keras_archs.quiet import quiet

from .encoded import CHANNELS, find_flaw, report_flaws
from .folder_layout import Files, FolderLayout
from .image_data import SPLITS, Announce, Examples, ImageData

_PATH_BYTES = 200


def open_image_folder(
    folder: Path,
    *,
    name: str,
    seed: int,
    skip_corrupt: bool,
    announce: Announce,
) -> ImageData:
    """Open the class folders below `folder`, or below its folders train, validation and test.

    The classes are the training folders' names in sorted order. Every file is decoded once here,
    so that no corrupt one ends a training run half way. A warning tells what is left out.

    Raises:
        InputError: as `FolderLayout.find`, or images are corrupt.
    """
    layout = FolderLayout.find(folder, name)
    class_names = layout.class_names
    announce(class_names, (None, None, CHANNELS))
    files = _drop_corrupt(layout, skip_corrupt)
    if layout.left_out:
        warnings.warn(f"dataset {name!r}: left out are {layout.summary()}", stacklevel=3)

    labels = np.array([label for _, label in files["train"]])
    emptied = set(range(len(class_names))) - set(labels)
    if emptied:
        raise InputError(
            f"dataset {name!r}: every image of class {class_names[min(emptied)]!r} is corrupt"
        )
    missing = [split for split in SPLITS if split not in files]
    files |= {
        split: [files["train"][index] for index in chosen]
        for split, chosen in hold_out(labels, missing, seed).items()
    }
    return ImageData(
        name=name,
        class_names=class_names,
        image_shape=(None, None, CHANNELS),
        splits={split: _read(files[split]) for split in SPLITS},
    )


def hold_out(labels: np.ndarray, parts: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Divide images among `parts`, a tenth of each class to each part, and train, the rest.

    Args:
        labels: int `[n]`, the images' classes; at least one.
        parts: names of splits; a class of so few images that train would get none is not divided.
        seed: 0 to 2**32 - 1.

    Returns:
        the indices of each split, int64, in random order: a shuffle buffer that is smaller than
        the dataset would never mix files that come class by class.
    """
    # Not default_rng, whose streams may change with NumPy: a run that goes on after an upgrade
    # must not train on what it held out before.
    random = np.random.RandomState(seed)
    chosen: dict[str, list[np.ndarray]] = {split: [] for split in ("train", *parts)}
    order = random.permutation(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        size = max(1, len(members) // 10) if len(members) > len(parts) else 0
        for part in parts:
            chosen[part].append(members[:size])
            members = members[size:]
        chosen["train"].append(members)
    return {split: random.permutation(np.concatenate(c)) for split, c in chosen.items()}


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
            return "not a file"  # reading a pipe would wait for whoever writes to it
        return find_flaw(path.read_bytes())
    except OSError as error:
        return error.strerror or str(error)


def _read(files: Files) -> Examples:
    # Bytes, for the name of a file need not be UTF-8.
    paths = tf.constant([os.fsencode(path) for path, _ in files], tf.string)
    labels = tf.constant([label for _, label in files], tf.int64)
    return Examples(
        tf.data.Dataset.from_tensor_slices((paths, labels)),
        lambda path, label: (tf.io.read_file(path), label),
        CHANNELS,
        encoded_bytes=_PATH_BYTES,
    )
