"""Runs that are killed, at any moment, and go on as if nothing had happened."""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import keras
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
from training import monitoring

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize(
    ("precision", "epochs", "kills"),
    [
        ("mixed_bfloat16", 2, 1),
        ("float32", 3, 4),
        pytest.param("float32", 5, 10, marks=pytest.mark.slow),
        pytest.param("mixed_float16", 2, 1, marks=pytest.mark.slow),
    ],
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


class LossScale(monitoring.TensorBoard):
    """Lets the scale grow behind each four good steps, and notes it and the counters at the end."""

    model: keras.Model
    at_step: int | None = None
    noted: Path

    @classmethod
    def happen(cls, noted, at_step=None):
        cls.noted, cls.at_step = noted, at_step
        monitoring.TensorBoard = cls

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.model.optimizer.dynamic_growth_steps = 4

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if batch == self.at_step:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        scaling = self.model.optimizer
        found = scaling.dynamic_scale, scaling.step_counter, scaling.inner_optimizer.iterations
        self.noted.write_text(" ".join(str(int(variable)) for variable in found))


@pytest.mark.full
def test_the_loss_scale_of_mixed_float16_goes_on(images, tmp_path):
    arguments = [*TINY, "--dataset", f"image_folder:{images}", "--epochs", 1]
    arguments += ["--deterministic", "--precision", "mixed_float16"]
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    notes = tmp_path / "whole.note", tmp_path / "stopped.note"
    processes = [
        start(whole, *arguments, before=partial(LossScale.happen, notes[0])),
        start(out, *arguments, before=partial(LossScale.happen, notes[1], at_step=2)),
    ]
    assert [finish(process) for process in processes] == [0, 143]
    assert finish(start(out, "--resume", before=partial(LossScale.happen, notes[1]))) == 0
    # 2^15 is Keras' first. Of 6 steps, 4 have made it grow, and 2 have been counted since.
    assert [note.read_text() for note in notes] == ["65536 2 6"] * 2
    assert_equal_runs(out, whole)


def parts(out):
    """Checkpoints that are being written, or were when their process was killed."""
    return list((out / "checkpoints").glob(".*"))
