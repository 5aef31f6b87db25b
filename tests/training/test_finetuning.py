"""Weights to start from, frozen stages, and runs with all of this that are killed."""

import json
import os
import signal
from functools import partial

import keras
import numpy as np
import pytest

import keras_archs
from keras_archs.errors import InputError
from tests.training.runs import (
    ARGUMENTS,
    COLOURS,
    STEPS,
    assert_equal_runs,
    checkpoints,
    finish,
    start,
    wait_for,
)
from training.model.finetuning import initialise

build = partial(keras_archs.create_model, "mobilenet", alpha=0.25, input_shape=(32, 32, 3))
NAMES = ("a", "b", "c")


def different(model):
    """The same model with weights that no initializer gives."""
    generator = np.random.default_rng(0)
    model.set_weights([generator.uniform(0.1, 0.2, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("classes", [3, 7])
@pytest.mark.filterwarnings("ignore:You are saving")
def test_weights_are_taken_over_and_the_classifier_where_it_fits(tmp_path, suffix, classes):
    source, network = different(build(classes=classes)), build(classes=3)
    path = tmp_path / f"source{suffix}"
    (source.save_weights if suffix == ".weights.h5" else source.save)(path)
    fresh = [np.array(weight) for weight in network.layers[-3].weights]
    initialise(network, str(path), build, NAMES)
    for mine, other in zip(network.layers, source.layers, strict=True):
        for one, theirs in zip(mine.weights, other.weights, strict=True):
            if mine.name != "conv_preds" or classes == 3:
                np.testing.assert_array_equal(one, theirs)
    if classes == 7:
        assert network.layers[-3].name == "conv_preds"
        for one, before in zip(network.layers[-3].weights, fresh, strict=True):
            np.testing.assert_array_equal(one, before)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    network = build(classes=3)
    build(classes=3, alpha=0.5).save(tmp_path / "wide.keras")
    message = (
        r"init does not fit mobilenet.*conv1 has \[\(3, 3, 3, 8\)\], but conv1 in init has"
        r" \[\(3, 3, 3, 16.* more"
    )
    with pytest.raises(InputError, match=message):
        initialise(network, str(tmp_path / "wide.keras"), build, NAMES)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(InputError, match=r"layers with weights, 1 in init"):
        initialise(network, str(tmp_path / "other.keras"), build, NAMES)
    build(classes=3, alpha=0.5).save_weights(tmp_path / "wide.weights.h5")
    with pytest.raises(InputError, match=r"no weights of the shapes \(3, 3, 3, 8\)"):
        initialise(network, str(tmp_path / "wide.weights.h5"), build, NAMES)
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(InputError, match="not a weights file"):
        initialise(network, str(tmp_path / "text.h5"), build, NAMES)


def test_imagenets_classifier_is_left_out():
    asked = []

    def published(**arguments):
        asked.append(arguments)
        return different(build(classes=arguments["classes"]))

    network = build(classes=3)
    initialise(network, "imagenet", published, NAMES)
    assert asked == [{"classes": 1000, "weights": "imagenet"}]
    assert np.min(network.get_layer("conv1").kernel) >= 0.1


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """A run with everything, another one of the same that was killed, and what both began with."""
    folder = tmp_path_factory.mktemp("runs")
    teacher, pretrained = folder / "teacher.keras", folder / "pretrained.keras"
    build(classes=3).save(teacher)
    different(build(classes=7)).save(pretrained)
    arguments = [*ARGUMENTS[:6], "--dataset", f"image_folder:{images}", "--deterministic"]
    arguments += ["--recipe", "finetune", "--batch-size", 16, "--checkpoint-steps", 1]
    arguments += ["--epochs", 2, "--warmup-epochs", 0, "--optimizer", "rmsprop", "--ema", 0.9]
    arguments += ["--accumulate", 4, "--image-size", 64, "--progressive-from", 32]
    arguments += ["--teacher", teacher, "--init", pretrained, "--freeze", 3]
    # Were biases to decay after --resume, the weights would differ.
    arguments += ["--weight-decay", 0.01]
    whole, out = folder / "whole", folder / "killed"
    undisturbed, process = start(whole, *arguments), start(out, *arguments)
    wait_for(lambda: any(int(c.stem) >= STEPS + 2 for c in checkpoints(out)), process)
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process) == -signal.SIGKILL
    process = start(out, "--resume")
    assert finish(process) == finish(undisturbed) == 0
    return whole, out, pretrained


@pytest.mark.full
def test_a_killed_run_with_everything_is_the_run_that_was_not(runs):
    """Averages, accumulation, growing images and a teacher go on as they would have."""
    whole, out, _ = runs
    assert_equal_runs(out, whole)
    for run in (whole, out):
        config = json.loads((run / "config.json").read_text())["config"]
        assert config["recipe"] == "finetune 1"
        assert config["layer_decay"] == 0.75
    model = keras.saving.load_model(out / "best.keras")
    assert model.input_shape == (None, 64, 64, 3)


@pytest.mark.full
def test_frozen_stages_and_norms_stay_as_they_were(runs):
    _, out, pretrained = runs
    before, after = (keras.saving.load_model(path) for path in (pretrained, out / "last.keras"))
    # Up to the last map of stride 8.
    frozen = {"conv1", *(f"conv_{kind}_{i}" for kind in ("dw", "pw") for i in range(1, 6))}
    kept = changed = 0
    for layer in after.layers:
        stays = layer.name in frozen or isinstance(layer, keras.layers.BatchNormalization)
        if not layer.weights or layer.name == "conv_preds":
            continue
        for one, other in zip(
            layer.get_weights(), before.get_layer(layer.name).get_weights(), strict=True
        ):
            assert np.array_equal(one, other) == stays, layer.name
            kept, changed = kept + stays, changed + (not stays)
    assert kept > 100
    assert changed > 10


@pytest.mark.full
def test_a_run_is_a_start_and_its_classifier_only_for_the_same_classes(runs):
    _, out, _ = runs
    trained = keras.saving.load_model(out / "best.keras")
    initialise(same := build(classes=3), str(out), build, tuple(COLOURS))
    for one, other in zip(same.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    initialise(others := build(classes=3), str(out), build, NAMES)
    kernels = [model.get_layer("conv_preds").kernel for model in (others, trained)]
    assert not np.array_equal(*kernels), "as many classes, but others"
    np.testing.assert_array_equal(others.get_layer("conv1").kernel, same.get_layer("conv1").kernel)
