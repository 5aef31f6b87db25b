"""The command line. It alone knows networks, training and export together."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tensorflow as tf
import typer
from pydantic import ValidationError

from .. import exporting, training
from ..errors import InputError
from . import data_commands
from .command import Command
from .export_command import export
from .tables import print_reports, print_training
from .train_command import TrainCommand, train

# Plain text: rich cuts names of options that a line does not hold, and takes [beam] for markup.
app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command(cls=TrainCommand)(train)
app.command(cls=Command)(export)
app.add_typer(data_commands.app, name="data")


def run(name: str, arguments: Sequence[str]) -> int | None:
    """Runs a command and returns its exit code, None for 0.

    Raises:
        InputError: an argument does not do, or there is not enough memory.
        ParityError, TrainingStopped: of export and training, with exit codes of their own.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"Warning: {message}", file=sys.stderr)
        try:
            return app([name, *arguments], prog_name="keras-archs", standalone_mode=False)
        except typer.TyperException as error:
            raise InputError(_told(error)) from error
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"There is not enough memory or space. {reason}".strip()) from error


def _told(error: typer.TyperException) -> str:
    message = error.format_message().removesuffix(".")
    if isinstance(cause := error.__cause__, ValidationError):  # typer leaves out what was given
        message += f", got {cause.errors()[0]['input']!r}"
    context = getattr(error, "ctx", None)
    return f"{message}. See {context.command_path} --help." if context else f"{message}."


@app.command(cls=Command)
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
) -> None:
    """Write a finished run's report anew, one HTML file.

    It comes to RUN/report.html and opens in any browser. Training writes it as well.
    """
    print(training.report(run))


@app.command(cls=Command)
def demo(
    out: Annotated[Path, typer.Option(help="Folder that the run is written to.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Train on the shipped images, export and check four files.

    The run of an earlier demo in the folder is replaced.
    """
    config = training.TrainConfig(
        model="mobilenet",
        model_args={"alpha": 0.5},
        dataset="fashion_mnist_small",
        epochs=15,
        learning_rate=0.005,
    )
    print_training(out, training.train(config, out, overwrite=True))
    run = training.load_run(out)
    made = [exporting.export(str(out), kind)[1] for kind in ("none", "float16", "dynamic", "int8")]
    print_reports(run.folder.exports, [each.report for each in made if each.report])
    print(f"Pictures: {run.folder.curves}\n          {run.folder.confusion_matrix}")
