"""Converts all networks to all kinds, and writes docs/tflite.{csv,md} (`make tflite-matrix`)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import keras_archs
from benchmarks.bench.report import machine
from benchmarks.tflite import page
from benchmarks.tflite.measure import Row
from keras_archs.errors import InputError
from keras_archs.graph import symbolic
from keras_archs.registry import find
from tflite_export.settings import KINDS

ROOT = Path(__file__).parents[2]
QUICK = ["mobilenet"]
LARGE, FOR_LARGE = 30e6, ("none", "int8")
"""Networks with more parameters are only converted to these kinds, unless --all is given."""


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Shell patterns of networks, for example 'resnet*'. Default: all."),
    ] = None,
    kinds: Annotated[
        str, typer.Option(help=f"Kinds, separated by commas: {', '.join(KINDS)}.")
    ] = ",".join(KINDS),
    everything: Annotated[
        bool, typer.Option("--all", help="Also convert large networks to all kinds.")
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Measure only rows that the table does not have.")
    ] = False,
    quick: Annotated[bool, typer.Option(help="Use a small network and write nothing.")] = False,
) -> None:
    """Converts networks, compares the files with Keras, and writes docs/tflite.{csv,md}.

    Each row is written at once. It replaces the earlier row of the same network and kind.
    """
    selection = kinds.split(",")
    for kind in selection:
        if kind not in KINDS:
            raise typer.BadParameter(f"{kind!r} is not a kind; allowed: {', '.join(KINDS)}.")
    machine_name = machine()
    for name in QUICK if quick else _matching(names or ["*"]):
        network_kinds = [
            kind for kind in selection if everything or kind in FOR_LARGE or not _is_large(name)
        ]
        if missing:
            done = {row.kind for row in page.read() if row.network == name and not row.error}
            network_kinds = [kind for kind in network_kinds if kind not in done]
        for row in _rows(name, network_kinds):
            row.machine = machine_name
            print(*(f"{key} {value}" for key, value in asdict(row).items() if value), sep=", ")
            if not quick:
                page.write(row)


def _matching(patterns: list[str]) -> list[str]:
    names = [name for pattern in patterns for name in keras_archs.list_models(pattern)]
    if not names:
        find(patterns[0])  # raises an error that suggests names
    return list(dict.fromkeys(names))


def _is_large(name: str) -> bool:
    with symbolic():
        return keras_archs.create_model(name).count_params() > LARGE


def _rows(name: str, kinds: list[str]) -> Iterator[Row]:
    """Yields the rows of a network, measured in a process of its own."""
    if not kinds:
        return
    remaining = list(kinds)
    with subprocess.Popen(
        _command(name, kinds), stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        for line in process.stdout:
            row = Row(**json.loads(line))
            remaining.remove(row.kind)
            yield row
    if remaining:  # the process has crashed
        yield Row(name, 0, remaining[0], error=f"the process ended with code {process.returncode}")
        yield from _rows(name, remaining[1:])


def _command(name: str, kinds: list[str]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.tflite.measure", name, *kinds]


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"Error: {error}")
