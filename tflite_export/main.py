"""The command line's door: `predict` and the lists without TensorFlow, all else through Keras."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

from .command_line import did_you_mean, finish
from .errors import input_error

_HELP = {"--help", "-h"}
COMMANDS = {
    "train": "Train a network into a folder: model, logs, metrics and plots.",
    "export": "Write a TFLite file of a network, checked against the network.",
    "predict": "Name what is on pictures, by an exported TFLite file.",
    "report": "Write a finished run's report anew, one HTML file.",
    "demo": "Train on the shipped images, export and check four files.",
    "data": "Write a dataset as sharded files (data prepare).",
    "models": "List the networks by name.",
    "recipes": "List the recipes of training, or print one.",
}
_REST = "pip install keras-archs brings the rest."


def main() -> None:
    """Runs the command line. Whatever goes wrong ends in one line on stderr."""
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
            raise input_error(f"{name} cannot run here: {error}. {_REST}") from error
        print(f"keras-archs {name}\n\n{COMMANDS[name]}\n\nIt cannot run here: {error}.")
        print(f"Only predict and models can. {_REST}")
        return None
    return command(rest)


def _command(name: str) -> Callable[[Sequence[str]], int | None]:
    """A command by its name, imported with what it needs and no more."""
    if name == "predict":
        from .predict import predict as command  # noqa: PLC0415
    elif name == "models":
        from .listing_models import models as command  # noqa: PLC0415
    elif name == "recipes":
        from .listing_recipes import recipes as command  # noqa: PLC0415
    else:
        from keras_archs.cli import run  # noqa: PLC0415  # imports TensorFlow

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
        "keras-archs COMMAND --help says what a command takes.",
        "keras-archs --version says which version this is.",
        "KERAS_ARCHS_DEBUG=1 shows the traceback of an error.",
    ]
    if absent := [name for name in ("tensorflow", "keras", "typer") if find_spec(name) is None]:
        lines += ["", f"Only predict and models can run here: there is no {absent[0]}.", _REST]
    return "\n".join(lines)
