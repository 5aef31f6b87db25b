"""Runs that go on from another one, and training for int8: settings, a run that is killed."""

import os
import signal

import pytest

import keras_archs
import tflite_export
import training
from keras_archs.errors import InputError
from keras_archs.transforms.quantization import QuantizationRange
from tests.training.runs import (
    TINY,
    assert_equal_runs,
    checkpoints,
    finish,
    start,
    wait_for,
)
from tflite_export import Classifier, is_quantize_aware

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def first(tmp_path_factory, tiny):
    """A run on Fashion-MNIST."""
    out = tmp_path_factory.mktemp("runs") / "first"
    config = training.TrainConfig(
        model=tiny,
        dataset="fashion_mnist_small",
        image_size=32,
        epochs=3,
        learning_rate=0.02,
        warmup_epochs=1,
        precision="mixed_bfloat16",
    )
    training.train(config, out)
    return out


@pytest.mark.full
def test_a_run_gives_its_settings_and_weights(first):
    given = training.load_run(first).settings.config
    config = training.continue_from(first, epochs=3, batch_size=32)
    assert config == given.model_copy(update={"init": str(first), "epochs": 3, "batch_size": 32})
    assert training.continue_from(first, optimizer="sgd").learning_rate == 0.1 * 64 / 256
    wider = training.continue_from(first, model_args={"alpha": 2.0})
    assert wider.model_args == {"alpha": 2.0}


def test_a_warm_up_too_long_to_go_on_with_is_shortened(first):
    with pytest.warns(UserWarning, match="the run in .*first' has warmup_epochs=1 for 3 epochs"):
        config = training.continue_from(first, epochs=1)
    assert config.warmup_epochs == pytest.approx(1 / 3)


def test_training_for_int8_is_short_slow_and_in_float32(first):
    config = training.continue_from(first, qat=True)
    assert (config.epochs, config.warmup_epochs, config.precision) == (1, 0, "float32")
    assert 0 < config.learning_rate < 0.1 * 0.02
    given = training.continue_from(first, qat=True, epochs=7, learning_rate=0.5)
    assert (given.epochs, given.learning_rate) == (7, 0.5)


@pytest.mark.full
def test_a_run_for_int8_is_a_run_and_its_file_is_exported(first, tmp_path):
    out, before = tmp_path / "int8", training.load_run(first)
    assert finish(start(out, "--resume-from", first, "--qat")) == 0
    run = training.load_run(out)
    accuracy = run.folder.read_metrics()["test_top1"]
    assert accuracy > before.folder.read_metrics()["test_top1"] - 0.02
    assert is_quantize_aware(run.model())
    made = tflite_export.export(out, "int8", io="float32", batch=None)
    path, report = made.path, made.conversion.report
    assert report.agreement > 0.98
    assert report.tflite_top1 > report.keras_top1 - 0.02
    assert Classifier(path).metadata.class_names == run.settings.class_names
    changes = {"pixels": True, "scores": "logits", "keep_float": ["no layer"], "auto": True}
    for name, value in changes.items():
        with pytest.raises(InputError, match=f"^{name} does not go with a model .* for int8"):
            tflite_export.export(out, "int8", overwrite=True, **{name: value})
    with pytest.raises(InputError, match=r"quantize must be 'int8' .*got 'float16'"):
        tflite_export.export(out, "float16")
    with pytest.raises(
        InputError,
        match=r"already trained with qat=True; continue from the run before it, '.*first'",
    ):
        training.continue_from(out)


@pytest.mark.slow
def test_a_killed_run_for_int8_is_the_run_that_was_not(images, tiny, tmp_path):
    """The ranges go on as the weights do."""
    network = keras_archs.create_model(tiny, input_shape=(32, 32, 3), classes=3)
    network.save(tmp_path / "trained.keras")
    arguments = [*TINY, "--dataset", f"image_folder:{images}", "--epochs", 3, "--deterministic"]
    arguments += ["--init", tmp_path / "trained.keras", "--qat", "--checkpoint-steps", 1]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    undisturbed, process = start(whole, *arguments), start(out, *arguments)
    wait_for(lambda: any(int(c.stem) >= 5 for c in checkpoints(out)), process)
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process) == -signal.SIGKILL
    process = start(out, "--resume")
    assert finish(process) == finish(undisturbed) == 0
    assert_equal_runs(out, whole)
    layers = training.load_run(out).model().layers
    assert all(layer.high > 0.01 for layer in layers if isinstance(layer, QuantizationRange))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": None}, "qat=True needs a trained network: give init, or --resume-from"),
        ({"precision": "mixed_float16"}, "qat=True needs precision='float32', got 'mixed_float16'"),
        ({"progressive_from": 32}, "qat=True needs progressive_from=None, got 32"),
        ({"layer_decay": 0.5}, "qat=True needs layer_decay=None, got 0.5"),
    ],
)
def test_settings_that_do_not_go_with_int8(settings, message):
    given = {"model": "mobilenet", "dataset": "fashion_mnist_small", "init": "run", "qat": True}
    with pytest.raises(InputError, match=message):
        training.TrainConfig(**given | settings)


def test_a_run_to_go_on_from_must_be_there(tmp_path):
    with pytest.raises(InputError, match="is not a run folder"):
        training.continue_from(tmp_path)
    with pytest.raises(InputError, match="is not a run folder"):
        training.continue_from("nowhere", qat=True)
