"""The command line. It alone knows networks, training and export together."""

import inspect
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

import keras_archs
import tflite_export
import training
from keras_archs import exporting
from keras_archs.errors import InputError
from tflite_export.predict import predict as run_predict
from training.data.prepare import prepare
from training.recipes import list_recipes, recipe_text
from training.run_folder import RunFolder

app = typer.Typer(
    help="Train image classifiers and ship them as TFLite files.",
    no_args_is_help=True,
    add_completion=False,
)


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


_METAVARS = {int: "INTEGER", float: "FLOAT", str: "TEXT", Path: "PATH", NoneType: "none"}


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command, behind its own options, one for each field of `TrainConfig`."""
    own = list(inspect.signature(command).parameters.values())[:-1]
    options = []
    for name, field in training.TrainConfig.model_fields.items():
        if name in {"model_args", "recipe"}:  # commands have their own options for these
            continue
        required = field.is_required()
        # Typer knows no choices of values, and no "none"; pydantic checks them.
        kinds = get_args(field.annotation)
        text = get_origin(field.annotation) is Literal or bool({str, NoneType} & {*kinds})
        # As text, for `gs://bucket` is none of Path's; it is a path all the same.
        shown = [kind for kind in kinds if kind is not str or Path not in kinds]
        extra: Any = field.json_schema_extra
        option = typer.Option(
            help=field.description,
            rich_help_panel=extra["panel"],
            metavar="|".join(_METAVARS[kind] for kind in shown) if NoneType in kinds else None,
        )
        options.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                # None is as good as not given: TrainConfig then asks for it, or works it out.
                default=None if required or field.default_factory else field.default,
                annotation=Annotated[str if text else field.annotation, option],
            )
        )
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return command


@app.command(no_args_is_help=True)
@_with_settings
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder that the run is written to.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the folder's interrupted run from its last checkpoint. Its settings"
            " need not be given again.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Let --resume go on with settings other than the run's."),
    ] = False,
    resume_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A new run with the settings and the best model of another one, such as for --qat;"
            " options here come over them.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Settings to begin with, see `keras-archs recipes`; options here come over them.",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Width multiplier, for networks with one.", rich_help_panel="Network"),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other argument of the network, such as rho=0.857 or, as JSON,"
            ' attention={"3": "se"}. May be repeated.',
            rich_help_panel="Network",
        ),
    ] = None,
    **settings: Any,
) -> None:
    """Train a network, evaluate it, and keep the model, logs, metrics and plots in a folder.

    keras-archs train --model mobilenet --alpha 0.5 --dataset fashion_mnist_small --out runs/first
    """
    model_args = dict(map(_parse_model_arg, model_arg or []))
    if alpha is not None:
        model_args["alpha"] = alpha
    # What is not given is not the default here but the run's, the recipe's or TrainConfig's.
    sources = {name: context.get_parameter_source(name) for name in settings}
    given = {
        name: settings[name]
        for name, source in sources.items()
        if source and source.name == "COMMANDLINE"
    }
    if model_args:
        given["model_args"] = model_args
    if resume:
        for option, value in {"--overwrite": overwrite, "--resume-from": resume_from}.items():
            if value:
                raise InputError(f"{option} cannot go with --resume.")
        if recipe:
            own = RunFolder(out).read_settings().config
            known = {"model": own.model, "dataset": own.dataset}
            config = training.load_recipe(recipe, **known | given)
            given = config.model_dump(include=config.model_fields_set)
        _print_training(out, training.resume(out, changes=given, force=force))
        return
    if force:
        raise InputError("--force goes with --resume; --overwrite replaces a run.")
    if resume_from:
        if recipe:
            raise InputError("--recipe cannot go with --resume-from, which has settings already.")
        config = training.continue_from(resume_from, **given)
    else:
        config = training.load_recipe(recipe, **given) if recipe else training.TrainConfig(**given)
    _print_training(out, training.train(config, out, overwrite=overwrite))


@app.command(no_args_is_help=True)
def export(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, .keras file, or NAME:WEIGHTS such as mobilenet:imagenet.",
            metavar="SOURCE",
        ),
    ],
    quantize: Annotated[
        str, typer.Option(help=f"One of {', '.join(tflite_export.KINDS)}.")
    ] = "none",
    out: Annotated[
        Path | None, typer.Option(help="The file. If not given: in RUN/export/.")
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Keep the layers that lose the most in float, as few as the bounds ask for.",
        ),
    ] = False,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Not to be quantized. May be repeated."),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print which layers lose the most.")
    ] = False,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Least share of test images with Keras' class; has defaults by kind."),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(help="Largest error of a score, as a share of their range."),
    ] = None,
    io: Annotated[
        str | None, typer.Option(help="Input and output of int8: int8, uint8 or float32.")
    ] = None,
    scores: Annotated[
        str, typer.Option(help="The network's, as in model, or logits or probabilities.")
    ] = "model",
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Let the file take 0..255 and preprocess itself.")
    ] = False,
    any_batch: Annotated[
        bool, typer.Option("--any-batch", help="Take any number of images at once, not one.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="As for train, to calibrate and test on; of a run its own if not given."),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where TFDS keeps its datasets.", metavar="PATH")
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY",
            help="How the images were preprocessed, if SOURCE does not say: as for a family, or"
            " none for pixels of 0..255.",
        ),
    ] = None,
    calibration_size: Annotated[
        int,
        typer.Option(
            "--calibration-size", "--samples", help="Training images that calibrate int8, int16x8."
        ),
    ] = 300,
    calibration_seed: Annotated[int, typer.Option(help="Draws them, of all classes alike.")] = 0,
    test_images: Annotated[
        int, typer.Option(help="Most test images to compare Keras and TFLite on.")
    ] = 2000,
    threads: Annotated[int, typer.Option(help="Threads of the latency measurement.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier file of this kind.")
    ] = False,
) -> None:
    """Write a network as a TFLite file that is checked against the Keras model.

    A run's file and its report (JSON) come to RUN/export/. A file too far from the Keras model ends
    in exit code 3 and is kept aside as NAME.rejected.tflite.

    keras-archs export runs/first --quantize int8
    """
    file, made = exporting.export(
        source,
        quantize,
        out=out,
        dataset=dataset,
        data_dir=data_dir,
        preprocessing=preprocessing,
        calibration_size=calibration_size,
        calibration_seed=calibration_seed,
        test_images=test_images,
        overwrite=overwrite,
        debug=debug,
        auto=auto,
        keep_float=keep_float or (),
        min_agreement=min_agreement,
        max_error=max_error,
        io=io,
        scores=scores,
        pixels=pixels,
        batch=None if any_batch else 1,
        threads=threads,
    )
    if made.report:
        _print_reports(file.parent, [made.report])
    else:
        print(f"{file}: {len(made.content) / 1e6:.2f} MB, not tested; --dataset gives images.")


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


data_app = typer.Typer(help="Datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.callback()
def _data() -> None:
    """Keeps `prepare` a command of its own name while it is the only one."""


@data_app.command("prepare", no_args_is_help=True)
def prepare_data(
    dataset: Annotated[str, typer.Argument(help="As for train --dataset.", metavar="DATASET")],
    out: Annotated[str, typer.Option(help="Folder that the files are written to.", metavar="PATH")],
    format: Annotated[  # noqa: A002  # the option's name
        str, typer.Option(help="tfrecord, or array_record, which is read at any place.")
    ] = "tfrecord",
    shards: Annotated[
        int | None, typer.Option(help="Files for each split. If not given: of 64 MB to 1 GB.")
    ] = None,
    beam: Annotated[
        bool, typer.Option("--beam", help="Let Apache Beam write (keras-archs[beam]).")
    ] = False,
    beam_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Of Beam's pipeline, such as runner=FlinkRunner. May be repeated.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where TFDS keeps its datasets.", metavar="PATH")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the images that are held out.")] = 0,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be decoded.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier folder.")
    ] = False,
) -> None:
    """Write a dataset as sharded files, its image files unchanged, and print how to open it.

    keras-archs data prepare image_folder:photos --out photos.tfrecord --shards 16
    """
    spec = prepare(
        dataset,
        out,
        format=format,  # type: ignore[arg-type]
        shards=shards,
        beam=beam,
        beam_options=[f"--{option}" for option in beam_option or []],
        overwrite=overwrite,
        data_dir=data_dir,
        seed=seed,
        skip_corrupt=skip_corrupt,
    )
    print(f"--dataset '{spec}'")


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
    _print_training(out, training.train(config, out, overwrite=True))
    run = training.load_run(out)
    made = [exporting.export(str(out), kind)[1] for kind in ("none", "float16", "dynamic", "int8")]
    _print_reports(run.folder.exports, [each.report for each in made if each.report])
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


def _parse_model_arg(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--model-arg takes NAME=VALUE, got {text!r}.")
    words = {"true": True, "false": False, "none": None}
    for parse in (lambda v: words[v.lower()], int, float, json.loads):
        try:
            return name, parse(value)
        except (KeyError, ValueError):
            continue
    return name, value


def _print_training(out: Path, metrics: dict[str, Any]) -> None:
    table = Table(title=f"{metrics['model']} on {metrics['dataset']}", show_header=False)
    table.add_row("test top-1", f"{metrics['test_top1']:.2%} of {metrics['test_images']:,} images")
    table.add_row("parameters", f"{metrics['parameters'] / 1e6:.2f} million")
    table.add_row("multiply-adds", f"{metrics['multiply_adds'] / 1e6:.1f} million for an image")
    speed = f"{metrics['training_images_per_second']:,.0f} images/s"
    table.add_row("training", f"{metrics['training_seconds']:.0f} s, {speed}")
    table.add_row("run", str(out))
    table.add_row("report", str(out / "report.html"))
    Console().print(table)


def _print_reports(folder: Path, reports: Sequence[tflite_export.Report]) -> None:
    table = Table(
        *reports[0].row(),
        title=f"TFLite files in {folder}",
        caption=reports[0].conditions(),
        caption_justify="left",
    )
    for report in reports:
        table.add_row(*report.row().values())
    Console().print(table)
    for report in reports:
        if report.kept_float:
            print(report.price())
