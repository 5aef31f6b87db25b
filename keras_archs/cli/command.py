"""The shape that all commands share: their help, and what they say where something is missing."""

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from ..errors import InputError


class Command(TyperCommand):
    """A command whose bad arguments end in one line, which names all that is missing at once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if error.message:  # or it is typer's MissingParameter, which is not public
                raise
            missing = [each for each in self.params if each.required]
            names = [_name(each) for each in missing if ctx.params.get(each.name) is None]
            raise missing_error(ctx, names) from error


def missing_error(context: Any, names: Sequence[str]) -> InputError:
    """That a command lacks the arguments of these names."""
    command = context.command_path.removeprefix("keras-archs ")
    words = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return InputError(f"{command} needs {words}. See {context.command_path} --help.")


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return parameter.metavar
    return parameter.opts[0]
