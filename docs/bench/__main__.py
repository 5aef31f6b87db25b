"""Speed, memory and size beside the peers', measured side by side: `make bench`."""

from dataclasses import replace
from typing import Annotated

import typer

from docs.bench import report
from docs.bench import sections as measurements
from docs.bench.sections import SECTIONS

DEFAULT = [name for name in SECTIONS if name != "gpu"]
QUICK = ["peak", "train", "infer"]


def main(
    sections: Annotated[
        list[str] | None,
        typer.Argument(help=f"Of {', '.join(SECTIONS)}; all but gpu unless given."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of measurement.")] = 7,
    quick: Annotated[bool, typer.Option(help="A small network, nothing written.")] = False,
) -> None:
    """Measures sections in turns with their peers, and writes docs/benchmarks.{md,csv,png}."""
    wanted = sections or (QUICK if quick else DEFAULT)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no section; allowed: {', '.join(SECTIONS)}.")
    if quick:
        measurements.SIDE = 512
    device = report.gpu_name() if "gpu" in wanted else None
    if "gpu" in wanted and not device:
        raise typer.BadParameter("gpu: TensorFlow sees no GPU here.")
    machine = report.machine(device)
    for name in (section for section in SECTIONS if section in wanted):
        for row in SECTIONS[name](rounds, quick):
            print(*report.table([row])[2:], flush=True)
            if not quick:
                report.write(replace(row, machine=machine, rounds=str(rounds)))
    if not quick:
        print(f"written: {report.PAGE}, {report.CSV}, {report.PICTURE}")


if __name__ == "__main__":
    typer.run(main)
