"""Suppresses LiteRT's log lines."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Suppresses the line that LiteRT's C++ part logs for each file, that it uses XNNPACK."""
    stderr = os.dup(2)
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def without_notes_in_notebook() -> contextlib.AbstractContextManager[None]:
    """`without_notes` in a notebook only: elsewhere another thread may use stderr."""
    return without_notes() if "ipykernel" in sys.modules else contextlib.nullcontext()
