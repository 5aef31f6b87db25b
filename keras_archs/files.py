"""Files that are whole or absent, whatever happens while they are written."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import InputError


def local_path(path: str | Path) -> Path:
    """A path whose `~` at the beginning is the home folder, as a shell writes it out.

    None does so in a notebook, in settings, or after `image_folder:`. Unlike pathlib's method, this
    leaves the name of a user who is not there as it is.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


def require_local(path: str | Path, name: str) -> None:
    """Raises an InputError for an argument that is a place elsewhere, such as `gs://bucket/folder`.

    A folder there cannot be given its name in one step when it is whole, and pathlib would make one
    named `gs:` here.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):  # two letters, for Windows has drives
        raise InputError(
            f"{name}={str(path)!r} is no folder of this machine; give one that is, and copy it, or"
            " mount the other."
        )


def check_target(path: Path, overwrite: bool) -> None:
    """Tells, before the work for it is done, whether a file may be written to `path`.

    Raises:
        InputError: the folder is missing or cannot be written to, `path` is a folder, or it is a
            file and `overwrite` is False.
    """
    with _input_errors(path):
        if not path.parent.is_dir():
            raise InputError(f"path={str(path)!r} needs an existing folder, {str(path.parent)!r}.")
        if path.is_dir():
            raise InputError(f"path={str(path)!r} is a folder; give the name of a file.")
        if path.exists() and not overwrite:
            raise InputError(f"path={str(path)!r} exists; give overwrite=True or --overwrite.")
        # Permissions alone do not tell: root has them all, in /proc as well.
        part = _part(path)
        part.touch(exist_ok=False)
        part.unlink()


def write_target(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Writes `data` to `path`, whole or not at all.

    Raises:
        InputError: as `check_target`, or the disk is full.
    """
    check_target(path, overwrite)
    with _input_errors(path):
        atomic_write(path, data)


@contextmanager
def _input_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


def atomic_write(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, in place of any earlier file, or leaves all as it was.

    Raises:
        OSError: the folder is missing, read-only or full.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which comes to `path` when the block has ended without an error.

    Raises:
        OSError: the folder is missing, read-only or full.
    """
    part = _part(path)
    try:
        with part.open("xb") as file:
            yield file
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    # A temporary file of the tempfile module would be readable by its owner only.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def put_in_place(part: Path, path: Path) -> None:
    """Gives a file that is whole its name, so that not even a loss of power undoes it."""
    _sync(part)
    part.replace(path)
    if os.name == "posix":  # Windows opens no folders
        _sync(path.parent)


def remove_parts(path: Path) -> None:
    """Removes what a kill has left of an `atomic_file` for `path`."""
    for part in path.parent.glob(f".{path.name}.*"):
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    # Windows syncs only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
