"""Public functions that tell a caller with the wrong arguments, in one line, how to call them."""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, get_args, get_type_hints

from keras_archs.errors import InputError

P = ParamSpec("P")
Result = TypeVar("Result")


def called_as(example: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Makes a function refuse arguments that it does not have, with an example of a call.

    The types of the arguments without a default are checked as well.

    Args:
        example: a call that works.
    """

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        signature, hints = inspect.signature(function), get_type_hints(function)
        required = {
            name: get_args(hints[name]) or (hints[name],)
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }

        def refusal(reason: str) -> InputError:
            return InputError(f"{function.__name__}: {reason}. Call it as {example}.")

        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> Result:
            try:
                given = signature.bind(*args, **keywords).arguments
            except TypeError as error:
                raise refusal(str(error)) from None
            for name, kinds in required.items():
                if not isinstance(given[name], (*kinds, os.PathLike) if Path in kinds else kinds):
                    names = " or ".join(kind.__name__ for kind in kinds)
                    raise refusal(f"{name} must be {names}, got {type(given[name]).__name__}")
            return function(*args, **keywords)

        return call

    return decorate
