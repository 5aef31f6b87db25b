"""Calls with other arguments than a function has: what a user is told."""

from pathlib import Path

import keras
import numpy as np
import pytest

import training
from keras_archs.errors import InputError

CONFIG = training.TrainConfig(model="mobilenet", dataset="any")
ARRAYS = np.zeros((4, 8, 8, 3)), np.zeros(4)
MODEL = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
SETTINGS = {"model": "mobilenet", "dataset": "any"}
TRAIN = r"training\.train\(training\.TrainConfig\(model="


@pytest.mark.parametrize(
    ("function", "arguments", "keywords", "message"),
    [
        ("train", (), SETTINGS, TRAIN),
        ("train", (), SETTINGS | {"out": "run"}, TRAIN),
        ("train", ARRAYS, {}, f"config must be TrainConfig, got ndarray.*{TRAIN}"),
        ("train", (MODEL,), {}, TRAIN),
        ("train", (MODEL, "run"), {}, f"got Sequential.*{TRAIN}"),
        ("train", (SETTINGS, "run"), {}, f"got dict.*{TRAIN}"),
        ("train", ("config.json", "run"), {}, f"got str.*{TRAIN}"),
        ("train", (CONFIG,), {}, f"'out'.*{TRAIN}"),
        ("train", (CONFIG, None), {}, f"out must be str or Path, got NoneType.*{TRAIN}"),
        ("train", (CONFIG, "run"), {"epochs": 3}, f"'epochs'.*{TRAIN}"),
        ("train", (CONFIG, "run"), {"callbacks": MODEL}, "callbacks must be a list"),
        ("resume", (), {}, r"training\.resume\("),
        ("resume", (CONFIG, "run"), {}, r"training\.resume\("),
        ("resume", ("run",), {"changes": 3}, "changes must be a dict"),
        ("report", (MODEL,), {}, r"training\.report\("),
        ("evaluate", ("run",), {}, r"run must be Run, got str.*training\.load_run\("),
        ("load_run", (3,), {}, r"training\.load_run\("),
        ("continue_from", (CONFIG,), {}, r"training\.continue_from\("),
        ("load_recipe", (CONFIG,), {}, r"training\.load_recipe\("),
        ("load_recipe", ("finetune",), SETTINGS | {"model_args": 3}, "model_args.*got 3"),
        ("open_dataset", (ARRAYS,), {}, r"spec must be str, got tuple.*'image_folder:photos'"),
        ("open_dataset", (Path("photos"),), {}, "got .*Path.*'image_folder:photos'"),
        ("TrainConfig", (SETTINGS,), {}, r"settings by name.*training\.TrainConfig\(model="),
        ("TrainConfig", (), {"model": MODEL, "dataset": "any"}, "model should be a valid string"),
        ("TrainConfig", (), SETTINGS | {"dataset": ARRAYS[0]}, "dataset should be a valid string"),
        ("TrainConfig", (), SETTINGS | {"epochs": ARRAYS[0]}, "epochs should be a valid integer"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(
    tmp_path, monkeypatch, function, arguments, keywords, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        getattr(training, function)(*arguments, **keywords)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    assert not list(tmp_path.iterdir())


def test_paths_of_any_kind_are_paths(tmp_path):
    class Mine:
        def __fspath__(self):
            return str(tmp_path)

    for path in (tmp_path, str(tmp_path), Mine()):
        with pytest.raises(InputError, match="is not a run folder"):
            training.load_run(path)
