"""Keeps TensorFlow's notes out of the command line's output and of notebooks, and of nothing else.

Its C++ part writes about the CPU and the lack of a GPU before any log level applies, each time it
is imported. It does so on the first import of Keras, so the command line cannot wait for its turn.
"""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def quiet() -> Iterator[TextIO]:
    """Keeps out what comes to stderr, from C++ as well; gives a way past that.

    Where C++ ends the process, Python says so, and where.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed, and says nothing anyway
        with Path(os.devnull).open("w") as null:
            yield null
        return
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 2)
    try:
        with open(stderr, "w", closefd=False) as past:
            watched = faulthandler.is_enabled()
            if not watched:
                faulthandler.enable(past)
            try:
                yield past
            finally:
                if not watched:
                    faulthandler.disable()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


@contextlib.contextmanager
def quiet_in_notebook() -> Iterator[None]:
    """Keeps the notes of C++ out of the results of a cell; warnings of Python's come through."""
    with quiet() if _in_notebook() else contextlib.nullcontext():
        yield


# "-m" stands there while Python looks for the module that it is to run. Who sets the level 0 wants
# to see all notes.
_is_command = Path(*sys.argv[:1]).stem in ("keras-archs", "-m")
if (_is_command or _in_notebook()) and os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    with quiet():
        import keras  # noqa: F401
    if _in_notebook() and (tensorflow := sys.modules.get("tensorflow")):
        # An interactive process gets all that a script does not, such as "Assets written to".
        tensorflow.get_logger().setLevel("WARNING")
