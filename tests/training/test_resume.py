"""Runs that are killed, at any moment, and go on as if nothing had happened."""

import os
import random
import signal
import time

import pytest

import training
from tests.training.runs import (
    TINY,
    assert_equal_runs,
    checkpoints,
    finish,
    start,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("tiny")

KILLS = 10


@pytest.mark.parametrize(
    ("precision", "epochs", "kills"),
    [("float32", 5, KILLS), ("mixed_bfloat16", 2, 1), ("mixed_float16", 2, 1)],
)
def test_a_killed_run_is_the_run_that_was_not(images, tmp_path, precision, epochs, kills):
    arguments = [*TINY, "--dataset", f"image_folder:{images}", "--epochs", epochs]
    arguments += ["--deterministic", "--precision", precision, "--checkpoint-steps", 1]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    undisturbed, process = start(whole, *arguments), start(out, *arguments)
    moments = random.Random(0)
    halves = 0
    for kill in range(kills):
        before = checkpoints(out)[-1:]
        wait_for(lambda: checkpoints(out)[-1:] != before, process)  # noqa: B023
        if kill % 2:
            wait_for(lambda: parts(out), process)
        else:
            time.sleep(moments.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        assert finish(process) == -signal.SIGKILL
        halves += bool(parts(out))
        process = start(out, "--resume")
    assert finish(process) == finish(undisturbed) == 0
    assert halves or kills == 1, "no kill has come while a checkpoint was being written"
    assert_equal_runs(out, whole)
    metrics = [training.load_run(run).folder.metrics.read_text() for run in (whole, out)]
    assert len({text.split('"training_seconds"')[0] for text in metrics}) == 1
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def parts(out):
    """Checkpoints that are being written, or were when their process was killed."""
    return list((out / "checkpoints").glob(".*"))
