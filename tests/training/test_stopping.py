"""Runs that end before their time, by signals, NaN or a full disk, and go on."""

import importlib
import os
import resource
import signal
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

import training
from tests.training.runs import (
    STEPS,
    TINY,
    assert_equal_runs,
    checkpoints,
    finish,
    output,
    start,
    tiny_config,
    wait_for,
)
from training import monitoring

pytestmark = pytest.mark.usefixtures("tiny")

EPOCHS = 3


@pytest.fixture(scope="module")
def arguments(images):
    run = ["--epochs", EPOCHS, "--dataset", f"image_folder:{images}", "--deterministic"]
    return [*TINY, *run, "--checkpoint-steps", 4]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """A run that nothing happens to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(out, *arguments)) == 0
    return out


def last_line(out: Path) -> str:
    return output(out).read_text().splitlines()[-1]


class Happening(monitoring.TensorBoard):
    """Stands in for the callback that a run has, in the process of that run."""

    model: keras.Model

    @classmethod
    def happen(cls) -> None:
        monitoring.TensorBoard = cls  # type: ignore[misc]


class SignalInValidation(Happening):
    def on_test_batch_begin(self, batch, logs=None):
        del batch, logs
        os.kill(os.getpid(), signal.SIGINT)


def turn_nan(model: keras.Model) -> None:
    kernel = model.get_layer("depthwise").kernel
    kernel.assign(kernel * np.nan)


def fill_disk() -> None:
    """No file of this process can grow beyond 10 kB any more."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, most))


class WeightTurnsNan(Happening):
    """Once, in the middle of the second epoch."""

    epoch = 0
    done = False

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if (self.epoch, batch) == (1, 2) and not self.done:
            self.done = True
            turn_nan(self.model)


class LastWeightTurnsNan(Happening):
    """Behind the last step, so that no loss of training meets it."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if batch == STEPS - 1:
            turn_nan(self.model)


class DiskFull(Happening):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        fill_disk()


class DiskFullInAnEpoch(Happening):
    """In the middle of the second one, behind its first checkpoint."""

    epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if (self.epoch, batch) == (1, 3):
            fill_disk()


@pytest.mark.full
def test_sigterm_then_a_truncated_checkpoint_then_ctrl_c(arguments, whole, tmp_path):
    out = tmp_path / "run"
    process = start(out, *arguments)
    wait_for(lambda: len(checkpoints(out)) > 1, process)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process) == 143
    assert last_line(out).startswith(f"Stopped: SIGTERM has stopped the run in {str(out)!r} at ")
    assert last_line(out).endswith(f" of {STEPS}; --resume resumes it from there.")
    assert len(checkpoints(out)) == 2

    newest = checkpoints(out)[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    # The same command again will do as well.
    process = start(out, *arguments, "--resume", before=SignalInValidation.happen)
    assert finish(process) == 130
    assert f"Warning: The checkpoint {str(newest)!r} is damaged (" in output(out).read_text()
    assert f"SIGINT has stopped the run in {str(out)!r} at epoch" in last_line(out)
    assert f"step {STEPS} of {STEPS}" in last_line(out)

    assert finish(start(out, "--resume")) == 0
    assert_equal_runs(out, whole)


def sigterm_in(module: str, step: str) -> None:
    """Stands in for one of the steps of a run, in its process; SIGTERM comes before its end."""
    target = importlib.import_module(f"training.{module}")
    function = getattr(target, step)

    def interrupted(*arguments, **options):
        result = function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return result

    setattr(target, step, interrupted)


@pytest.mark.full
def test_sigterm_outside_of_the_loop(arguments, whole, tmp_path):
    out = tmp_path / "run"

    def ends_with(line, *words, step, module="trainer"):
        process = start(out, *words, before=partial(sigterm_in, module, step))
        assert finish(process) == 143
        assert last_line(out) == f"Stopped: SIGTERM has stopped the run in {str(out)!r} {line}"

    next_step = "before its next step; --resume resumes it."
    behind = f"at epoch {EPOCHS + 1}, step 0 of {STEPS}; --resume resumes it from there."
    ends_with(
        "before its first step; nothing was saved.",
        *arguments,
        step="open_dataset",
        module="runs.run",
    )
    assert not out.exists()
    ends_with(next_step, *arguments, step="make_monitors")
    ends_with(behind, "--resume", step="write_report")
    ends_with(next_step, "--resume", step="open_dataset", module="runs.run")
    assert finish(start(out, "--resume")) == 0
    assert_equal_runs(out, whole)
    metrics = training.load_run(out).folder.read_metrics()
    images, seconds = EPOCHS * STEPS * 16, metrics["training_seconds"]  # of both processes
    assert seconds > 0
    # Compilation, which takes most of these seconds, and validation do not count.
    assert metrics["training_images_per_second"] > 2 * images / seconds


@pytest.mark.full
def test_nan_stops_the_run_or_takes_it_back(arguments, whole, tmp_path):
    out = tmp_path / "run"
    assert finish(start(out, *arguments, before=WeightTurnsNan.happen)) == 1
    # The loss of step 4 is the first to meet the weight that turned behind step 3.
    assert "not finite at epoch 2, step 4 of 6, with a learning rate of 0.00" in last_line(out)
    (good,) = checkpoints(out)[-1:]
    assert f"from the last good checkpoint, {str(good)!r}, of epoch 2, step 2" in last_line(out)

    rollback = ["--resume", "--on-nan", "rollback"]
    assert finish(start(out, *rollback, before=WeightTurnsNan.happen)) == 0
    assert "rolling back to the last good checkpoint" in output(out).read_text()
    assert_equal_runs(out, whole)


@pytest.mark.full
@pytest.mark.parametrize(
    "happening", [pytest.param(DiskFull, marks=pytest.mark.slow), DiskFullInAnEpoch]
)
def test_a_full_disk_leaves_a_checkpoint(arguments, whole, tmp_path, happening):
    out = tmp_path / "run"
    assert finish(start(out, *arguments, before=happening.happen)) == 1
    assert last_line(out).startswith(f"Stopped: The run's folder {str(out)!r} cannot be written to")
    assert last_line(out).endswith(
        f"--resume resumes from the checkpoint {str(checkpoints(out)[-1])!r}."
    )
    assert not (out / "saving.keras").exists()
    assert not list((out / "checkpoints").glob(".*"))
    assert len(training.load_run(out).folder.history()) == 1
    assert finish(start(out, "--resume")) == 0
    assert_equal_runs(out, whole)


@pytest.fixture
def config(images):
    return tiny_config(images, batch_size=16, epochs=2)


@pytest.fixture
def stop(config, tmp_path, monkeypatch):
    """Stops a run by what happens in it; returns the run's folder."""

    def run(happening, match):
        with monkeypatch.context() as patch:
            patch.setattr(monitoring, "TensorBoard", happening)
            with pytest.raises(training.TrainingStopped, match=match):
                training.train(config, tmp_path / "run")
        return tmp_path / "run"

    return run


@pytest.mark.full
def test_nan_again_at_the_same_step_ends_the_run(config, tmp_path):
    hot = {"learning_rate": 1e30, "warmup_epochs": 0, "on_nan": "rollback"}
    hot = training.TrainConfig(**config.model_dump() | hot)
    with (
        pytest.warns(UserWarning, match="rolling back to the last good checkpoint"),
        pytest.raises(training.TrainingStopped, match="again after a rollback") as stop,
    ):
        training.train(hot, tmp_path / "run")
    assert stop.value.exit_code == 1


@pytest.mark.full
def test_nothing_is_written_of_an_epoch_that_ends_with_nan(stop):
    out = stop(LastWeightTurnsNan, "not finite at epoch 1, step 6 of 6")
    assert {path.name for path in out.iterdir()} == {"config.json", "checkpoints", "tensorboard"}
    assert training.resume(out)["epochs"] == 2


@pytest.mark.full
def test_other_settings_are_named_and_refused_unless_forced(stop):
    out = stop(SignalInValidation, "epoch 1, step 6 of 6")
    changes = {"epochs": 3, "batch_size": 32, "on_nan": "rollback"}
    with pytest.raises(ValueError, match="has other settings") as error:
        training.resume(out, changes=changes)
    assert "epochs: 3 given, 2 in the run; batch_size: 32 given, 16 in the run" in str(error.value)
    assert "on_nan" not in str(error.value), "it changes nothing of what is computed"
    assert "--force" in str(error.value)

    # A file that was edited by hand is no different.
    stored = out / "config.json"
    text = stored.read_text()
    stored.write_text(text.replace('"seed": 0', '"seed": 7'))
    with pytest.raises(ValueError, match="seed: 7 given, 0 in the run"):
        training.resume(out)
    stored.write_text(text)

    with pytest.raises(ValueError, match="variables differ in number or shape"):
        training.resume(out, changes={"model_args": {"alpha": 0.5}}, force=True)
    assert stored.read_text() == text

    metrics = training.resume(out, changes=changes, force=True)
    assert metrics["epochs"] == 3
    assert [row["epoch"] for row in training.load_run(out).folder.history()] == [1, 2, 3]
    with pytest.raises(ValueError, match="is finished"):
        training.resume(out)
