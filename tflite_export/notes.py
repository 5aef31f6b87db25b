"""LiteRT's notes, and how to do without them."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Keeps out the note that LiteRT uses XNNPACK, which its C++ part writes for each file."""
    stderr = os.dup(2)
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def without_notes_in_notebook() -> contextlib.AbstractContextManager[None]:
    """The same in a notebook, and nothing elsewhere: another thread may want to use stderr."""
    return without_notes() if "ipykernel" in sys.modules else contextlib.nullcontext()
