"""Accuracy, speed and time to an accuracy on Fashion-MNIST: `make bench-fashion`."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from docs import tables
from docs.bench.report import gpu_name, machine
from docs.fashion_mnist import data, int8, race
from docs.fashion_mnist.variants import BEST, LONG, VARIANTS, run, run_best
from keras_archs.files import atomic_write

FOLDER = Path(__file__).parents[1]
PAGE = "fashion_mnist.md"
TABLES = {
    "families": "fashion_mnist.csv",
    "race": "fashion_mnist_race.csv",
    "int8": "fashion_mnist_int8.csv",
}
KEYS = {"families": "family", "race": "target", "int8": "network"}
INT8 = {f"int8-{name}": name for name in int8.NETWORKS}
PARTS = [*VARIANTS, BEST, "race", *INT8]
EXPLAINED = {
    "families": "A small network of each family by the recipe `fast`, on"
    " 54,000 of the training images; the others choose the epoch. The row `best` is of a network"
    f" trained at length, at {LONG.image_size} pixels with"
    f" {', '.join(f'{name} {value}' for name, value in LONG.other.items())}, on all training"
    " images; its last epoch counts. Minutes and images a second include the validation and the"
    " checkpoints.",
    "race": "Minutes until the 10,000 test images are classified so well at the end of an epoch:"
    f" MobileNet of width {race.ALPHA} at {race.SIZE} pixels on all 60,000 training images, by"
    " our recipe `fast` and by plain `fit` of keras.applications' with Adam, both in all of"
    " their defaults, in one run, their start included. Ratio: their time divided by ours;"
    f' "over" where they had not reached it when they were given up, after {race.GIVE_UP} times'
    f" our time to {race.TARGETS[0]:.0%}.",
    "int8": "Share of the 10,000 test images that is right: of a network by the recipe `fast`"
    f" (EfficientNet and MobileNetV3 with"
    f" {', '.join(f'{name} {value}' for name, value in int8.ADAMW.items())}),"
    " of its int8 file (calibrated on 300 training images), of the network after"
    " `train --resume-from RUN --qat`, and of the int8 file of that. The last two columns hold this"
    " file's logits for these images against those of the network that was trained for int8: how"
    " many steps of int8 the furthest one is off, and the share of those that are equal or one step"
    " off. Networks whose int8 file loses"
    f" less than {100 * int8.AIM} points are not trained for it, but for MobileNet 0.25.",
}


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(PARTS)}; all if none.")
    ] = None,
    source: Annotated[Path, typer.Option(help="Folder of the four idx.gz files.")] = Path(
        "/usr/share/datasets/fashion-mnist"
    ),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of all but the race; if none, the recipe's.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Few images; written to --out alone, if given.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the page and its tables, docs if none.", exists=True, file_okay=False
        ),
    ] = None,
) -> None:
    """Trains on Fashion-MNIST and writes docs/fashion_mnist.{md,csv}, one part or all."""
    if not quick:
        out = out or FOLDER
    wanted = parts or PARTS
    for part in wanted:
        if part not in PARTS:
            raise typer.BadParameter(f"{part!r}: allowed are {', '.join(PARTS)}.")
    count = 640 if quick else None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for split in data.FILES:
            data.write(*data.read(source, split, count), folder / f"{split}.tfrecord")
        dataset = f"tfrecord:{folder}/{{split}}.tfrecord"
        for part in wanted:
            if part == "race":
                _keep("race", _race(source, folder, count), out)
            elif part == BEST:
                row = run_best(_whole(folder), epochs, folder / part)
                _keep("families", [row], out)
            elif part in INT8:
                for seed in int8.SEEDS[: 1 if quick else None]:
                    row = int8.run(INT8[part], seed, dataset, epochs, folder / part)
                    _keep("int8", [row], out)
            else:
                _keep("families", [run(part, dataset, epochs, folder / part)], out)


def _keep(table: str, rows: list[dict[str, Any]], out: Path | None) -> None:
    """Prints rows and writes them, if there is a folder for them."""
    rows = [{**row, "machine": machine(gpu_name())} for row in rows]
    for row in rows:
        print(*(f"{name} {value}" for name, value in row.items()), sep=", ", flush=True)
    if out:
        _write(table, rows, out)


def _whole(folder: Path) -> str:
    """All training images, and the test images as validation images, too."""
    (folder / "whole").mkdir(exist_ok=True)
    for split, file in {"train": "train", "validation": "test", "test": "test"}.items():
        link = folder / "whole" / f"{split}.tfrecord"
        if not link.exists():
            link.symlink_to(folder / f"{file}.tfrecord")
    return f"tfrecord:{folder}/whole/{{split}}.tfrecord"


def _race(source: Path, folder: Path, count: int | None) -> list[dict[str, Any]]:
    ours = race.ours(_whole(folder), 2 if count else None, folder / "fast")
    first = race.time_to(race.TARGETS[0], ours) or ours[-1].seconds
    theirs = race.theirs(source, count, 2 if count else 1000, race.GIVE_UP * first)
    rows = []
    for target in race.TARGETS:
        mine, other = race.time_to(target, ours), race.time_to(target, theirs)
        given_up = other is None
        ratio = (other or theirs[-1].seconds) / mine if mine else None
        rows.append(
            {
                "target": target,
                "ours_minutes": "" if mine is None else round(mine / 60, 2),
                "theirs_minutes": f"over {theirs[-1].seconds / 60:.2f}" if given_up else
                round((other or 0) / 60, 2),
                "ratio": "" if ratio is None else ("over " * given_up) + f"{ratio:.2f}",
                "ours_last": round(ours[-1].accuracy, 4),
                "theirs_best": round(max(epoch.accuracy for epoch in theirs), 4),
            }
        )  # fmt: skip
    return rows


def _write(table: str, rows: list[dict[str, Any]], out: Path) -> None:
    """Puts rows in the place of those of the same key, and makes the page anew."""
    key = KEYS[table]
    new = {str(row[key]): {name: str(value) for name, value in row.items()} for row in rows}
    merged = {row[key]: row for row in tables.read(out / TABLES[table])} | new
    tables.write(out / TABLES[table], merged.values())
    atomic_write(out / PAGE, _page(out).encode())


def _page(out: Path) -> str:
    lines = ["# Fashion-MNIST", "", "Written by `make bench-fashion`."]
    for table, explained in EXPLAINED.items():
        rows = tables.read(out / TABLES[table])
        if not rows:
            continue
        head = [name for name in rows[0] if name != "machine"]
        cells = ([row[name] for name in head] for row in rows)
        lines += ["", f"## {table.capitalize()}", "", explained, ""]
        lines += [f"{name}." for name in dict.fromkeys(row["machine"] for row in rows)]
        lines += ["", *tables.markdown(head, cells)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
