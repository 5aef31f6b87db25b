"""The error for bad input in modules that also run without Keras."""

import sys


class _InputError(ValueError):
    exit_code = 2  # see `command_line.finish`


def input_error(message: str) -> ValueError:
    """A `keras_archs.errors.InputError` if the program has imported it, else a `ValueError`.

    Importing `keras_archs` imports Keras, which a program that only runs a file may not have. A
    program that catches `InputError` has imported it, and gets one.
    """
    errors = sys.modules.get("keras_archs.errors")
    return (errors.InputError if errors else _InputError)(message)
