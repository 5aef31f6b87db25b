"""What all commands share: the exit code, the one line of an error, a parser for the small ones.

No command that runs a file or lists names may need more than Python for it.
"""

import argparse
import difflib
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from .errors import input_error

DEBUG = "KERAS_ARCHS_DEBUG"
_MOST_LETTERS = 400
"""Of an error that nobody expected; those of Keras and TensorFlow can fill screens."""


def finish(command: Callable[[], int | None]) -> NoReturn:
    """Runs a command and ends the process with the exit code that the command returns.

    An exception becomes one line on stderr. With `KERAS_ARCHS_DEBUG=1` its traceback comes first.
    An exception with an attribute `exit_code` is a message to the user. Its attribute `headline`
    replaces the word "Error". The exit code is 2 for an `OSError`, 130 for Ctrl-C, and 1 where the
    reader of stdout has gone and for all other exceptions.
    """
    code = _exit_code(command)
    try:
        if sys.stdout:  # None where it is closed
            sys.stdout.flush()
    except OSError as error:
        # Python would try it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or _told(error)
    sys.exit(code)


def _exit_code(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except SystemExit as end:  # of argparse, after its help
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # nobody else sees it
        return _told(error)


def _told(error: Exception) -> int:
    """Writes the line of an error and returns its exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of stdout, such as head, has enough
        return 1
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    message, code = _verdict(error)
    print(message, file=sys.stderr)
    return code


def _verdict(error: Exception) -> tuple[str, int]:
    code = getattr(error, "exit_code", None)
    if code is not None:
        headline = getattr(error, "headline", "Error")
        return "\n".join([f"{headline}: {error}", *getattr(error, "__notes__", ())]), code
    reason = textwrap.shorten(str(error), _MOST_LETTERS, placeholder=" ...")
    if isinstance(error, OSError):
        if error.filename is not None:
            reason = f"{str(error.filename)!r}: {error.strerror}"
        return f"Error: {reason.removesuffix('.')}.", 2
    if isinstance(error, ImportError):
        return f"Error: {reason}. pip install keras-archs brings all packages that it needs.", 2
    return (
        f"Error: unexpected {type(error).__name__}: {reason.removesuffix('.')}. {DEBUG}=1 shows"
        " the traceback; please report it.",
        1,
    )


class Parser(argparse.ArgumentParser):
    """Of a command that runs without typer. Bad arguments raise an error of one line."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"keras-archs {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise input_error(f"{message}. See {self.prog} --help.")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """That of `keras_archs.errors`, which only a program with Keras can import."""
    near = difflib.get_close_matches(given.lower(), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
