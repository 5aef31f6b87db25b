"""Files that are complete or absent, even if the process dies while it writes them."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import InputError


def local_path(path: str | Path) -> Path:
    """Replaces a leading `~` by the home folder, as a shell does.

    No shell does so in a notebook, in settings, or after `image_folder:`. Unlike pathlib's method,
    this function does not change the name of an unknown user.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


def require_local(path: str | Path, name: str) -> None:
    """Raises an InputError for a remote address, such as `gs://bucket/folder`.

    A remote folder cannot be renamed in one step once it is complete. Pathlib would make a local
    folder named `gs:`.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):  # two letters: one is a drive of Windows
        raise InputError(
            f"{name}={str(path)!r} is not a local folder; give a local one, and copy it"
            " afterwards, or mount the remote folder."
        )


def check_target(path: Path, overwrite: bool) -> None:
    """Checks that a file may be written to `path`, before the work for it begins.

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
        # Permissions are not enough: root has all of them, even in /proc.
        part = _part(path)
        part.touch(exist_ok=False)
        part.unlink()


def write_target(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Writes `data` to `path`, completely or not at all.

    Raises:
        InputError: see `check_target`; also if the disk is full.
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
    """Writes `data` to `path`, over any earlier file, or changes nothing.

    Raises:
        OSError: the folder is missing, read-only or full.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to. It is moved to `path` if the block ends without an error.

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
    # The tempfile module would make a file that only its owner can read.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def put_in_place(part: Path, path: Path) -> None:
    """Renames a complete file to `path`, and syncs it so that a loss of power does not undo it."""
    _sync(part)
    part.replace(path)
    if os.name == "posix":  # Windows cannot open folders
        _sync(path.parent)


def remove_parts(path: Path) -> None:
    """Removes parts of `path` that a killed `atomic_file` left."""
    for part in path.parent.glob(f".{path.name}.*"):
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    # Windows syncs only files that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keras_home() -> Path:
    """The folder of Keras' cache."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()


@contextmanager
def downloading(argument: str, origin: str) -> Iterator[None]:
    """Turns a failed download by Keras into an error that says where to put the file by hand.

    Args:
        argument: the argument that needs the file.
        origin: the address of the file.

    Raises:
        InputError: the block raised any error.
    """
    try:
        yield
    except Exception as error:  # Keras raises a bare Exception for some addresses
        reason = str(error).removeprefix(f"URL fetch failure on {origin}: ")
        reason = " ".join(reason.removeprefix("None -- ").split()).rstrip(".")
        path = keras_home() / "models" / Path(origin).name
        # `from None`: the errors before it fill a page and add nothing.
        raise InputError(
            f"{argument}: {origin} cannot be downloaded ({reason}). Download it by other means and"
            f" put it at {str(path)!r}, or set the environment variable KERAS_HOME to a folder that"
            " has it in models/."
        ) from None
