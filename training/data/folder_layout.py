"""Which files of a folder are a dataset's images, and what is left out of it."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keras_archs.errors import InputError

from .image_data import SPLITS, require_classes

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")

Files = list[tuple[Path, int]]
"""Image files, each with the number of its class."""

_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split in SPLITS for name in _NAMES[split]}
# Beside names that begin with a dot: of macOS' archives, Synology's thumbnails, Windows' bin.
_HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


@dataclass
class FolderLayout:
    """What a folder of class folders, or of splits that have class folders, holds.

    Attributes:
        folder: where it is.
        name: of the dataset, for messages.
        class_names: the training folders' names in sorted order.
        files: the image files of each split that has its own folder, in sorted order.
        unreadable: the reason for each folder that cannot be listed, by its path.
        left_out: reason and path of everything else that is not read.
    """

    folder: Path
    name: str
    class_names: tuple[str, ...] = ()
    files: dict[str, Files] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, Path]] = field(default_factory=list)

    @classmethod
    def find(cls, folder: Path, name: str) -> "FolderLayout":
        """Lists a folder.

        Raises:
            InputError: a folder is missing, without an image or of an unknown class, a split has
                two folders or train none, or the classes do not do.
        """
        layout = cls(folder, name)
        roots = layout._find_roots()
        folders = {split: _subfolders(root) for split, root in roots.items()}
        layout._choose_classes(roots["train"], folders["train"])
        for split, root in roots.items():
            layout._leave_out("files beside the class folders", root, folders[split])
            layout.files[split] = [pair for each in folders[split] for pair in layout._list(each)]
        return layout

    def summary(self, first: int = 0) -> str:
        """What is left out, from the one numbered `first` on: reasons, counts and examples."""
        found = self.left_out[first:]
        examples = {reason: path.relative_to(self.folder) for reason, path in reversed(found)}
        return "; ".join(
            f"{reason}: {count}, such as {str(examples[reason])!r}"
            for reason, count in Counter(reason for reason, _ in found).items()
        )

    def _refused(self, why: str) -> InputError:
        return InputError(f"dataset {self.name!r}: {why}")

    def _find_roots(self) -> dict[str, Path]:
        """The folder of class folders of each split that has its own."""
        if not self.folder.is_dir():
            raise self._refused(f"{self.folder} is not a folder")
        found: defaultdict[str, list[Path]] = defaultdict(list)
        others: list[Path] = []
        for path in _subfolders(self.folder):
            split = _SPLIT_OF.get(path.name.lower())
            (found[split] if split else others).append(path)
        if "train" not in found:
            if found and not others:
                names = ", ".join(path.name for paths in found.values() for path in paths)
                raise self._refused(f"{self.folder} has {names} and no folder 'train'")
            return {"train": self.folder}
        # Among other classes, one may be of trains.
        if others and not any(map(_subfolders, found["train"])):
            return {"train": self.folder}
        for split in SPLITS[1:]:  # images that nobody has sorted, such as Kaggle's for a test
            found[split] = [path for path in found[split] if _subfolders(path)]
        for split, paths in found.items():
            if len(paths) > 1:
                names = " and ".join(repr(path.name) for path in paths)
                raise self._refused(f"{self.folder} has {names} for the {split} split; keep one")
        roots = {split: found[split][0] for split in SPLITS if found[split]}
        self._leave_out("not a split with class folders", self.folder, list(roots.values()))
        return roots

    def _choose_classes(self, root: Path, folders: list[Path]) -> None:
        if not folders:
            raise self._refused(f"{root} has no folders; it needs one for each class")
        self.class_names = tuple(path.name for path in folders)
        if len(folders) == 1 and len(_subfolders(folders[0])) > 1:
            raise self._refused(
                f"its only class would be {folders[0].name!r}; did you mean"
                f" 'image_folder:{folders[0]}'?"
            )
        require_classes(self.name, self.class_names)

    def _leave_out(self, reason: str, folder: Path, taken: list[Path]) -> None:
        for path in sorted(set(folder.iterdir()).difference(taken)):
            self.left_out.append(("hidden" if _is_hidden(path.name) else reason, path))

    def _list(self, folder: Path) -> Files:
        """The image files of a class, at any depth."""
        if folder.name not in self.class_names:
            raise self._refused(f"{folder} is a class that the training images lack")
        first = len(self.left_out)
        paths = sorted(self._images(folder, set(folder.resolve().parents)))
        if not paths and not any(Path(each).is_relative_to(folder) for each in self.unreadable):
            rest = f" (left out are {left_out})" if (left_out := self.summary(first)) else ""
            allowed = ", ".join(EXTENSIONS)
            raise self._refused(f"{folder} has no image{rest}; allowed are {allowed}")
        return [(path, self.class_names.index(folder.name)) for path in paths]

    def _images(self, folder: Path, above: set[Path]) -> Iterator[Path]:
        """Files with the name of an image in a folder, which is in those `above`."""
        real = folder.resolve()
        if real in above:
            self.left_out.append(("links to a folder that they are in", folder))
            return
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable[str(folder)] = error.strerror or str(error)
            return
        if not entries:
            self.left_out.append(("empty folders", folder))
        for entry in entries:
            path = folder / entry.name
            if _is_hidden(entry.name):
                self.left_out.append(("hidden", path))
            elif _is_folder(entry):
                yield from self._images(path, above | {real})
            elif path.suffix.lower() in EXTENSIONS:
                yield path
            else:
                self.left_out.append((f"{path.suffix.lower() or 'other'} files", path))


def _subfolders(root: Path) -> list[Path]:
    """Folders in `root` in sorted order, but for hidden ones, which tools leave behind."""
    with os.scandir(root) as entries:
        names = [each.name for each in entries if not _is_hidden(each.name) and _is_folder(each)]
    return sorted(root / name for name in names)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that cannot be followed is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False
