"""Exit codes, error messages, and the argument parser of the commands that run without TensorFlow.

This module imports only the standard library, because `predict` and `models` need it.
"""

import argparse
import difflib
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from ..runtime.errors import input_error

DEBUG = "KERAS_ARCHS_DEBUG"
_MAX_LENGTH = 400
"""Maximum length of an unexpected error. Errors of TensorFlow can fill several screens."""


def finish(command: Callable[[], int | None]) -> NoReturn:
    """Runs a command and ends the process with the exit code of the command.

    An exception becomes one line on stderr. With `KERAS_ARCHS_DEBUG=1` its traceback comes first.
    An exception with an attribute `exit_code` is a message for the user. Its attribute `headline`
    replaces the word "Error". The exit code is 2 for an `OSError` and an `ImportError`, 130 for
    Ctrl-C, and 1 for all other exceptions and if stdout is closed early, such as by head.
    """
    code = _exit_code(command)
    try:
        if sys.stdout:  # None if it is closed
            sys.stdout.flush()
    except OSError as error:
        # Python flushes stdout again at exit. The second flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or _print_error(error)
    sys.exit(code)


def _exit_code(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except SystemExit as end:  # of argparse, after its help
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _print_error(error)


def _print_error(error: Exception) -> int:
    """Prints the message of an error and returns its exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of stdout, such as head, has ended
        return 1
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    message, code = _message_and_code(error)
    print(message, file=sys.stderr)
    return code


def _message_and_code(error: Exception) -> tuple[str, int]:
    code = getattr(error, "exit_code", None)
    if code is not None:
        headline = getattr(error, "headline", "Error")
        return "\n".join([f"{headline}: {error}", *getattr(error, "__notes__", ())]), code
    reason = textwrap.shorten(str(error), _MAX_LENGTH, placeholder=" ...")
    if isinstance(error, OSError):
        if error.filename is not None:
            reason = f"{str(error.filename)!r}: {error.strerror}"
        return f"Error: {reason.removesuffix('.')}.", 2
    if isinstance(error, ImportError):
        return f"Error: {reason}. pip install keras-archs installs all required packages.", 2
    return (
        f"Error: unexpected {type(error).__name__}: {reason.removesuffix('.')}. {DEBUG}=1 shows"
        " the traceback. Please report this error.",
        1,
    )


class Parser(argparse.ArgumentParser):
    """The parser of a command that runs without typer. Bad arguments raise an `InputError`."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"keras-archs {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        # argparse writes "argument --top: must be ...".
        message = message.removeprefix("argument ")
        raise input_error(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'a' or 'b'?" with the nearest names, or "".

    It is a copy of `keras_archs.errors.did_you_mean`, whose import needs Keras.
    """
    near = difflib.get_close_matches(given.lower(), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
