"""The error for bad input, for modules that run without Keras as well."""

import sys


class _InputError(ValueError):
    exit_code = 2  # see `command_line.finish`


def input_error(message: str) -> ValueError:
    """`keras_archs.errors.InputError` in a program that uses it, else a plain `ValueError`.

    Importing `keras_archs` imports Keras, which a program that only runs a file need not have.
    Whoever catches an `InputError` has imported it, and gets one.
    """
    errors = sys.modules.get("keras_archs.errors")
    return (errors.InputError if errors else _InputError)(message)
