"""Training in two processes on JAX, for export under TensorFlow."""

import json
import os
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import typer
from ai_edge_litert.interpreter import Interpreter

import tflite_export
import training
from tests.training.runs import assert_equal_runs, tiny_config
from training import jax_workers
from training.runs.run import new_run
from training.runs.run_folder import RunFolder

CONFIG = {
    "model": "mobilenet",
    "image_size": 32,
    "batch_size": 16,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "warmup_epochs": 0,
}


SMALL = """
from tests.training.workers import with_dropout
with_dropout()
import runpy
runpy.run_module("training.jax_workers", run_name="__main__")
"""
KILLED = """
import os, signal
import keras
real = keras.callbacks.CallbackList.on_epoch_end
def killing(*given, **named):
    real(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)
keras.callbacks.CallbackList.on_epoch_end = killing
"""


def start(out, *arguments, tf_config=None, code=SMALL):
    words = [sys.executable, "-c", code, out, *arguments]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(list(map(str, words)), env=environment)


def start_two(out, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    workers = {"worker": [address, "127.0.0.1:1"]}  # JAX needs the first one's alone
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    return [start(out, *arguments, tf_config={"cluster": workers, "task": task}) for task in tasks]


@pytest.fixture(scope="module")
def config(images, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "config.json"
    file.write_text(json.dumps(CONFIG | {"dataset": f"image_folder:{images}", "epochs": 2}))
    return file


@pytest.fixture(scope="module")
def one(config):
    """The run of one process."""
    out = config.with_name("one")
    assert start(out, "--config", config).wait(200) == 0
    return out


@pytest.mark.full
def test_two_processes_learn_what_one_does_and_tensorflow_reads_it(one, config, tmp_path):
    two = tmp_path / "two"
    assert [process.wait(200) for process in start_two(two, "--config", config)] == [0, 0]
    histories = [training.load_run(out).folder.history() for out in (one, two)]
    for expected, found in zip(*histories, strict=True):
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-4), name

    run = training.load_run(two)
    model = run.model()  # under TensorFlow
    best = max(histories[1], key=lambda row: row["val_accuracy"])
    images, labels = run.arrays("validation", 1000)
    scores = model.predict(images, verbose=0)
    assert np.mean(scores.argmax(axis=1) == labels) == pytest.approx(best["val_accuracy"])
    # Keras clips at its epsilon.
    smooth = np.eye(3)[labels] * 0.9 + 0.1 / 3
    loss = -np.mean(np.sum(smooth * np.log(np.clip(scores, 1e-7, 1)), axis=1))
    assert loss == pytest.approx(best["val_loss"], abs=1e-5), "outputs differ from those on JAX"

    file = Interpreter(model_content=tflite_export.convert(model).content)
    file.allocate_tensors()
    (given,), (taken,) = file.get_input_details(), file.get_output_details()
    for image, expected in zip(images[:8], scores, strict=False):
        file.set_tensor(given["index"], image[None])
        file.invoke()
        np.testing.assert_allclose(file.get_tensor(taken["index"])[0], expected, atol=1e-5)


@pytest.mark.full
@pytest.mark.slow
def test_a_killed_run_is_the_run_that_was_not(one, config, tmp_path):
    """A process that is killed behind its first epoch; dropout and momentum go on as well."""
    out = tmp_path / "killed"
    assert start(out, "--config", config, code=KILLED + SMALL).wait(200) == -signal.SIGKILL
    assert len((out / "log.csv").read_text().splitlines()) == 2
    assert start(out).wait(200) == 0
    assert_equal_runs(out, one)


@pytest.mark.parametrize("changes", [{"ema": 0.9}, {"qat": True}, {"track": "mlflow"}])
def test_what_belongs_to_the_other_way_is_refused(images, tmp_path, monkeypatch, changes):
    changes = {"dataset": f"image_folder:{images}", "epochs": 1, "init": "imagenet", **changes}
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    (name,) = changes.keys() - {"dataset", "epochs", "init"}
    with pytest.raises(ValueError, match=f"training.jax_workers needs {name}=.*, got "):
        jax_workers.train(training.TrainConfig(**CONFIG | changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_backend_is_refused(images, tmp_path):
    config = training.TrainConfig(**CONFIG | {"dataset": f"image_folder:{images}", "epochs": 1})
    with pytest.raises(ValueError, match="set KERAS_BACKEND=jax"):
        jax_workers.train(config, tmp_path / "run")


@pytest.mark.full
@pytest.mark.usefixtures("tiny")
def test_a_run_killed_behind_its_last_checkpoint_gets_its_best_model(images, tmp_path, monkeypatch):
    """What does not depend on the backend, under TensorFlow."""

    def killed(*_):
        raise KeyboardInterrupt

    run = new_run(tiny_config(images, batch_size=32, epochs=1), RunFolder(tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "keep_if_best", killed)
        with pytest.raises(KeyboardInterrupt):
            jax_workers._fit(run, run.folder, (0, 1))
    assert not run.folder.best.exists()
    jax_workers._fit(run, run.folder, (0, 1))
    assert run.folder.best.read_bytes() == run.folder.last.read_bytes()


@pytest.mark.full
@pytest.mark.usefixtures("tiny")
def test_a_loss_that_is_not_finite_ends_the_run(images, tmp_path):
    """What does not depend on the backend, under TensorFlow."""
    config = tiny_config(images, epochs=2, optimizer="sgd", learning_rate=1e30, batch_size=32)
    run = new_run(config, RunFolder(tmp_path / "run"))
    with pytest.raises(training.TrainingStopped, match=r"not finite in epoch 1; to lower learning"):
        jax_workers._fit(run, run.folder, (0, 1))


@pytest.mark.full
def test_the_command_ends_in_one_line(images, tmp_path, monkeypatch, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG | {"dataset": f"image_folder:{images}", "epochs": 1}))
    with pytest.raises(typer.Exit) as ended:
        jax_workers.main(tmp_path / "run", config)
    printed = capsys.readouterr().err
    assert (ended.value.exit_code, printed.count("\n")) == (2, 1)
    assert printed.startswith("Error: training.jax_workers needs the JAX backend")

    def stopped(*_):
        raise training.TrainingStopped("It is so.", 143)

    monkeypatch.setattr(jax_workers, "train", stopped)
    with pytest.raises(typer.Exit) as ended:
        jax_workers.main(tmp_path / "run", config)
    assert (ended.value.exit_code, capsys.readouterr().err) == (143, "Stopped: It is so.\n")
