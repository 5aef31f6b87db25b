"""Keeps TensorFlow's notes out of the command line's output, and of nothing else's.

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


if Path(sys.argv[0]).stem == "keras-archs" and "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with quiet():
        import keras  # noqa: F401
