"""Finds the images, classes and splits in a folder, and records which files are skipped."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keras_archs.errors import InputError

from ..image_data import SPLITS, require_classes

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")

Files = list[tuple[Path, int]]
"""Image files, each with the number of its class."""

_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split in SPLITS for name in _NAMES[split]}
# Hidden folders without a leading dot: macOS archives, Synology thumbnails, the Windows bin.
_HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


@dataclass
class FolderLayout:
    """The content of a folder that has class folders, or splits with class folders.

    Attributes:
        folder: path of the folder.
        name: name of the dataset, for messages.
        class_names: names of the training folders, sorted.
        files: image files of each split that has its own folder, sorted.
        unreadable: the reason for each folder that cannot be listed, by its path.
        skipped: reason and path of all other files and folders that are not read.
    """

    folder: Path
    name: str
    class_names: tuple[str, ...] = ()
    files: dict[str, Files] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, Path]] = field(default_factory=list)

    @classmethod
    def find(cls, folder: Path, name: str) -> "FolderLayout":
        """Lists a folder.

        Raises:
            InputError: a folder is missing, has no images or belongs to an unknown class; a split
                has two folders; train has none; or the class names are invalid.
        """
        layout = cls(folder, name)
        roots = layout._find_roots()
        folders = {split: _subfolders(root) for split, root in roots.items()}
        layout._choose_classes(roots["train"], folders["train"])
        for split, root in roots.items():
            layout._skip_others("files beside the class folders", root, folders[split])
            layout.files[split] = [
                pair for folder in folders[split] for pair in layout._list(folder)
            ]
        return layout

    def summary(self, first: int = 0) -> str:
        """Summarises the skipped paths from index `first`: reasons, counts and examples."""
        skipped = self.skipped[first:]
        examples = {reason: path.relative_to(self.folder) for reason, path in reversed(skipped)}
        return "; ".join(
            f"{reason}: {count}, for example {str(examples[reason])!r}"
            for reason, count in Counter(reason for reason, _ in skipped).items()
        )

    def _error(self, message: str) -> InputError:
        return InputError(f"dataset {self.name!r}: {message}")

    def _find_roots(self) -> dict[str, Path]:
        """Returns the folder of each split that has its own class folders."""
        if not self.folder.is_dir():
            raise self._error(f"{self.folder} is not a folder")
        candidates: defaultdict[str, list[Path]] = defaultdict(list)
        others: list[Path] = []
        for path in _subfolders(self.folder):
            split = _SPLIT_OF.get(path.name.lower())
            (candidates[split] if split else others).append(path)
        if "train" not in candidates:
            if candidates and not others:
                names = ", ".join(path.name for paths in candidates.values() for path in paths)
                raise self._error(f"{self.folder} has {names} and no folder 'train'")
            return {"train": self.folder}
        # Next to other classes, "train" can be the class of trains.
        if others and not any(map(_subfolders, candidates["train"])):
            return {"train": self.folder}
        for split in SPLITS[1:]:  # without class folders: unlabelled, like Kaggle's test images
            candidates[split] = [path for path in candidates[split] if _subfolders(path)]
        for split, paths in candidates.items():
            if len(paths) > 1:
                names = " and ".join(repr(path.name) for path in paths)
                raise self._error(f"{self.folder} has {names} for the {split} split; keep one")
        roots = {split: candidates[split][0] for split in SPLITS if candidates[split]}
        self._skip_others("not a split with class folders", self.folder, list(roots.values()))
        return roots

    def _choose_classes(self, root: Path, folders: list[Path]) -> None:
        if not folders:
            raise self._error(f"{root} has no folders; it needs one for each class")
        self.class_names = tuple(path.name for path in folders)
        if len(folders) == 1 and len(_subfolders(folders[0])) > 1:
            raise self._error(
                f"its only class would be {folders[0].name!r}; did you mean"
                f" 'image_folder:{folders[0]}'?"
            )
        require_classes(self.name, self.class_names)

    def _skip_others(self, reason: str, folder: Path, used: list[Path]) -> None:
        for path in sorted(set(folder.iterdir()).difference(used)):
            self.skipped.append(("hidden" if _is_hidden(path.name) else reason, path))

    def _list(self, folder: Path) -> Files:
        """Returns the image files of a class, at any depth."""
        if folder.name not in self.class_names:
            raise self._error(f"{folder} is a class without training images")
        first = len(self.skipped)
        paths = sorted(self._images(folder, set(folder.resolve().parents)))
        if not paths and not any(Path(path).is_relative_to(folder) for path in self.unreadable):
            skipped = f" (skipped: {summary})" if (summary := self.summary(first)) else ""
            allowed = ", ".join(EXTENSIONS)
            raise self._error(f"{folder} has no image{skipped}; allowed are {allowed}")
        return [(path, self.class_names.index(folder.name)) for path in paths]

    def _images(self, folder: Path, parents: set[Path]) -> Iterator[Path]:
        """Yields the files with an image extension in a folder. `parents` are its real parents."""
        real = folder.resolve()
        if real in parents:
            self.skipped.append(("links to a folder that they are in", folder))
            return
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable[str(folder)] = error.strerror or str(error)
            return
        if not entries:
            self.skipped.append(("empty folders", folder))
        for entry in entries:
            path = folder / entry.name
            if _is_hidden(entry.name):
                self.skipped.append(("hidden", path))
            elif _is_folder(entry):
                yield from self._images(path, parents | {real})
            elif path.suffix.lower() in EXTENSIONS:
                yield path
            else:
                self.skipped.append((f"{path.suffix.lower() or 'other'} files", path))


def _subfolders(root: Path) -> list[Path]:
    """The folders in `root`, sorted, without hidden folders, which tools create."""
    with os.scandir(root) as scan:
        names = [entry.name for entry in scan if not _is_hidden(entry.name) and _is_folder(entry)]
    return sorted(root / name for name in names)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one. A broken link is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False
