"""Datasets that are folders: one folder of image files for each class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_archs.errors import InputError

from .encoded import CHANNELS, find_flaw, report_flaws
from .image_data import SPLITS, Examples, ImageData, require_classes

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")

_Files = list[tuple[Path, int]]
_PATH_BYTES = 200


def open_image_folder(folder: Path, *, name: str, seed: int, skip_corrupt: bool) -> ImageData:
    """Open the class folders below `folder`, or below its folders train, validation and test.

    The classes are the training folders' names in sorted order. Every file is decoded once here,
    so that no corrupt one ends a training run half way.

    Raises:
        InputError: a folder is missing, empty or of an unknown class, or images are corrupt.
    """
    roots = _find_roots(folder, name)
    class_names = tuple(sorted(path.name for path in _subfolders(roots["train"])))
    require_classes(name, class_names)
    files = {split: _list_files(root, class_names, name) for split, root in roots.items()}
    files = _drop_corrupt(files, name, skip_corrupt)

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


def _find_roots(folder: Path, name: str) -> dict[str, Path]:
    """The folder of class folders of each split that has its own."""
    if not folder.is_dir():
        raise InputError(f"dataset {name!r}: {folder} is not a folder")
    if not (folder / "train").is_dir():
        roots = {"train": folder}
    else:
        places = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
        roots = {
            split: folder / place for place, split in places.items() if (folder / place).is_dir()
        }
    if not _subfolders(roots["train"]):
        raise InputError(
            f"dataset {name!r}: {roots['train']} has no folders; it needs one for each class"
        )
    return roots


def _subfolders(root: Path) -> list[Path]:
    """Folders in `root`, but for hidden ones, which tools leave behind."""
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _list_files(root: Path, class_names: Sequence[str], name: str) -> _Files:
    """The image files below `root` and their classes, in sorted order."""
    files: _Files = []
    for folder in sorted(_subfolders(root)):
        if folder.name not in class_names:
            raise InputError(f"dataset {name!r}: {folder} is a class that the training images lack")
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
        if not found:
            raise InputError(
                f"dataset {name!r}: {folder} has no image; allowed are {', '.join(EXTENSIONS)}"
            )
        files += [(path, class_names.index(folder.name)) for path in found]
    return files


def _drop_corrupt(files: dict[str, _Files], name: str, skip_corrupt: bool) -> dict[str, _Files]:
    paths = [path for split in files.values() for path, _ in split]
    with ThreadPoolExecutor() as pool:
        reasons = pool.map(lambda path: find_flaw(path.read_bytes()), paths)
        flaws = {str(path): reason for path, reason in zip(paths, reasons, strict=True) if reason}
    report_flaws(name, flaws, total=len(paths), skip_corrupt=skip_corrupt)
    return {
        split: [(path, label) for path, label in pairs if str(path) not in flaws]
        for split, pairs in files.items()
    }


def _read(files: _Files) -> Examples:
    paths = tf.constant([str(path) for path, _ in files], tf.string)
    labels = tf.constant([label for _, label in files], tf.int64)
    return Examples(
        tf.data.Dataset.from_tensor_slices((paths, labels)),
        lambda path, label: (tf.io.read_file(path), label),
        CHANNELS,
        encoded_bytes=_PATH_BYTES,
    )
