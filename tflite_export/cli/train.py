"""The command `train`, with an option for each field of `TrainConfig`."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from keras_archs import training
from keras_archs.errors import InputError
from keras_archs.files import local_path
from keras_archs.training.runs.run_folder import RunFolder
from keras_archs.training.settings.recipes import read_recipe

from .command import Command, missing_error
from .tables import print_training

_METAVARS = {int: "<int>", float: "<float>", str: "<str>", Path: "<path>", NoneType: "none"}
_COMMON = (
    *("model", "dataset", "out", "recipe", "alpha", "image_size", "init", "epochs", "batch_size"),
    *("learning_rate", "augment", "precision", "overwrite", "resume", "help", "help_all"),
)
"""The options in the short help, in order."""


class TrainCommand(Command):
    """The command `train`. Its short help shows only the common options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        options: dict[Any, Any] = {option.name: option for option in self.get_params(ctx)}
        if ctx.params.get("help_all"):
            panels: dict[str, list[Any]] = {}
            for option in options.values():
                panel = option.rich_help_panel or "Options"
                panels.setdefault(panel, []).append(option.get_help_record(ctx))
        else:
            common = [options[name].get_help_record(ctx) for name in _COMMON]
            panels = {"Options": [(name, _first_sentence(text)) for name, text in common]}
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


def _first_sentence(text: str) -> str:
    """Shortens a help text to its first sentence. The brackets that typer adds stay."""
    description, gap, extra = text.partition("  [")
    return description.partition(". ")[0].removesuffix(".") + gap + extra


def _print_all(context: typer.Context, asked: bool) -> None:
    if asked:
        context.params["help_all"] = True
        print(context.get_help())
        raise typer.Exit


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Adds an option for each field of `TrainConfig` to a command, after its own options."""
    parameters = list(inspect.signature(command).parameters.values())[:-1]
    options = []
    for name, field in training.TrainConfig.model_fields.items():
        if name in {"model_args", "recipe"}:  # the command has options for these
            continue
        required = field.is_required()
        # Typer has no literals and no "none". Such values are texts; pydantic checks them.
        types = get_args(field.annotation)
        is_text = get_origin(field.annotation) is Literal or bool({str, NoneType} & {*types})
        # A path may be a text such as gs://bucket. The help shows <path>.
        shown = [kind for kind in types if kind is not str or Path not in types]
        extra: Any = field.json_schema_extra
        option = typer.Option(
            help=f"{field.description}{'  [required]' if required else ''}",
            rich_help_panel=extra["panel"],
            metavar="|".join(_METAVARS[kind] for kind in shown) if NoneType in types else None,
        )
        options.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                # None means missing: TrainConfig requires or derives the value.
                default=None if required or field.default_factory else field.default,
                annotation=Annotated[str if is_text else field.annotation, option],
            )
        )
    command.__signature__ = inspect.Signature([*parameters, *options])  # type: ignore[attr-defined]
    return command


@_with_settings
def train(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Folder for the run.  [required]")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing run in the folder.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the interrupted run in the folder from its last checkpoint, with the"
            " settings of the run.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Allow --resume with settings that change the result."),
    ] = False,
    resume_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Start a new run with the settings and the best model of a finished run, for"
            " example for --qat. Other options override these settings.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Start from the settings of a recipe, see `keras-archs recipes`. Other options"
            " override these settings.",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Width multiplier, for networks that have one.", rich_help_panel="Network"
        ),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An argument of the network as NAME=VALUE, such as rho=0.857, or with JSON"
            ' attention={"3": "se"}. May be repeated.',
            rich_help_panel="Network",
        ),
    ] = None,
    help_all: Annotated[  # noqa: ARG001  # its callback prints the help
        bool,
        typer.Option(
            "--help-all",
            help="Show all options with complete descriptions.",
            is_eager=True,
            callback=_print_all,
        ),
    ] = False,
    **settings: Any,
) -> None:
    """Train a network into a folder: model, logs, metrics and plots.

    keras-archs train --model mobilenet --dataset fashion_mnist_small --out runs/a
    """
    required = ["out"] if resume or resume_from else ["model", "dataset", "out"]
    values = {"out": out, **settings}
    in_recipe = read_recipe(recipe).settings if recipe else {}
    missing = [name for name in required if values[name] is None and name not in in_recipe]
    if missing:
        raise missing_error(context, [f"--{name}" for name in missing])
    assert out is not None  # a recipe cannot have it
    model_args = dict(map(_parse_model_arg, model_arg or []))
    if alpha is not None:
        model_args["alpha"] = alpha
    # Other settings are those of the run or the recipe, or the defaults of TrainConfig.
    sources = {name: context.get_parameter_source(name) for name in settings}
    changes = {
        name: settings[name]
        for name, source in sources.items()
        if source and source.name == "COMMANDLINE"
    }
    if model_args:
        changes["model_args"] = model_args
    if resume:
        for option, value in {"--overwrite": overwrite, "--resume-from": resume_from}.items():
            if value:
                raise InputError(f"{option} cannot be combined with --resume.")
        if recipe:
            run = RunFolder(local_path(out)).read_settings().config
            run_settings = {"model": run.model, "dataset": run.dataset}
            config = training.load_recipe(recipe, **run_settings | changes)
            changes = config.model_dump(include=config.model_fields_set)
        print_training(out, training.resume(out, changes=changes, force=force))
        return
    if force:
        raise InputError("--force needs --resume. To replace a run, use --overwrite.")
    if resume_from:
        if recipe:
            raise InputError(
                "--recipe cannot be combined with --resume-from: the settings are those of the run."
            )
        config = training.continue_from(resume_from, **changes)
    else:
        config = (
            training.load_recipe(recipe, **changes) if recipe else training.TrainConfig(**changes)
        )
    print_training(out, training.train(config, out, overwrite=overwrite))


def _parse_model_arg(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--model-arg must be NAME=VALUE, got {text!r}.")
    words = {"true": True, "false": False, "none": None}
    for parse in (lambda v: words[v.lower()], int, float, json.loads):
        try:
            return name, parse(value)
        except (KeyError, ValueError):
            continue
    return name, value
