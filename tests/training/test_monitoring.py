"""What a run shows: lines and bar, TensorBoard's files, what a tracker of experiments gets."""

import contextlib
import errno
import io
import json
import math
import os
import pty
import re
import shutil
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import training
from keras_archs.errors import InputError
from tests.training.runs import small_files
from training import monitoring
from training.monitoring import bars, console, speedometer
from training.monitoring.examples import augmented_examples
from training.monitoring.tensorboard import drop_events
from training.monitoring.tracking import MLflow
from training.runs.run import Run
from training.runs.run_folder import RunFolder, Settings
from training.settings.config import TrainConfig

EPOCHS = 2


class FakeWandB(types.ModuleType):
    """Keeps what it is sent, as W&B does, on one line of steps that only go up."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.sent, self.saved, self.exits = [], {}, [], []
        self.id, self.summary = "a1b2", {}

    def init(self, **settings):
        self.started.append(settings)
        return self

    def log(self, numbers, step=None):
        if step is None:
            self.saved.append(numbers)
        elif step > max(self.sent, default=-1):
            self.sent[step] = numbers

    def Image(self, path):
        return Path(path).read_bytes()[1:4]

    def Html(self, path):
        return Path(path).read_text()[:15]

    def finish(self, exit_code):
        self.exits.append(exit_code)


class KilledBeforeTheCheckpoint(monitoring.TensorBoard):
    """Its last epoch is in TensorBoard's files, but not in the checkpoint."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch == EPOCHS - 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def resumed(tiny, images, tmp_path_factory):
    """A run that was interrupted and has gone on to its end; its metrics and its tracker."""
    out, wandb = tmp_path_factory.mktemp("runs") / "first", FakeWandB()
    config = TrainConfig(
        model=tiny,
        model_args={"alpha": 0.5},
        dataset=f"image_folder:{images}",
        image_size=32,
        batch_size=32,
        epochs=EPOCHS,
        warmup_epochs=0,
        track="wandb",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", wandb)
        patch.delenv("WANDB_PROJECT", raising=False)
        with patch.context() as kill:
            kill.setattr(monitoring, "TensorBoard", KilledBeforeTheCheckpoint)
            with pytest.raises(KeyboardInterrupt):
                training.train(config, out)
        metrics = training.resume(out)
    return out, metrics, wandb


def events(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    # tf.summary writes scalars and images as tensors.
    return {
        tag: {event.step: tf.make_ndarray(event.tensor_proto) for event in found.Tensors(tag)}
        for tag in found.Tags()["tensors"]
    }


@pytest.mark.full
def test_tensorboard_has_each_epoch_once(resumed):
    out, metrics, _ = resumed
    parts = {
        part: EventAccumulator(str(out / "tensorboard" / part)) for part in ("train", "validation")
    }
    for part in parts.values():
        part.Reload()
        for tag in part.Tags()["tensors"]:
            steps = [event.step for event in part.Tensors(tag)]
            assert steps == sorted(set(steps)), tag
    training_, validation = (events(out / "tensorboard" / part) for part in parts)
    for row in training.load_run(out).folder.history():
        epoch = row["epoch"] - 1  # TensorBoard's steps count from 0, as those of Keras do
        for name in ("loss", "accuracy"):
            assert training_[f"epoch_{name}"][epoch] == pytest.approx(row[name])
            assert validation[f"epoch_{name}"][epoch] == pytest.approx(row[f"val_{name}"])
        # A cosine from 0.005 * sqrt(32 / 256), which ends at zero.
        rate = 0.005 * math.sqrt(32 / 256) * (1 + math.cos(math.pi * (epoch + 1) / EPOCHS)) / 2
        assert training_["epoch_learning_rate"][epoch] == pytest.approx(rate, abs=1e-9)
        assert training_["epoch_images_per_second"][epoch] > 0
    assert validation["test_top1"][EPOCHS] == pytest.approx(metrics["test_top1"])
    written = tf.io.decode_png((out / "confusion_matrix.png").read_bytes())
    shown = tf.io.decode_png(validation["confusion_matrix"][EPOCHS][2])
    np.testing.assert_array_equal(shown, written)
    assert list(training_["examples"]) == [0]
    assert tf.io.decode_png(training_["examples"][0][2]).shape[0] > 300


def test_events_from_a_step_on_are_dropped_and_a_torn_one_with_them(tmp_path):
    folder = tmp_path / "board"
    writer = tf.summary.create_file_writer(str(folder / "train"))
    with writer.as_default():
        for step in range(5):
            tf.summary.scalar("loss", 0.5 * step, step)
    writer.close()
    (file,) = folder.glob("train/*")
    file.write_bytes(file.read_bytes()[:-5])
    drop_events(folder, from_step=3)
    assert events(folder / "train") == {"loss": {0: 0.0, 1: 0.5, 2: 1.0}}
    assert list(folder.glob("train/*")) == [file]


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.full
def test_tensorboard_in_a_full_folder_warns_at_the_end(resumed, tmp_path, monkeypatch):
    """Behind a kill after the last epoch, its files are read and written anew."""
    out, metrics, _ = resumed
    shutil.copytree(out / "tensorboard", tmp_path / "board")
    board = monitoring.TensorBoard(
        tmp_path / "board", monitoring.Speedometer(1), None, out / "confusion_matrix.png"
    )
    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(UserWarning, match=r"TensorBoard.* cannot be written: .*No space left"):
        board.on_run_end(metrics)
    board.close(None)


def test_tensorboard_in_a_full_folder_warns(tmp_path):
    (tmp_path / "board").write_text("no folder")
    board = monitoring.TensorBoard(
        tmp_path / "board", monitoring.Speedometer(1), lambda: np.zeros((1, 1, 3), "uint8"), None
    )
    with pytest.warns(UserWarning, match="cannot be written"):
        board.on_epoch_begin(0)


@pytest.mark.full
def test_wandb_gets_one_run(resumed):
    out, metrics, wandb = resumed
    first, second = wandb.started
    assert (first["id"], second["id"], second["resume"]) == (None, "a1b2", "allow")
    assert (first["name"], first["project"]) == ("first", "keras-archs")
    assert first["config"]["model_args"] == {"alpha": 0.5}
    for row in training.load_run(out).folder.history():
        sent = wandb.sent[row["epoch"] - 1]
        assert sent["val_accuracy"] == pytest.approx(row["val_accuracy"])
        assert "learning_rate" in sent
    assert wandb.summary["test_top1"] == metrics["test_top1"]
    media = {"curves": b"PNG", "confusion_matrix": b"PNG", "report": "<!doctype html>"}
    assert wandb.saved == [media]
    assert wandb.exits == [1, 0], "the first part of the run has failed"


class FakeMLflow(types.ModuleType):
    """One run, whose parameters cannot be given twice."""

    def __init__(self):
        super().__init__("mlflow")
        self.params, self.sent, self.ended, self.files = {}, [], [], []
        self.info = types.SimpleNamespace(run_id="f00d")
        self.active = False

    def start_run(self, run_id, run_name):
        assert run_id in (None, "f00d")
        assert run_name == "name"
        self.active = True
        return self

    def active_run(self):
        return self.active

    def log_params(self, params):
        assert not self.params
        self.params = params

    def log_metrics(self, numbers, step):
        self.sent += [(name, value, step) for name, value in numbers.items()]

    def log_artifact(self, file):
        self.files.append(file)

    def end_run(self, status):
        self.active = False
        self.ended.append(status)

    def MlflowClient(self):
        return self

    def get_metric_history(self, run_id, key):
        assert run_id == "f00d"
        return [types.SimpleNamespace(step=step) for name, _, step in self.sent if name == key]


def test_mlflow_gets_one_run(monkeypatch, tmp_path):
    mlflow, stored = FakeMLflow(), tmp_path / "tracking.json"
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    model = types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.25))

    def part(*epochs):
        tracker = MLflow("name", {"epochs": 3}, stored, [tmp_path / "report.html"])
        tracker.set_model(model)
        tracker.on_train_begin()
        for epoch in epochs:
            tracker.on_epoch_end(epoch, {"loss": 1.0 - epoch / 4})
        return tracker

    part(0, 1).close(KeyboardInterrupt())
    tracker = part(1, 2)  # epoch 1 had no checkpoint
    tracker.on_run_end({"test_top1": 0.5, "model": "mobilenet", "recall": {"cat": 1.0}})
    tracker.close(None)
    losses = [(value, step) for name, value, step in mlflow.sent if name == "loss"]
    assert losses == [(1.0, 0), (0.75, 1), (0.5, 2)]
    assert ("learning_rate", 0.25, 2) in mlflow.sent
    assert mlflow.sent[-1] == ("test_top1", 0.5, 2)
    assert mlflow.params == {"epochs": 3}
    assert mlflow.files == [tmp_path / "report.html"]
    assert mlflow.ended == ["FAILED", "FINISHED"]
    assert json.loads(stored.read_text()) == {"mlflow": "f00d"}


def test_an_outage_of_the_server_warns(monkeypatch, tmp_path):
    class Outage(FakeMLflow):
        def log_metrics(self, numbers, step):
            if step != 1:
                super().log_metrics(numbers, step)
            else:
                raise ConnectionError("no route to host")

        def log_artifact(self, _):
            raise ConnectionError("no route to host")

        def end_run(self, status):
            super().end_run(status)
            raise ConnectionError("no route to host")

    mlflow = Outage()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    tracker = MLflow("name", {}, tmp_path / "tracking.json", [tmp_path / "report.html"])
    tracker.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.25)))
    tracker.on_train_begin()
    tracker.on_epoch_end(0, {"loss": 1.0})
    message = "mlflow cannot be reached: ConnectionError: no route to host"
    with pytest.warns(UserWarning, match=message):
        tracker.on_epoch_end(1, {"loss": 0.75})
    tracker.on_epoch_end(2, {"loss": 0.5})
    with pytest.warns(UserWarning, match=message):
        tracker.on_run_end({"test_top1": 0.5})
    with pytest.warns(UserWarning, match=message):
        tracker.close(None)
    assert [step for name, _, step in mlflow.sent if name == "loss"] == [0, 2]
    assert mlflow.ended == ["FINISHED"]


def test_a_tracker_in_a_full_folder_ends_the_run(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", FakeMLflow())
    tracker = MLflow("name", {}, tmp_path / "tracking.json", [])
    with (
        small_files(5),
        pytest.raises(training.TrainingStopped, match=r"cannot be written to: .*too large"),
    ):
        tracker.on_train_begin()


@pytest.mark.parametrize("found", [None, types.ModuleType("mlflow")], ids=["none", "a folder"])
def test_a_tracker_that_is_not_installed(monkeypatch, tmp_path, found):
    monkeypatch.setitem(sys.modules, "mlflow", found)
    config = TrainConfig(model="mobilenet", dataset="image_folder:/nowhere", track="mlflow")
    with pytest.raises(InputError, match=r"track='mlflow'.*pip install 'keras-archs\[mlflow\]'"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["mobilenet", "vgg16", "efficientnetb0"])
def test_examples_are_the_images_of_their_names(images, model):
    """Whatever the network's preprocessing: from 0 to 255, red, green, blue."""
    dataset = f"image_folder:{images}"
    config = TrainConfig(model=model, dataset=dataset, image_size=32, flip=False, crop="none")
    data = training.open_dataset(dataset)
    run = Run(RunFolder(images), Settings(config, (32, 32, 3), data.class_names), data)
    pictures, names = augmented_examples(run)
    assert pictures.shape == (16, 32, 32, 3)
    assert pictures.dtype == np.uint8
    brightest = pictures.mean(axis=(1, 2)).argmax(axis=1)
    assert names == [("red", "green", "blue")[channel] for channel in brightest]
    assert len(set(names)) == 3
    np.testing.assert_allclose(np.sort(pictures.mean(axis=(1, 2)), axis=1)[:, 1], 40, atol=5)


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        clocks = dict.fromkeys(("perf_counter", "monotonic"), lambda: self.now)
        for module in (speedometer, console, bars):
            monkeypatch.setattr(module, "time", types.SimpleNamespace(**clocks))


@pytest.fixture
def show(monkeypatch):
    """Plays 2 epochs of 3 steps, 20 images in a step, to the monitors of the console.

    The first step takes 10 seconds, others 2, each validation 4. Each step warns.
    """
    clock = Clock(monkeypatch)

    def play(stop_behind=6):
        speed = monitoring.Speedometer(20)
        monitors = [speed, console.Console(speed)]
        for monitor in monitors:
            monitor.set_params({"epochs": 2, "steps": 3})
        lefts = []

        def call(hook, *arguments):
            for monitor in monitors:
                getattr(monitor, hook)(*arguments)

        call("on_train_begin")
        for epoch in range(2):
            call("on_epoch_begin", epoch)
            for step in range(3):
                call("on_train_batch_begin", step)
                clock.now += 2 if epoch or step else 10
                call("on_train_batch_end", step, {"accuracy": 0.5, "loss": 1 / (step + 1)})
                lefts.append(speed.seconds_left)
                print("careful", file=sys.stderr)
                if 3 * epoch + step + 1 == stop_behind:
                    call("close", KeyboardInterrupt())
                    return lefts
            call("on_test_begin")
            clock.now += 4
            call("on_epoch_end", epoch, {"accuracy": 0.5, "loss": 0.25, "val_loss": 0.125})
        call("on_train_end")
        call("close", None)
        return lefts

    return play


def test_lines_of_a_log_file(show, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(console, "LINE_SECONDS", 3)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    lefts = show(stop_behind=99)
    assert sys.stdout.getvalue().splitlines() == [
        "Epoch 1/2  step 1/3  loss 1.0000 accuracy 0.5000",
        "Epoch 1/2  step 3/3  loss 0.3333 accuracy 0.5000 10 images/s ETA 0:00:06",
        "Epoch 1/2  loss 0.2500  accuracy 0.5000  val_loss 0.1250  10 images/s  18 s",
        "Epoch 2/2  step 2/3  loss 0.5000 accuracy 0.5000 10 images/s ETA 0:00:03",
        "Epoch 2/2  loss 0.2500  accuracy 0.5000  val_loss 0.1250  10 images/s  10 s",
    ]
    # Behind the first step: 2 s a step, and from the second epoch on with 4 s of validation.
    assert lefts == [None, 8, 6, 2 * 10 / 3, 1 * 12 / 4, 0]


def test_speed_is_that_of_steps_alone(monkeypatch):
    """Steps of 20 images in 2 s; the first of two epochs compile, all are followed by a pause."""
    clock, speeds = Clock(monkeypatch), []
    speed = monitoring.Speedometer(20, restarts=[0, 2])
    speed.set_params({"epochs": 4, "steps": 3})
    for epoch in range(4):
        speed.on_epoch_begin(epoch)
        for step in range(3):
            assert speed.compiles == (step == 0 and epoch in (0, 2))
            speed.on_train_batch_begin(step)
            clock.now += 50 if speed.compiles else 2
            speed.on_train_batch_end(step)
            speeds.append(speed.images_per_second)
            clock.now += 100  # such as a checkpoint
    assert speeds == [None] + 11 * [10]


class FakeOutput:
    """What IPython's `display` gives, and all that it was told to show."""

    def __init__(self, content):
        self.shown = [content]

    def update(self, content, raw):
        assert raw
        self.shown.append(content)


def test_bar_of_a_notebook(show, monkeypatch, capsys):
    """IPython draws it alone; there are no widgets."""
    outputs = []

    def display(content, raw, display_id):
        assert raw
        assert display_id
        outputs.append(FakeOutput(content))
        return outputs[-1]

    for name in ("IPython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    show(stop_behind=99)
    (output,) = outputs
    plain, rich = ([each[f"text/{kind}"] for each in output.shown] for kind in ("plain", "html"))
    assert plain == [
        "Epoch 1/2  0/3  compiling",
        "Epoch 1/2  1/3  loss 1.000 accuracy 0.500",
        "Epoch 1/2  2/3  loss 0.500 accuracy 0.500 10 images/s ETA 0:00:08",
        "Epoch 1/2  3/3  loss 0.333 accuracy 0.500 10 images/s ETA 0:00:06",
        "Epoch 1/2  3/3  validation",
        "Epoch 2/2  0/3  ",
        "Epoch 2/2  1/3  loss 1.000 accuracy 0.500 10 images/s ETA 0:00:07",
        "Epoch 2/2  2/3  loss 0.500 accuracy 0.500 10 images/s ETA 0:00:03",
        "Epoch 2/2  3/3  loss 0.333 accuracy 0.500 10 images/s ETA 0:00:00",
        "Epoch 2/2  3/3  validation",
        "",
    ]
    assert '<progress value="2" max="3">' in rich[2]
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1/2  loss 0.2500  accuracy 0.5000  val_loss 0.1250  10 images/s  18 s",
        "Epoch 2/2  loss 0.2500  accuracy 0.5000  val_loss 0.1250  10 images/s  10 s",
    ]


def test_bar_of_a_notebook_is_not_drawn_for_each_of_many_steps(monkeypatch):
    clock, outputs = Clock(monkeypatch), []
    display = lambda content, **_: outputs.append(FakeOutput(content)) or outputs[-1]  # noqa: E731
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    bar = bars.NotebookBar(1000)
    for step in range(1001):
        bar.show("Epoch 1/1", step, "")
        clock.now += 0.01
    assert 40 < len(outputs[0].shown) < 60
    assert "1000/1000" in outputs[0].shown[-1]["text/plain"]


def read_all(terminal, into):
    """Until its other end is closed, which Linux reports as an error."""
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as file:
        while part := file.read(4096):
            into.append(part)


@pytest.mark.parametrize(
    ("stop_behind", "frame"),
    [(4, "1/3.* loss 1.000 accuracy 0.500 10 images/s ETA 0:00:07"), (99, "3/3.* validation")],
)
def test_bar_of_a_terminal(show, monkeypatch, stop_behind, frame):
    reader, writer = pty.openpty()
    shown: list[bytes] = []
    thread = threading.Thread(target=read_all, args=(reader, shown))
    thread.start()
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        show(stop_behind)
    thread.join()
    text = b"".join(shown).decode()
    if stop_behind > 6:
        assert "Epoch 2/2  loss 0.2500  accuracy 0.5000  val_loss 0.1250  10 images/s" in text
    assert "Epoch 1/2  loss 0.2500" in text
    assert re.search(r"0/3\S* compiling", text)
    # Warnings have lines of their own above the bar, which goes in the end, the cursor there again.
    assert len(re.findall(r"(?:\n|\x1b\[2K)careful\r\n", text)) == min(stop_behind, 6)
    assert re.search(f"{frame}\r\n\x1b\\[\\?25h\r\x1b\\[1A\x1b\\[2K$", text)
