"""The command `export`, with an option for each field of `ExportSettings`."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from rich.table import Column, Table

from keras_archs.display.formatting import byte_size
from keras_archs.tflite_export import ParityError
from keras_archs.tflite_export import export as write_export
from keras_archs.tflite_export.settings import ExportSettings
from keras_archs.tflite_export.verification.layer_errors import LayerLoss

from .tables import print_reports, print_table

_NAMES = {"calibration_size": ("--calibration-size", "--samples")}
"""Options with a second name."""
_SHOWN = 20
"""Layers in the table of losses."""


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Adds an option for each field of `ExportSettings` to a command, after its own options."""
    parameters = list(inspect.signature(command).parameters.values())[:-1]
    hints = get_type_hints(ExportSettings, include_extras=True)
    # Typer has no unions of literals. Such values are texts; the settings check them.
    types = {bool: bool, int: int, float | None: float | None, Sequence[str]: list[str] | None}
    options = []
    for setting in fields(ExportSettings):
        if setting.name == "batch":  # the command has --any-batch
            continue
        kind, text, *metavar = get_args(hints[setting.name])
        flag = f"--{setting.name.replace('_', '-')}"
        option = typer.Option(
            *_NAMES.get(setting.name, (flag,)), help=text, metavar=metavar[0] if metavar else None
        )
        options.append(
            inspect.Parameter(
                setting.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=setting.default or None if kind == Sequence[str] else setting.default,
                annotation=Annotated[types.get(kind, str | None), option],
            )
        )
    command.__signature__ = inspect.Signature([*parameters, *options])  # type: ignore[attr-defined]
    return command


@_with_settings
def export(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, .keras file, or NAME:WEIGHTS such as mobilenet:imagenet.",
            metavar="SOURCE",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Path of the file. Default for a run: in RUN/export/.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    any_batch: Annotated[
        bool, typer.Option("--any-batch", help="Allow any batch size. Default: batch size 1.")
    ] = False,
    **settings: Any,
) -> None:
    """Convert a network to TFLite and compare the file with the network.

    The export of a run is written to RUN/export/. A report (JSON) and a page (HTML) are written to
    the same folder. A file that is too far from the Keras model, or that returns NaN, is saved as
    NAME.rejected.tflite, and the exit code is 3.

    keras-archs export runs/first --quantize int8
    """
    settings["keep_float"] = settings["keep_float"] or ()
    settings["batch"] = None if any_batch else 1
    try:
        exported = write_export(source, out=out, overwrite=overwrite, **settings)
    except ParityError as error:
        _print_losses(error.layer_losses)
        raise
    conversion = exported.conversion
    _print_losses(exported.layer_losses)
    if conversion.report:
        print_reports(exported.path.parent, [conversion.report])
    elif conversion.stand_in:
        deviation = conversion.stand_in.deviation
        print(
            f"{exported.path}: {byte_size(len(conversion.content))}. Compared with Keras on"
            f" {conversion.stand_in.images} generated images: the probabilities deviate by"
            f" {'less than 0.01%' if deviation < 1e-4 else f'{deviation:.2%}'} (RMS). Use"
            " --dataset for a report on real images."
        )
    if (page := exported.path.with_suffix(".html")).exists():
        print(f"Page: {page}")


def _print_losses(losses: Sequence[LayerLoss]) -> None:
    if not losses:
        return
    table = Table(
        Column("layer", overflow="fold"),
        "error alone",
        "agreement alone",
        "signal to noise",
        title=f"The {min(_SHOWN, len(losses))} worst of {len(losses)} quantized layers",
        caption="error alone, agreement alone: a file with only this layer in integers, compared"
        " with the float file (RMS error as a share of the score range, share of images with the"
        " same class). signal to noise: of the output of the layer in the exported file, including"
        " the errors of earlier layers.",
        caption_justify="left",
    )
    for loss in losses[:_SHOWN]:
        table.add_row(
            loss.layer,
            f"{loss.alone:.3%}",
            f"{loss.agreement_alone:.2%}",
            f"{loss.noise_db:.1f} dB",
        )
    print_table(table)
