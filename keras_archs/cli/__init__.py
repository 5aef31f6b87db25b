"""The command line. It alone knows networks, training and export together."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

import keras_archs

from .. import exporting, tflite_export, training
from ..errors import InputError
from ..tflite_export.predict import predict as run_predict
from ..training.recipes import list_recipes, recipe_text
from . import data_commands
from .export_command import export
from .tables import print_reports, print_training
from .train_command import train

app = typer.Typer(
    help="Train image classifiers and ship them as TFLite files.",
    no_args_is_help=True,
    add_completion=False,
)
app.command(no_args_is_help=True)(train)
app.command(no_args_is_help=True)(export)
app.add_typer(data_commands.app, name="data")


def main() -> None:
    """Runs the command line; bad input ends in one line on stderr and exit code 2."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"Warning: {message}", file=sys.stderr)
        try:
            code = app(prog_name="keras-archs", standalone_mode=False)
        except InputError as error:
            code = _refuse(str(error))
        except typer.TyperException as error:
            code = _refuse(error.format_message(), error.__cause__)
        except tflite_export.ParityError as error:
            print("\n".join([f"Error: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
            code = 3
        except training.TrainingStopped as stop:
            print(f"Stopped: {stop}", file=sys.stderr)
            code = stop.exit_code
        except (KeyboardInterrupt, typer.Abort):
            code = 130
    sys.exit(code)


def _refuse(message: str, cause: BaseException | None = None) -> int:
    if isinstance(cause, ValidationError):  # Typer leaves out what was given.
        message += f", got {cause.errors()[0]['input']!r}"
    print(f"Error: {message}", file=sys.stderr)
    return 2


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def predict(context: typer.Context) -> None:
    """Name what is on pictures, by an exported TFLite file.

    keras-archs predict model.tflite cat.jpg
    """
    # Its arguments are its own, for the installed command runs it without this module.
    run_predict(context.args)


@app.command(no_args_is_help=True)
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
) -> None:
    """Write a finished run's report, one HTML file for any browser, anew.

    It comes to RUN/report.html. Training writes it as well.
    """
    print(training.report(run))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder that the run is written to.")] = Path(
        "runs/demo"
    ),
) -> None:
    """The whole way on the shipped images: train MobileNet 0.5, export and check four files.

    Replaces the run of an earlier demo in the folder.
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


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, such as 'resnet*'.")] = "*",
) -> None:
    """List the networks by name."""
    print("\n".join(keras_archs.list_models(pattern)))


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Recipe to print.", show_default=False)] = None,
) -> None:
    """List the recipes of training, or print one to read or to change."""
    if name:
        print(recipe_text(name), end="")
        return
    table = Table("recipe", "version", "source", "what for")
    for each in list_recipes():
        table.add_row(each.name, str(each.version), each.source, each.description.split(". ")[0])
    Console().print(table)
