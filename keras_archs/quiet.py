"""Keeps TensorFlow's start-up notes out of the command line's output, and of nothing else's.

Its C++ part writes about the CPU and the lack of a GPU before any log level applies, each time it
is imported. It does so on the first import of Keras, so the command line cannot wait for its turn.
"""

import os
import sys
from pathlib import Path

if Path(sys.argv[0]).stem == "keras-archs" and "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    stderr = os.dup(2)
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 2)
    try:
        import keras  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
