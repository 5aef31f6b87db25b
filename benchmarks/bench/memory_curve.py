"""Measures memory of the input pipeline over steps: `python -m benchmarks.bench.memory_curve`."""

import itertools
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bench import photos, report

PICTURE = report.FOLDER / "input_memory.png"
WARM_UP = 0.1
"""Share of steps at the start in which caches and buffers fill."""


def main(
    steps: Annotated[int, typer.Option(min=10, help="Batches to read.")] = 20_000,
    images: Annotated[int, typer.Option(min=32, help="Images in the folder.")] = 2048,
    out: Annotated[Path, typer.Option(help="File of the plot.")] = PICTURE,
) -> None:
    """Reads batches of random resized crops with all augmentations and plots the memory."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        photos.write(Path(folder), images, (64, 48))
        curve = measure(Path(folder), steps)
    settled = [megabytes for step, megabytes in curve if step >= WARM_UP * steps]
    growth = settled[-1] / settled[0] - 1
    print(
        f"{steps} steps: {settled[0]:.0f} MB after {WARM_UP:.0%} of them, {settled[-1]:.0f} MB at"
        f" the end ({growth:+.1%}); highest {max(settled) / min(settled) - 1:.1%} above lowest"
    )
    _draw(curve, out)
    print(f"{out}: {report.machine()}")


def measure(folder: Path, steps: int) -> list[tuple[int, float]]:
    """Returns at most 200 points: step and resident memory of the process in megabytes."""
    from training.data import Augmentation  # noqa: PLC0415  # TensorFlow

    augmentation = Augmentation(
        flip=True, crop="resized", augment="randaugment", random_erasing=0.25, mixup=0.2, cutmix=1.0
    )
    batches = photos.ours(folder, 32, augmentation=augmentation, epochs=steps)
    every = max(1, steps // 200)
    return [
        (step, _resident())
        for step, _ in enumerate(itertools.islice(batches, steps + 1))
        if step % every == 0
    ]


def _resident() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def _draw(curve: list[tuple[int, float]], out: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*curve, strict=True))
    top = 1.2 * max(megabytes for _, megabytes in curve)
    axes.set(xlabel="step", ylabel="resident memory in MB", ylim=(0, top))
    axes.set_title("Input pipeline: resized crops, RandAugment, erasing, MixUp or CutMix")
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    typer.run(main)
