"""The base class of the commands, with messages for missing arguments."""

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from keras_archs.errors import InputError


class Command(TyperCommand):
    """A command that names all missing arguments in one message."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if error.message:  # MissingParameter, which is not public in typer, has none
                raise
            required = [parameter for parameter in self.params if parameter.required]
            names = [_name(item) for item in required if ctx.params.get(item.name) is None]
            raise missing_error(ctx, names) from error


def missing_error(context: Any, names: Sequence[str]) -> InputError:
    """Returns the error for a command without its required arguments.

    Args:
        context: typer's context of the command.
        names: the missing arguments, as the user types them.
    """
    command = context.command_path.removeprefix("keras-archs ")
    words = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return InputError(f"{command} needs {words}. See {context.command_path} --help.")


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return parameter.metavar
    return parameter.opts[0]
