"""The command `train`, with an option for each field of `TrainConfig`."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from .. import training
from ..errors import InputError
from ..files import local_path
from ..training.recipes import read_recipe
from ..training.run_folder import RunFolder
from .command import Command, missing_error
from .tables import print_training

_METAVARS = {int: "<int>", float: "<float>", str: "<str>", Path: "<path>", NoneType: "none"}
_COMMON = (
    *("model", "dataset", "out", "recipe", "alpha", "image_size", "init", "epochs", "batch_size"),
    *("learning_rate", "augment", "precision", "overwrite", "resume", "help", "help_all"),
)
"""The options of the short help, in its order."""


class TrainCommand(Command):
    """A command with more options than a screen has lines: its help shows the common ones."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        options: dict[Any, Any] = {each.name: each for each in self.get_params(ctx)}
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
    """The rest is for the long help; what typer adds in brackets stays."""
    description, gap, extra = text.partition("  [")
    return description.partition(". ")[0].removesuffix(".") + gap + extra


def _print_all(context: typer.Context, asked: bool) -> None:
    if asked:
        context.params["help_all"] = True
        print(context.get_help())
        raise typer.Exit


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
            help=f"{field.description}{'  [required]' if required else ''}",
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


@_with_settings
def train(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Folder that the run is written to.  [required]")
    ] = None,
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
    help_all: Annotated[  # noqa: ARG001  # its callback answers
        bool,
        typer.Option(
            "--help-all",
            help="Show all options and all about them.",
            is_eager=True,
            callback=_print_all,
        ),
    ] = False,
    **settings: Any,
) -> None:
    """Train a network into a folder: model, logs, metrics and plots.

    keras-archs train --model mobilenet --dataset fashion_mnist_small --out runs/a
    """
    needed = ["out"] if resume or resume_from else ["model", "dataset", "out"]
    known = {"out": out, **settings}
    own = read_recipe(recipe).settings if recipe else {}
    if names := [f"--{name}" for name in needed if known[name] is None and name not in own]:
        raise missing_error(context, names)
    assert out is not None  # no recipe has it
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
            own = RunFolder(local_path(out)).read_settings().config
            known = {"model": own.model, "dataset": own.dataset}
            config = training.load_recipe(recipe, **known | given)
            given = config.model_dump(include=config.model_fields_set)
        print_training(out, training.resume(out, changes=given, force=force))
        return
    if force:
        raise InputError("--force goes with --resume; --overwrite replaces a run.")
    if resume_from:
        if recipe:
            raise InputError("--recipe cannot go with --resume-from, which has settings already.")
        config = training.continue_from(resume_from, **given)
    else:
        config = training.load_recipe(recipe, **given) if recipe else training.TrainConfig(**given)
    print_training(out, training.train(config, out, overwrite=overwrite))


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
