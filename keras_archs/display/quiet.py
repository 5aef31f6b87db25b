"""Suppresses TensorFlow's log lines on the command line and in notebooks, and nowhere else.

On import, TensorFlow's C++ part logs lines about the CPU and the missing GPU before any log level
applies. The first import of Keras imports TensorFlow. This module therefore imports Keras itself,
while stderr is suppressed.
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
    """Suppresses all output to stderr, from C++ as well.

    Yields a file that still writes to stderr. If C++ code ends the process, Python prints where it
    did.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # stderr is closed
        with Path(os.devnull).open("w") as null:
            yield null
        return
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 2)
    try:
        with open(stderr, "w", closefd=False) as unsuppressed:
            enabled = faulthandler.is_enabled()
            if not enabled:
                faulthandler.enable(unsuppressed)
            try:
                yield unsuppressed
            finally:
                if not enabled:
                    faulthandler.disable()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


@contextlib.contextmanager
def quiet_in_notebook() -> Iterator[None]:
    """Suppresses log lines of C++ in the output of a cell; Python's warnings are shown."""
    with quiet() if _in_notebook() else contextlib.nullcontext():
        yield


# sys.argv[0] is "-m" while Python looks for the module to run. A user who sets the log level to 0
# wants to see all lines.
_is_command = Path(*sys.argv[:1]).stem in ("keras-archs", "-m")
if (_is_command or _in_notebook()) and os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    with quiet():
        import keras  # noqa: F401
    if _in_notebook() and (tensorflow := sys.modules.get("tensorflow")):
        # An interactive process logs more than a script does, such as "Assets written to".
        tensorflow.get_logger().setLevel("WARNING")
