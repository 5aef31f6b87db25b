"""Every network as a TFLite file of every kind, into docs/tflite.{csv,md}: `make tflite-matrix`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import keras_archs
from docs.bench.report import machine
from docs.tflite import page
from docs.tflite.measure import Row
from keras_archs.errors import InputError
from keras_archs.graph import symbolic
from keras_archs.registry import find
from tflite_export.lowering import KINDS

ROOT = Path(__file__).parents[2]
QUICK = ["mobilenet"]
LARGE, FOR_LARGE = 30e6, ("none", "int8")
"""Parameters from which on a network is converted to these kinds alone, unless told otherwise."""


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Shell patterns of networks, such as 'resnet*'; all if none is given."),
    ] = None,
    kinds: Annotated[
        str, typer.Option(help=f"Separated by commas, of {', '.join(KINDS)}.")
    ] = ",".join(KINDS),
    everything: Annotated[
        bool, typer.Option("--all", help="All kinds for large networks, too.")
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only what the table does not have yet.")
    ] = False,
    quick: Annotated[bool, typer.Option(help="A small network, nothing written.")] = False,
) -> None:
    """Converts networks, compares the files with Keras, and writes docs/tflite.{csv,md}.

    A row is written as soon as it is there, in the place of an earlier one of the same network
    and kind.
    """
    wanted = kinds.split(",")
    for kind in wanted:
        if kind not in KINDS:
            raise typer.BadParameter(f"{kind!r} is no kind; allowed: {', '.join(KINDS)}.")
    here = machine()
    for name in QUICK if quick else _matching(names or ["*"]):
        own = [kind for kind in wanted if everything or kind in FOR_LARGE or not _is_large(name)]
        if missing:
            known = {row.kind for row in page.read() if row.network == name and not row.error}
            own = [kind for kind in own if kind not in known]
        for row in _rows(name, own):
            row.machine = here
            print(*(f"{key} {value}" for key, value in asdict(row).items() if value), sep=", ")
            if not quick:
                page.write(row)


def _matching(patterns: list[str]) -> list[str]:
    names = [name for pattern in patterns for name in keras_archs.list_models(pattern)]
    if not names:
        find(patterns[0])  # names the nearest ones
    return list(dict.fromkeys(names))


def _is_large(name: str) -> bool:
    with symbolic():
        return keras_archs.create_model(name).count_params() > LARGE


def _rows(name: str, kinds: list[str]) -> Iterator[Row]:
    """The rows of a network, from a process of its own, as they come."""
    if not kinds:
        return
    left = list(kinds)
    with subprocess.Popen(
        _command(name, kinds), stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        for line in process.stdout:
            row = Row(**json.loads(line))
            left.remove(row.kind)
            yield row
    if left:  # neither a file nor an error: the process itself has ended
        yield Row(name, 0, left[0], error=f"the process ended with code {process.returncode}")
        yield from _rows(name, left[1:])


def _command(name: str, kinds: list[str]) -> list[str]:
    return [sys.executable, "-m", "docs.tflite.measure", name, *kinds]


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"Error: {error}")
