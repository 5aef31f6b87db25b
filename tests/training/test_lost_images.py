"""Runs whose images go or are damaged while they train, and that go on when these are back."""

import re
import shutil
from functools import partial

import pytest
import tensorflow as tf

import keras_archs
import training
from tests.training.runs import TINY, checkpoints, finish, output, start, tiny_config
from tflite_export.exporter import export
from training import monitoring
from training.data.decode.decode import reason
from training.runs import run as runs
from training.runs.run import Run


def remove(images):
    shutil.rmtree(images / "green")


def damage(images):
    for path in (images / "green").iterdir():
        part = path.with_suffix(".part")  # a file in place would be read empty for a moment
        part.write_bytes(path.read_bytes()[:100])
        part.replace(path)


class Losing(monitoring.TensorBoard):
    """Loses images when Keras calls one of the methods, in the run's process."""

    @classmethod
    def happen(cls, method, act, images):
        real = getattr(cls, method)

        def happening(self, *given, **options):
            setattr(cls, method, real)
            act(images)
            return real(self, *given, **options)

        setattr(cls, method, happening)
        monitoring.TensorBoard = cls


@pytest.mark.full
def test_a_run_stops_and_goes_on_when_its_images_are_back(images, tmp_path):
    lost, out, kept = (tmp_path / name for name in ("lost", "run", "kept"))
    for folder in (lost, kept):
        shutil.copytree(images, folder)

    def stops(reason, *words, when, act):
        process = start(out, *words, before=partial(Losing.happen, when, act, lost))
        assert finish(process) == 1
        printed = output(out).read_text()
        assert "Traceback (most recent call last)" not in printed
        assert re.fullmatch(
            f"Stopped: dataset 'image_folder:{lost}' can no longer be read: {reason}."
            f" When it is readable again, --resume resumes from '{checkpoints(out)[-1]}'.",
            printed.splitlines()[-1],
        )
        shutil.rmtree(lost)
        shutil.copytree(kept, lost)

    # Random crops, so that images are read anew in each epoch.
    words = [*TINY, "--dataset", f"image_folder:{lost}", "--epochs", 2]
    words += ["--crop", "resized", "--checkpoint-steps", 2]
    gone = f"{lost}/green/[0-9]+.png; No such file or directory"
    # TensorBoard's examples come first, and the evaluation last.
    stops(gone, *words, when="on_epoch_begin", act=remove)
    stops("Invalid PNG data, size 100", "--resume", when="on_train_batch_end", act=damage)
    stops(gone, "--resume", when="on_train_end", act=remove)
    assert finish(start(out, "--resume")) == 0


@pytest.mark.full
@pytest.mark.usefixtures("tiny")
def test_what_reads_a_finished_run_again_says_which_image_has_gone(images, tmp_path, monkeypatch):
    lost, out = tmp_path / "lost", tmp_path / "run"
    shutil.copytree(images, lost)
    training.train(tiny_config(lost, epochs=1), out)
    opened = training.open_dataset

    def losing(*given, **options):
        data = opened(*given, **options)
        remove(lost)
        return data

    monkeypatch.setattr(runs, "open_dataset", losing)
    for read in (
        training.report,
        lambda out: training.evaluate(training.load_run(out)),
        lambda out: export(str(out), "int8"),
    ):
        shutil.rmtree(lost)
        shutil.copytree(images, lost)
        with pytest.raises(ValueError, match=r"lost' can no longer be read: .*/green/.*No such"):
            read(out)


@pytest.mark.full
def test_a_run_does_not_offer_what_the_run_before_it_has_left(tiny, images, tmp_path, monkeypatch):
    """The first images are read for `qat`, before the folder is cleared."""

    def lost(_):
        raise tf.errors.NotFoundError(None, None, f"/a.png; No such file{NODE}[IteratorGetNext]]")

    trained, out = tmp_path / "trained.keras", tmp_path / "run"
    keras_archs.create_model(tiny, input_shape=(32, 32, 3), classes=3).save(trained)
    old = out / "checkpoints" / "00000001.checkpoint"
    old.parent.mkdir(parents=True)
    for file in (old, out / "config.json"):
        file.write_text("of the run before")
    monkeypatch.setattr(Run, "representative", lost)
    config = tiny_config(images, qat=True, init=str(trained), epochs=1)
    with pytest.raises(training.TrainingStopped, match=r"No such file\.$"):
        training.train(config, out, overwrite=True)
    assert old.exists()


NODE = "\n\t [[{{node A}}]]"
FUNCTION = (
    "Error in user-defined function passed to ParallelMapDatasetV2:4 transformation with iterator:"
    " Iterator::Root::Prefetch::FiniteTake::Concatenate[0]::ParallelMapV2: "
)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "{{function_node __wrapped__X}} Input is empty. [Op:DecodeImage] name: ",
            "Input is empty.",
        ),
        (
            "Graph execution error:\n\nDetected at node A defined at (most recent call last):\n"
            f"<stack traces unavailable>\n{FUNCTION}/a b/c.png; No such file{NODE}"
            "\n\t [[IteratorGetNext]] [Op:__inference_f_7]",
            "/a b/c.png; No such file",
        ),
        (
            f"2 root error(s) found.\n  (0) NOT_FOUND:  {FUNCTION}/a.png; No such file{NODE}\n"
            f"  (1) NOT_FOUND:  {FUNCTION}/b.png; No such file{NODE}",
            "/a.png; No such file",
        ),
        (
            f"{FUNCTION}{{{{function_node a}}}} {{{{function_node b}}}}  Invalid PNG data{NODE}",
            "Invalid PNG data",
        ),
        (
            "RuntimeError: no magic\nTraceback (most recent call last):\n\n  F",
            "RuntimeError: no magic",
        ),
        ("", "UnknownError"),
    ],
)
def test_the_reason_among_what_tensorflow_says(message, line):
    assert reason(tf.errors.UnknownError(None, None, message)) == line
