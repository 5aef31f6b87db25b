"""What tests of whole runs share: images, settings, and runs in processes of their own."""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

import training
from tests.training.tiny_net import registered
from tflite_export.cli.main import main

COLOURS = {"blue": (40, 40, 220), "green": (40, 220, 40), "red": (220, 40, 40)}
STEPS = 6
"""In an epoch of `ARGUMENTS` on `write_images`: 32 of each class's 40 images, 16 at a time."""
ARGUMENTS = ["--model", "mobilenet", "--alpha", "0.25", "--model-arg", "dropout=0.2"]
ARGUMENTS += ["--image-size", "32", "--batch-size", "16"]
TINY = ["--model", "tinynet", *ARGUMENTS[-4:]]
"""The same for the network that `tests.training.tiny_net` adds to those that there are."""


def tiny_config(folder: Path, **settings: Any) -> training.TrainConfig:
    """The settings of a run of that network on a folder of images."""
    return training.TrainConfig(
        model="tinynet", dataset=f"image_folder:{folder}", image_size=32, **settings
    )


# Importing TensorFlow takes longer than these runs: once is enough.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tflite_export.cli.app", __name__])


def write_images(folder: Path) -> None:
    """Noisy images of three colours, 40 each, in one folder a class."""
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(40):
            pixels = np.clip(colour + generator.normal(0, 20, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{i}.png")


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes, as on a disk that is nearly full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def start(out: Path, *arguments: Any, before: Callable[[], None] | None = None) -> Any:
    """Starts `keras-archs train` in another process; its output comes to a file beside `out`.

    Args:
        before: runs in that process first.
    """
    words = ["train", "--out", str(out), *map(str, arguments)]
    printed = output(out)
    process = _processes.Process(target=_command, args=(words, printed, before), name=str(printed))
    process.start()
    return process


def call(function: Callable[..., Any], *arguments: Any, before: Callable[[], None]) -> Any:
    """What a function returns in another process, in which another one has run first."""
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_send, args=(sender, before, function, arguments))
    process.start()
    sender.close()  # so that the end of the process is seen
    result = receiver.recv()
    process.join()
    return result


def _send(sender: Any, before: Callable[[], None], function: Any, arguments: Any) -> None:
    before()
    sender.send(function(*arguments))


def finish(process: Any) -> int:
    process.join(120)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def output(out: Path) -> Path:
    return out.with_suffix(".txt")


def _command(words: list[str], printed: Path, before: Callable[[], None] | None) -> None:
    with printed.open("a") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["keras-archs", *words]
    if before:
        before()
    with registered():
        main()


def wait_for(condition: Callable[[], Any], process: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        printed = Path(process.name)
        assert process.is_alive(), printed.exists() and printed.read_text()[-2000:]
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(0.001)


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("[0-9]*.checkpoint"))


def state(out: Path) -> list[np.ndarray]:
    """The weights and statistics of the last model."""
    return keras.saving.load_model(out / "last.keras").get_weights()


def assert_equal_runs(one: Path, other: Path) -> None:
    """To the last bit, in the weights and in the log."""
    for a, b in zip(state(one), state(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one / "log.csv").read_text() == (other / "log.csv").read_text()
    history = training.load_run(one).folder.history()
    assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
