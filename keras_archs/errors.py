"""The one error type for bad input, and the text that helps a user out of it."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class InputError(ValueError):
    """A bad argument: the message names it, what was given and what is allowed.

    It is a `ValueError` for callers. The command line shows it as one line and ends with exit code
    2. It takes no other `ValueError` for bad input.
    """

    exit_code = 2  # see `tflite_export.command_line`


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`" Did you mean 'a' or 'b'?"` with the names nearest to `given`, or an empty string."""
    near = difflib.get_close_matches(given.lower(), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def shown(value: Any) -> str:
    """The `repr` of what was given, on one line and of at most 100 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


@contextmanager
def as_given(argument: str, given: str) -> Iterator[None]:
    """Errors about `argument`, such as `"weights="`, say what the user gave, such as `"init="`."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(argument, given, 1)) from error
