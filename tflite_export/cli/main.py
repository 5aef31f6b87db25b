"""The entry point of the command line. It imports TensorFlow only for commands that need it."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

from ..runtime.errors import input_error
from .command_line import did_you_mean, finish

_HELP = {"--help", "-h"}
COMMANDS = {
    "train": "Train a network into a folder: model, logs, metrics and plots.",
    "export": "Convert a network to TFLite and compare the file with the network.",
    "predict": "Classify images with an exported TFLite file.",
    "report": "Write the HTML report of a finished run again.",
    "demo": "Train on the included images, then export and check four files.",
    "data": "Write a dataset as sharded files (data prepare).",
    "models": "List the networks by name.",
    "recipes": "List the training recipes, or print one.",
}
_INSTALL = "pip install keras-archs installs the missing packages."
_MINIMAL = "Only the commands predict and models can run."


def main() -> None:
    """Runs the command line. Every error ends in one line on stderr."""
    finish(lambda: _run(sys.argv[1:]))


def _run(arguments: Sequence[str]) -> int | None:
    name, *rest = arguments or ["--help"]
    if name in _HELP:
        print(_help())
        return None
    if name == "--version":
        print(f"keras-archs {version('keras-archs')}")
        return None
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        near = did_you_mean(name, [*COMMANDS, "--help", "--version"])
        raise input_error(f"There is no {kind} {name!r}.{near} See keras-archs --help.")
    try:
        command = _command(name)
    except ImportError as error:
        if not _HELP & {*rest}:
            raise input_error(f"{name} cannot run: {error}. {_INSTALL}") from error
        print(f"keras-archs {name}\n\n{COMMANDS[name]}\n\nThe command cannot run: {error}.")
        print(f"{_MINIMAL}\n{_INSTALL}")
        return None
    return command(rest)


def _command(name: str) -> Callable[[Sequence[str]], int | None]:
    """Imports a command and the packages that it needs."""
    if name == "predict":
        from .predict import predict as command  # noqa: PLC0415
    elif name == "models":
        from .models import models as command  # noqa: PLC0415
    elif name == "recipes":
        from .recipes import recipes as command  # noqa: PLC0415
    else:
        from .app import run  # noqa: PLC0415  # imports TensorFlow

        return partial(run, name)
    return command


def _help() -> str:
    lines = [
        "Usage: keras-archs COMMAND ...",
        "",
        "Train image classifiers and ship them as TFLite files.",
        "",
        *(f"  {name:8} {text}" for name, text in COMMANDS.items()),
        "",
        "keras-archs COMMAND --help shows the arguments of a command.",
        "keras-archs --version shows the installed version.",
        "KERAS_ARCHS_DEBUG=1 shows the traceback of an error.",
    ]
    missing = [name for name in ("tensorflow", "keras", "typer") if find_spec(name) is None]
    if missing:
        lines += ["", f"{missing[0]} is not installed. {_MINIMAL}", _INSTALL]
    return "\n".join(lines)
