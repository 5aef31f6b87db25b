"""Speeds as ratios to keras.applications, measured side by side: `make bench`.

Prints a table and writes it to `benchmarks.md` beside this file. One round measures every
candidate once, in turns, so that a busy machine slows all of them; the figures are medians of the
rounds' ratios.
"""

import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

# Builder of both packages: one of each family that keras.applications has.
BUILDS = (
    "VGG16",
    "InceptionV3",
    "Xception",
    "ResNet50",
    "ResNet50V2",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
)


def seconds(function: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> float:
    """Median over the rounds of our time divided by theirs, after one round that is not counted."""
    measured = [seconds(ours) / seconds(theirs) for _ in range(rounds + 1)]
    return statistics.median(measured[1:])


def import_ratio(rounds: int) -> float:
    """`import keras_archs` against `import keras`, each in a new process."""

    def run(module: str) -> Callable[[], object]:
        command = [sys.executable, "-c", f"import {module}"]
        return lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    return ratio(run("keras_archs"), run("keras"), rounds)


def build_ratio(name: str, rounds: int) -> float:
    """Building a network against the same in keras.applications, both without weights."""
    import keras  # noqa: PLC0415  # after the imports have been timed

    import keras_archs  # noqa: PLC0415

    def build(package: object) -> Callable[[], object]:
        def run() -> object:
            keras.utils.clear_session()
            return getattr(package, name)(weights=None)

        return run

    return ratio(build(keras_archs), build(keras.applications), rounds)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else ():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of measurement.")] = 7,
    quick: Annotated[bool, typer.Option(help="One network, nothing written.")] = False,
) -> None:
    """Measures and prints our time divided by that of keras.applications."""
    rows = [("import keras_archs / import keras", import_ratio(rounds))]
    for name in BUILDS[-1:] if quick else BUILDS:
        rows.append((f"build {name}", build_ratio(name, rounds)))
        print(*rows[-1], flush=True)
    import keras  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    lines = [
        "# Benchmarks",
        "",
        f"Our time divided by keras.applications'; medians of {rounds} interleaved rounds. Written"
        " by `make bench`.",
        "",
        f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, keras"
        f" {keras.__version__}, tensorflow {tf.__version__}.",
        "",
        "| measured | ratio |",
        "|---|---|",
        *(f"| {name} | {value:.2f} |" for name, value in rows),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if not quick:
        Path(__file__).with_name("benchmarks.md").write_text(text)


if __name__ == "__main__":
    typer.run(main)
