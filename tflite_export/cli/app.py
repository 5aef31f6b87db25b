"""The commands that need TensorFlow: train, export, report, demo and data."""

import keras_archs.display.quiet  # noqa: F401  # isort: skip  # imports TensorFlow without its notes

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tensorflow as tf
import typer
from pydantic import ValidationError

from keras_archs import tflite_export, training
from keras_archs.errors import InputError

from . import data as data_commands
from .command import Command
from .export import export
from .tables import print_reports, print_training
from .train import TrainCommand, train

# Plain help: rich truncates long option names and reads [beam] as markup.
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
        InputError: an argument is not allowed, or there is not enough memory.
        ParityError, TrainingStopped: from export and training, with their own exit codes.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"Warning: {message}", file=sys.stderr)
        try:
            return app([name, *arguments], prog_name="keras-archs", standalone_mode=False)
        except typer.TyperException as error:
            raise InputError(_message(error)) from error
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"There is not enough memory or space. {reason}".strip()) from error


def _message(error: typer.TyperException) -> str:
    message = error.format_message().removesuffix(".")
    if isinstance(cause := error.__cause__, ValidationError):  # typer omits the value
        message += f", got {cause.errors()[0]['input']!r}"
    context = getattr(error, "ctx", None)
    return f"{message}. See {context.command_path} --help." if context else f"{message}."


@app.command(cls=Command)
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
) -> None:
    """Write the HTML report of a finished run again.

    The report is RUN/report.html. Training writes it, too.
    """
    print(training.report(run))


@app.command(cls=Command)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run.")] = Path("runs/demo"),
) -> None:
    """Train on the included images, then export and check four files.

    The demo replaces an earlier run in the folder.
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
    reports = [
        tflite_export.export(out, kind).conversion.report
        for kind in ("none", "float16", "dynamic", "int8")
    ]
    print_reports(run.folder.exports, [report for report in reports if report])
    print(f"Plots: {run.folder.curves}\n       {run.folder.confusion_matrix}")
