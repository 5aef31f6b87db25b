"""The error for bad input, and text for its messages."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class InputError(ValueError):
    """A bad argument: the message names it, what was given and what is allowed.

    The command line shows an `InputError` as one line and exits with code 2. It does not treat any
    other `ValueError` as bad input.
    """

    exit_code = 2  # see `tflite_export.cli.command_line`


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`" Did you mean 'a' or 'b'?"` with the known names closest to `given`, or ""."""
    near = difflib.get_close_matches(given.lower(), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def shown(value: Any) -> str:
    """The `repr` of a value on one line, cut off at 100 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


@contextmanager
def as_given(argument: str, given: str) -> Iterator[None]:
    """Renames an argument in errors: `"weights="` to what the user gave, such as `"init="`."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(argument, given, 1)) from error
