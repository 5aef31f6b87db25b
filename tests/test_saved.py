"""What users saved with version 0.1.0, before its modules moved, still loads (tests/saved)."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import tflite_export
import training
from tests.training.runs import finish, output, start, state
from tests.training.tiny_net import registered
from tests.versions import KERAS

SAVED = Path(__file__).parent / "saved"
pytestmark = pytest.mark.skipif(KERAS < (3, 15), reason="older Keras cannot read newer files")


@pytest.mark.parametrize(("name", "given"), [("layers", "maps"), ("quantize_aware", "images")])
def test_a_saved_model_gives_the_scores_that_it_gave(name, given):
    stored = np.load(SAVED / "outputs.npz")
    model = keras.saving.load_model(SAVED / f"{name}.keras")
    np.testing.assert_allclose(model.predict(stored[given], verbose=0), stored[name], atol=1e-5)


def test_a_saved_quantization_aware_model_becomes_a_file_of_its_scores():
    stored = np.load(SAVED / "outputs.npz")
    made = tflite_export.convert(keras.saving.load_model(SAVED / "quantize_aware.keras"), "int8")
    scores = tflite_export.Classifier(made.content).predict(stored["images"])
    np.testing.assert_allclose(scores, stored["quantize_aware"], atol=1 / 128)


def test_a_finished_run_is_evaluated_as_it_was(tmp_path):
    out = shutil.copytree(SAVED / "finished", tmp_path / "run")
    with registered():
        run = training.load_run(out)
        stored = run.folder.read_metrics()
        metrics = training.evaluate(run)
    assert metrics["test_top1"] == pytest.approx(stored["test_top1"], abs=0.002)
    assert metrics["parameters"] == stored["parameters"]


@pytest.mark.full
def test_a_killed_run_is_resumed_to_the_weights_that_it_would_have_had(tmp_path):
    out = shutil.copytree(SAVED / "killed", tmp_path / "run")
    assert finish(start(out, "--resume")) == 0, output(out).read_text()
    resumed = keras.saving.load_model(SAVED / "resumed.keras").get_weights()
    for weights, expected in zip(state(out), resumed, strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-3, atol=1e-4)
