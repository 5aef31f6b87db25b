"""Measures accuracy, speed and time to accuracy on Fashion-MNIST (`make bench-fashion`)."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import tables
from benchmarks.bench.report import gpu_name, machine
from benchmarks.fashion_mnist import data, engines, int8, race, rounding
from benchmarks.fashion_mnist.variants import BEST, LONG, VARIANTS, run, run_best
from keras_archs.files import atomic_write

FOLDER = Path(__file__).parents[2] / "docs"
PAGE = "fashion_mnist.md"
TABLES = {
    "families": "fashion_mnist.csv",
    "race": "fashion_mnist_race.csv",
    "int8": "fashion_mnist_int8.csv",
    "engines": "fashion_mnist_engines.csv",
    "rounding": "fashion_mnist_rounding.csv",
}
KEYS = {
    "families": "family",
    "race": "target",
    "int8": "network",
    "engines": "file",
    "rounding": "run",
}
INT8 = {f"int8-{name}": name for name in int8.NETWORKS}
ENGINES = {f"engines-{name}": name for name in int8.NETWORKS}
ROUNDING = {f"rounding-{name}": name for name in int8.NETWORKS}
PARTS = [*VARIANTS, BEST, "race", *INT8, *ENGINES, *ROUNDING]
EXPLAINED = {
    "families": "A small network of each family, trained with the recipe `fast` on 54,000 training"
    " images. The other 6,000 images select the best epoch. Epochs and image sizes differ. The row"
    " `attention` is ResNet18 with squeeze-and-excite at level 3 and a non-local block at level 4."
    " The row `best` shows a network that was trained for longer, at"
    f" {LONG.image_size} pixels, on all training images. Its settings are"
    f" {', '.join(f'{name}={value}' for name, value in LONG.other.items())}. Its accuracy is that"
    " of the last epoch. Minutes and images per second include validation and checkpoints.",
    "race": "Minutes to reach an accuracy on the 10,000 test images at the end of an epoch. The"
    f" network is MobileNet of width {race.ALPHA} at {race.SIZE} pixels, trained on all 60,000"
    " images. We use the recipe `fast`. The peer is MobileNet of keras.applications with plain"
    " `fit` and Adam. Both use their defaults, are measured in the same run, and include the"
    " start-up. Ratio: the peer's time divided by ours. The peer was stopped after"
    f" {race.GIVE_UP} times our time to {race.TARGETS[0]:.0%}."
    ' "over" means that it had not reached the accuracy by then.',
    "int8": "The table compares four models on the 10,000 test images. `keras_top1`: a network"
    " trained with the recipe `fast`; EfficientNet and MobileNetV3 have"
    f" {', '.join(f'{name} {value}' for name, value in int8.ADAMW.items())}."
    " `int8_top1`: its int8 file, calibrated on 300 training images. `qat_keras_top1`: the network"
    " after `train --resume-from RUN --qat`. `qat_int8_top1`: the int8 file of that network."
    " `qat_most_steps_off` and `qat_within_a_step` compare the logits of that file and that"
    " network: the largest difference in int8 steps, and the share of logits that differ by at most"
    f" one step. Networks whose int8 file loses less than {100 * int8.AIM} points are not trained"
    " with --qat, except MobileNet 0.25.",
    "engines": f"""\
Int8 and int16x8 files of one network, tested on the 10,000 test images. All are calibrated on
the same {engines.CALIBRATION} training images and return logits. `rms_error` is the error of the
logits, in standard deviations. `latency_ratio` is the time for one image divided by the time of
`package`; the files take turns, on a machine that was not idle. The networks were trained in
float32.

- `package`: what `keras-archs export` writes. int8 comes from TensorFlow's converter. Its ranges
  end where the next sigmoid or swish saturates, and a search clips outliers. int16x8 comes from
  ai-edge-quantizer.
- `package without range search`: the same without the search for outliers.
- `converter`: TensorFlow's converter with its public settings.
- `quantizer`: ai-edge-quantizer, with the minimum and maximum over all images as range. `ends cut`:
  ranges end where the next sigmoid or swish saturates. `averages`: ranges are moving averages, the
  default of ai-edge-quantizer. `dead filters as they are`: `ends cut` without the rescaling of
  filters that are always zero.

On MobileNetV3-Large the search raises the agreement from 98.4 to 99.0 %, and no other int8 file
reaches that. ai-edge-quantizer also has no int8 recipe for some operators: it leaves the maxima of
CBAM and of global max pooling in float, which an int8 file must not do. Therefore int8 uses the
converter with the search. The int16x8 files of ai-edge-quantizer are smaller and have the same
errors, so int16x8 uses ai-edge-quantizer. EfficientNet-B0 and ResNet18 are not measured yet;
`python -m benchmarks.fashion_mnist engines-NAME` adds them.""",
    "rounding": "Quantisation-aware training of a finished run in two ways. `XNNPACK` is what"
    " `train --qat` does: each layer rounds its result as XNNPACK does, to the last bit. `plain` is"
    " a straight-through estimator: layers compute in float32, and a fake quantisation rounds their"
    " result. The int8 file of each run is compared with its model on the logits of the 10,000 test"
    " images. `most_steps_off`: the largest difference, in int8 steps. `logits_equal`: share of"
    " logits without a difference. `cpu_seconds`: CPU time of training, validation and evaluation.",
}


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"Parts to run: {', '.join(PARTS)}. Default: all.")
    ] = None,
    source: Annotated[Path, typer.Option(help="Folder of the four idx.gz files.")] = Path(
        "/usr/share/datasets/fashion-mnist"
    ),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs, except in the race. Default: the recipe's.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Use few images. Writes only if --out is given.")
    ] = False,
    finished: Annotated[
        Path | None,
        typer.Option(help="Finished run for engines-* and rounding-*, in place of training."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the page and its tables. Default: docs.", exists=True, file_okay=False
        ),
    ] = None,
) -> None:
    """Trains on Fashion-MNIST and writes docs/fashion_mnist.md and its tables."""
    if not quick:
        out = out or FOLDER
    parts = parts or PARTS
    for part in parts:
        if part not in PARTS:
            raise typer.BadParameter(f"{part!r}: allowed are {', '.join(PARTS)}.")
    count = 640 if quick else None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for split in data.FILES:
            data.write(*data.read(source, split, count), folder / f"{split}.tfrecord")
        for part in parts:
            _measure(part, folder, source, count, epochs, finished, out)


def _measure(
    part: str,
    folder: Path,
    source: Path,
    count: int | None,
    epochs: int | None,
    finished: Path | None,
    out: Path | None,
) -> None:
    """Measures a part and records its rows. `folder` has the images, and takes the runs."""
    dataset = f"tfrecord:{folder}/{{split}}.tfrecord"

    def trained(name: str) -> Path:
        return finished or engines.train(name, dataset, epochs, folder / part)

    if part == "race":
        _record("race", _race(source, folder, count), out)
    elif part == BEST:
        _record("families", [run_best(_all_images(folder), epochs, folder / part)], out)
    elif part in INT8:
        for seed in int8.SEEDS[: 1 if count else None]:
            row = int8.run(INT8[part], seed, dataset, epochs, folder / part)
            _record("int8", [row], out)
    elif part in ENGINES:
        name = ENGINES[part]
        _record("engines", engines.rows_of(name, trained(name), count), out)
    elif part in ROUNDING:
        name = ROUNDING[part]
        for row in rounding.rows_of(name, trained(name), dataset, count, folder):
            _record("rounding", [row], out)
    else:
        _record("families", [run(part, dataset, epochs, folder / part)], out)


def _record(table: str, rows: list[dict[str, Any]], out: Path | None) -> None:
    """Prints rows, and writes them if a folder is given."""
    rows = [{**row, "machine": machine(gpu_name())} for row in rows]
    for row in rows:
        print(*(f"{name} {value}" for name, value in row.items()), sep=", ", flush=True)
    if out:
        _write(table, rows, out)


def _all_images(folder: Path) -> str:
    """A dataset of all training images, with the test images also as validation images."""
    (folder / "whole").mkdir(exist_ok=True)
    for split, file in {"train": "train", "validation": "test", "test": "test"}.items():
        link = folder / "whole" / f"{split}.tfrecord"
        if not link.exists():
            link.symlink_to(folder / f"{file}.tfrecord")
    return f"tfrecord:{folder}/whole/{{split}}.tfrecord"


def _race(source: Path, folder: Path, count: int | None) -> list[dict[str, Any]]:
    ours = race.train_ours(_all_images(folder), 2 if count else None, folder / "fast")
    first = race.time_to(race.TARGETS[0], ours) or ours[-1].seconds
    peer = race.train_peer(source, count, 2 if count else 1000, race.GIVE_UP * first)
    rows = []
    for target in race.TARGETS:
        our_time, peer_time = race.time_to(target, ours), race.time_to(target, peer)
        gave_up = peer_time is None
        ratio = (peer_time or peer[-1].seconds) / our_time if our_time else None
        rows.append(
            {
                "target": target,
                "ours_minutes": "" if our_time is None else round(our_time / 60, 2),
                "theirs_minutes": f"over {peer[-1].seconds / 60:.2f}" if gave_up else
                round((peer_time or 0) / 60, 2),
                "ratio": "" if ratio is None else ("over " * gave_up) + f"{ratio:.2f}",
                "ours_last": round(ours[-1].accuracy, 4),
                "theirs_best": round(max(epoch.accuracy for epoch in peer), 4),
            }
        )  # fmt: skip
    return rows


def _write(table: str, rows: list[dict[str, Any]], out: Path) -> None:
    """Replaces the rows with the same keys, and writes the page again."""
    key = KEYS[table]
    texts = {str(row[key]): {name: str(value) for name, value in row.items()} for row in rows}
    merged = {row[key]: row for row in tables.read(out / TABLES[table])} | texts
    tables.write(out / TABLES[table], merged.values())
    atomic_write(out / PAGE, page(out).encode())


def page(out: Path) -> str:
    lines = ["# Fashion-MNIST", "", "`make bench-fashion` writes this page."]
    for table, explained in EXPLAINED.items():
        rows = tables.read(out / TABLES[table])
        if not rows:
            continue
        letters, machines = tables.legend(row["machine"] for row in rows)
        rows = [{**row, "machine": letters[row["machine"]]} for row in rows]
        lines += ["", f"## {table.capitalize()}", "", explained, "", *machines, ""]
        lines += tables.markdown(list(rows[0]), ([*row.values()] for row in rows))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
