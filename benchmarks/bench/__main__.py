"""Measures speed, memory and size, interleaved with those of peers (`make bench`)."""

from dataclasses import replace
from typing import Annotated

import typer

from benchmarks.bench import report
from benchmarks.bench import sections as measurements
from benchmarks.bench.sections import SECTIONS

DEFAULT = [name for name in SECTIONS if name != "gpu"]
QUICK = ["peak", "train", "infer"]


def main(
    sections: Annotated[
        list[str] | None,
        typer.Argument(help=f"Sections: {', '.join(SECTIONS)}. Default: all except gpu."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of measurement.")] = 7,
    quick: Annotated[bool, typer.Option(help="Use a small network and write nothing.")] = False,
) -> None:
    """Measures sections in turns with their peers, and writes docs/benchmarks.{md,csv,png}."""
    sections = sections or (QUICK if quick else DEFAULT)
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is not a section; allowed: {', '.join(SECTIONS)}."
        )
    if quick:
        measurements.SIDE = 512
    device = report.gpu_name() if "gpu" in sections else None
    if "gpu" in sections and not device:
        raise typer.BadParameter("gpu: TensorFlow does not find a GPU.")
    machine = report.machine(device)
    for name in (section for section in SECTIONS if section in sections):
        for row in SECTIONS[name](rounds, quick):
            print(*report.table([row], [""])[2:], flush=True)
            if not quick:
                report.write(replace(row, machine=machine, rounds=str(rounds)))
    if not quick:
        print(f"written: {report.PAGE}, {report.CSV}, {report.PICTURE}")


if __name__ == "__main__":
    typer.run(main)
