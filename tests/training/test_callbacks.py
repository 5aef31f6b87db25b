"""Callbacks that users give to a run, in one piece and in several."""

# ruff: noqa: ARG002
import os
import signal

import keras
import numpy as np
import pytest

import training
from keras_archs.errors import InputError
from tests.training.runs import tiny_config
from training import trainer as fitting
from training.runs.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("tiny")

EPOCHS, PATIENCE = 9, 3


@pytest.fixture
def config(images):
    return tiny_config(images, batch_size=32, epochs=EPOCHS)


class Interrupt(keras.callbacks.Callback):
    """SIGTERM in the middle of the third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 1):
            os.kill(os.getpid(), signal.SIGTERM)


class Counter(keras.callbacks.Callback):
    """Steps of the whole run, and the hooks of its last epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.hooks = 0, []

    def get_state(self):
        return {"steps": self.steps}

    def set_state(self, state):
        self.steps = state["steps"]

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_begin(self, epoch, logs=None):
        self.hooks = ["epoch begin"]

    def on_test_begin(self, logs=None):
        self.hooks.append("test begin")

    def on_epoch_end(self, epoch, logs=None):
        assert {"loss", "val_loss"} <= logs.keys()
        self.hooks.append("epoch end")

    def on_train_end(self, logs=None):
        self.hooks.append("train end")


def early():
    """No epoch is better than the first by 1000."""
    return keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, min_delta=1000)


def epochs_of(out):
    return [row["epoch"] for row in training.load_run(out).folder.history()]


@pytest.mark.full
def test_early_stopping_ends_a_resumed_run_where_it_ends_others(config, tmp_path):
    whole, out, counter = tmp_path / "whole", tmp_path / "run", Counter()
    metrics = training.train(config, whole, callbacks=[early(), counter])
    assert metrics["epochs"] == PATIENCE + 1
    assert epochs_of(whole) == list(range(1, PATIENCE + 2))
    assert counter.steps == 3 * (PATIENCE + 1)
    assert counter.hooks == ["epoch begin", "test begin", "epoch end", "train end"]
    assert (whole / "report.html").is_file()

    with pytest.raises(training.TrainingStopped, match=r"SIGTERM .* epoch 3, step 2"):
        training.train(config, out, callbacks=[early(), Counter(), Interrupt()])
    with pytest.raises(InputError, match=r"callbacks .*\['EarlyStopping', 'Counter'\], got \[\]"):
        training.resume(out)
    counter = Counter()
    training.resume(out, callbacks=[early(), counter])
    assert epochs_of(out) == epochs_of(whole)
    assert counter.steps == 3 * (PATIENCE + 1)


@pytest.mark.full
def test_a_run_that_a_callback_has_ended_stays_so(config, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(config, out, callbacks=[early()])
    assert training.resume(out, callbacks=[early()])["epochs"] == PATIENCE + 1


@pytest.mark.full
def test_force_leaves_callbacks_out(config, tmp_path):
    out = tmp_path / "run"
    config = training.TrainConfig(**config.model_dump() | {"epochs": 5})
    with pytest.raises(training.TrainingStopped):
        training.train(config, out, callbacks=[early(), Interrupt()])
    assert training.resume(out, force=True)["epochs"] == 5


class Spoil(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        weight = self.model.trainable_variables[0]
        weight.assign(weight * float("nan"))


@pytest.mark.full
def test_a_weight_that_a_callback_spoils_is_in_no_checkpoint(config, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(training.TrainingStopped, match="a weight is not finite at epoch 1"):
        training.train(config, out, callbacks=[Spoil()])
    for array in RunFolder(out).checkpoints.load().arrays:
        assert np.isfinite(array).all()
    assert not (out / "last.keras").exists()


class Odd(keras.callbacks.Callback):
    def get_state(self):
        return {"model": self}


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (keras.callbacks.ReduceLROnPlateau(), "learning rate, as ReduceLROnPlateau does"),
        (keras.callbacks.LearningRateScheduler(lambda _: 0.1), "LearningRateScheduler"),
        (print, "must be of keras.callbacks.Callback, got"),
        (Odd(), "state of Odd must consist of numbers"),
    ],
)
def test_callbacks_that_no_run_can_take(config, tmp_path, callback, message):
    with pytest.raises(InputError, match=message):
        training.train(config, tmp_path / "run", callbacks=[callback])
    assert not (tmp_path / "run").exists()
