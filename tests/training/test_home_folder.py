"""`~` is the home folder wherever a path is given, for no shell has written it out."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import keras_archs
import tflite_export
import training
from keras_archs.files import local_path
from tests.training.runs import tiny_config
from tflite_export.cli.predict import predict
from tflite_export.exporter import export
from training.settings.recipes import load_recipe, read_recipe


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path
    assert not list((tmp_path / "elsewhere").iterdir()), "there is a folder named ~"


@pytest.mark.full
def test_runs_and_files_made_of_them(tiny, images, home, capsys):
    start = keras_archs.create_model(tiny, input_shape=(32, 32, 3), classes=3)
    start.save(home / "start.keras")
    config = tiny_config(images, epochs=1, init="~/start.keras", teacher="~/start.keras")
    training.train(config, "~/run")
    assert (home / "run" / "metrics.json").is_file()
    assert training.report("~/run") == home / "run" / "report.html"
    assert training.load_run("~/run").folder.path == home / "run"
    assert training.continue_from("~/run", epochs=1).init == "~/run"
    made = export("~/run", "none", out=Path("~/run.tflite"))
    assert made.path == home / "run.tflite"
    assert made.conversion.save("~/copy.tflite") == home / "copy.tflite"
    assert tflite_export.Classifier("~/copy.tflite").classes == 3
    assert tflite_export.convert("~/start.keras").content
    Image.new("RGB", (40, 30)).save(home / "picture.png")
    predict(["~/run.tflite", "~/picture.png"])
    assert "picture.png" in capsys.readouterr().out


@pytest.mark.full
def test_weights(home):
    network = keras_archs.MobileNet(alpha=0.25, input_shape=(32, 32, 3), weights=None)
    network.save_weights(home / "net.weights.h5")
    again = keras_archs.MobileNet(alpha=0.25, input_shape=(32, 32, 3), weights="~/net.weights.h5")
    for one, other in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_recipes(home):
    (home / "mine.yaml").write_text(yaml.safe_dump(read_recipe("finetune").model_dump()))
    assert load_recipe("~/mine.yaml", model="mobilenet", dataset="d")


def test_a_user_who_is_not_there():
    assert local_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
