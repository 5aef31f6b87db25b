"""Recipes: the shipped ones, files of one's own, and the command line over them."""

import re
import sys
from typing import Any

import pytest
import yaml

import keras_archs
import training
from tflite_export.cli.main import main
from training import monitoring
from training.settings.recipes import list_recipes, read_recipe

MODELS = {
    "imagenet-mobilenet": ["mobilenet", "mobilenetv2"],
    "imagenet-mobilenet-v3": keras_archs.list_models("mobilenetv3*"),
    "imagenet-efficientnet": keras_archs.list_models("efficientnet*"),
    "imagenet-resnet-rsb-a1": keras_archs.list_models("*resne[tx]*"),
    "imagenet-resnet-rsb-a2": keras_archs.list_models("*resne[tx]*"),
    "imagenet-resnet-rsb-a3": keras_archs.list_models("*resne[tx]*"),
    "small-data": keras_archs.list_models(),
    "finetune": keras_archs.list_models(),
    "fast": keras_archs.list_models(),
}

# arXiv:2110.00476, table 2.
STRIKES_BACK: dict[str, tuple[Any, ...]] = {
    "epochs": (600, 300, 100),
    "learning_rate": (5e-3, 5e-3, 8e-3),
    "weight_decay": (0.01, 0.02, 0.02),
    "label_smoothing": (0.1, 0.0, 0.0),
    "image_size": (224, 224, 160),
    "randaugment_magnitude": (7, 7, 6),
    "mixup": (0.2, 0.1, 0.1),
    "cutmix": (1.0, 1.0, 1.0),
    "test_crop": (0.95, 0.95, 0.95),
    "batch_size": (2048, 2048, 2048),
    "warmup_epochs": (5, 5, 5),
    "repeated_augmentation": (3, 3, 1),  # timm's default number; the table has a tick
    "random_erasing": (0, 0, 0),
    "clip_norm": (None, None, None),
    "ema": (None, None, None),
    "model_args": ({"drop_connect_rate": 0.05}, {"drop_connect_rate": 0.05}, {}),
}


def test_shipped_recipes_are_these():
    assert [recipe.name for recipe in list_recipes()] == sorted(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_fits_all_networks_of_its_family(name):
    for model in MODELS[name]:
        if "inception" not in model:
            training.load_recipe(name, model=model, dataset="any")


@pytest.mark.parametrize("column", range(3))
def test_resnet_strikes_back(column):
    name = f"imagenet-resnet-rsb-a{column + 1}"
    config = training.load_recipe(name, model="resnet50", dataset="any")
    assert (config.optimizer, config.loss, config.schedule) == ("lamb", "binary", "cosine")
    for setting, row in STRIKES_BACK.items():
        assert getattr(config, setting) == row[column], setting


def test_overrides_win_and_model_args_add_up():
    config = training.load_recipe(
        "imagenet-efficientnet",
        model="efficientnetb0",
        dataset="any",
        epochs=5,
        warmup_epochs=1,
        model_args={"dropout_rate": 0.3},
    )
    assert config.epochs == 5 == training.TrainConfig.model_fields["epochs"].default
    assert config.model_args == {"drop_connect_rate": 0.2, "dropout_rate": 0.3}
    assert config.recipe == "imagenet-efficientnet 1"


def test_learning_rates_follow_the_images_in_a_step():
    def rate(name, model, **changes):
        return training.load_recipe(name, model=model, dataset="any", **changes).learning_rate

    rmsprop = "imagenet-efficientnet", "efficientnetb0"
    assert rate(*rmsprop, batch_size=256) == pytest.approx(0.016)
    assert rate(*rmsprop, batch_size=256, accumulate=4) == pytest.approx(0.064)
    assert rate(*rmsprop, batch_size=256, learning_rate=1.0) == 1.0
    lamb = "imagenet-resnet-rsb-a2", "resnet50"
    assert rate(*lamb, batch_size=512) == pytest.approx(0.0025)
    # Those of another optimizer mean nothing.
    assert rate(*lamb, batch_size=256, optimizer="sgd") == 0.1


@pytest.mark.parametrize(
    ("name", "model", "changes", "warmup", "decay"),
    [
        ("finetune", "mobilenet", {"epochs": 1}, 1 / 20, None),
        ("imagenet-resnet-rsb-a2", "resnet50", {"epochs": 5}, 5 * 5 / 300, None),
        ("imagenet-efficientnet", "efficientnetb0", {"epochs": 2}, 5 * 2 / 350, 2.4 * 2 / 350),
        ("imagenet-efficientnet", "efficientnetb0", {"epochs": 6}, 5, 2.4),
        (
            "imagenet-efficientnet",
            "efficientnetb0",
            {"epochs": 2, "schedule": "cosine"},
            1 / 35,
            2.4,
        ),
        ("imagenet-mobilenet", "mobilenet", {"epochs": 1}, 0, 1 / 300),
    ],
)
def test_what_is_too_long_for_the_epochs_is_shortened(recwarn, name, model, changes, warmup, decay):
    config = training.load_recipe(name, model=model, dataset="any", **changes)
    assert config.warmup_epochs == pytest.approx(warmup)
    assert decay is None or config.decay_epochs == pytest.approx(decay)
    own = read_recipe(name).settings
    shortened = [key for key in ("warmup_epochs", "decay_epochs") if key in own]
    shortened = [key for key in shortened if getattr(config, key) < own[key]]
    told = [str(warning.message) for warning in recwarn if name in str(warning.message)]
    assert len(told) == len(shortened)
    for text, key in zip(told, shortened, strict=True):
        assert f"{key}={own[key]:g} for {own['epochs']} epochs" in text


def test_a_warm_up_of_ones_own_is_not_shortened():
    given = {"model": "mobilenet", "dataset": "any", "epochs": 3}
    for name, warmup in {"finetune": 3, "small-data": 4}.items():
        with pytest.raises(
            ValueError, match=f"warmup_epochs must be less than epochs=3, got {warmup}"
        ):
            training.load_recipe(name, warmup_epochs=warmup, **given)


def write(path, **changes):
    content = read_recipe("fast").model_dump() | changes
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"epoch": 3}}, "no setting 'epoch'. Did you mean 'epochs'"),
        ({"settings": {"epochs": 0}}, "epochs should be greater than or equal to 1, got 0"),
        ({"settings": [1]}, "settings should be a valid dictionary"),
        ({"name": None}, "'name' is missing"),
        ({"setting": {}}, "no setting 'setting'. Did you mean 'settings'"),
    ],
)
def test_bad_files_are_named(tmp_path, changes, message):
    path = write(tmp_path / "own.yaml", **changes)
    with pytest.raises(ValueError, match=f"own.yaml.*{message}") as error:
        training.load_recipe(path, model="mobilenet", dataset="any")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "just words", ""])
def test_files_that_are_no_recipes(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"own\.yaml") as error:
        training.load_recipe(tmp_path / "own.yaml", model="mobilenet", dataset="any")
    assert "\n" not in str(error.value)


def test_unknown_names():
    with pytest.raises(ValueError, match="Did you mean 'small-data'"):
        training.load_recipe("smal-data", model="mobilenet", dataset="any")
    with pytest.raises(ValueError, match=r"no/such\.yaml"):
        training.load_recipe("no/such.yaml", model="mobilenet", dataset="any")


@pytest.fixture
def call(monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-archs", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capfd.readouterr()

    return run


@pytest.fixture
def configs(monkeypatch):
    """Those of the runs that the command would have begun."""
    found = []

    def train(config, out, overwrite):  # noqa: ARG001
        found.append(config)
        raise training.TrainingStopped("enough")

    monkeypatch.setattr(training, "train", train)
    return found


def test_command_line_comes_over_the_recipe(call, configs, tmp_path):
    path = write(tmp_path / "own.yaml", settings={"epochs": 9, "ema": 0.9, "flip": False})
    words = ["train", "--model", "mobilenet", "--dataset", "any", "--out", tmp_path / "run"]
    # 5 is what TrainConfig has by itself.
    call(*words, "--recipe", path, "--epochs", 5, "--freeze", 3, "--alpha", 0.5)
    config = configs[0]
    assert (config.epochs, config.ema, config.flip, config.freeze) == (5, 0.9, False, 3)
    assert config.model_args == {"alpha": 0.5}
    assert config.recipe == "fast 2"
    assert config.batch_size == training.TrainConfig.model_fields["batch_size"].default
    assert call(*words, "--recipe", "fats")[0] == 2


def test_command_line_takes_back_what_the_recipe_sets(call, configs, tmp_path):
    own = {"ema": 0.9, "clip_norm": 1.0, "layer_decay": 0.5, "freeze": 3, "image_size": 32}
    path = write(tmp_path / "own.yaml", settings={**own, "crop": "resized", "data_dir": "x"})
    words = ["train", "--model", "mobilenet", "--dataset", "any", "--out", tmp_path / "run"]
    words += ["--recipe", path, "--model-arg", 'attention={"3": "se", "4": null}']
    for name in [*own, "data_dir", "crop"]:
        words += [f"--{name.replace('_', '-')}", "none"]
    assert call(*words)[0] == 1
    (config,) = configs
    assert [getattr(config, name) for name in [*own, "data_dir"]] == [None] * 6
    assert config.crop == "none", "which is a value of its own"
    assert config.model_args == {"attention": {3: "se", 4: None}}


@pytest.mark.full
def test_the_same_command_with_resume(call, images, tiny, monkeypatch, tmp_path):
    path = write(tmp_path / "own.yaml", settings={"epochs": 2, "ema": 0.9, "learning_rate": 0.01})
    words = ["train", "--recipe", path, "--out", tmp_path / "run"]
    rest = ["--model", tiny, "--dataset", f"image_folder:{images}", "--image-size", 32]
    rest += ["--batch-size", 32, "--track", "none"]

    def stop(*_):
        raise training.TrainingStopped("enough")

    with monkeypatch.context() as patch:
        patch.setattr(monitoring.TensorBoard, "on_epoch_end", stop)
        assert call(*words, *rest)[0] == 1
    code, _, err = call(*words, *rest, "--resume", "--ema", 0.5)
    assert (code, err.count("\n")) == (2, 1)
    assert "other settings: ema: 0.5 given, 0.9 in the run. Give" in err
    code, _, err = call(*words, "--resume", "--batch-size", 32, "--epochs", 3)
    assert "other settings: epochs: 3 given, 2 in the run. Give" in err
    assert call(*words, *rest, "--resume")[0] == 0
    assert training.load_run(tmp_path / "run").settings.config.recipe == "fast 2"


@pytest.mark.full
def test_fine_tuning_needs_weights(call, images, tiny, tmp_path):
    words = ["train", "--recipe", "finetune", "--model", tiny, "--out", tmp_path / "run"]
    words += ["--dataset", f"image_folder:{images}", "--image-size", 32, "--epochs", 1]
    code, _, err = call(*words)
    warning, error = err.splitlines()[-2:]
    assert code == 2
    assert warning.startswith("Warning: recipe 'finetune' has warmup_epochs=1 for 20 epochs")
    assert error.startswith("Error: freeze_batch_norm=True needs initial weights")
    assert "Pass init" in error
    keras_archs.create_model(tiny, input_shape=(32, 32, 3), classes=5).save(tmp_path / "i.keras")
    code, _, err = call(*words, "--init", tmp_path / "i.keras")
    assert code == 0, err
    config = training.load_run(tmp_path / "run").settings.config
    assert (config.epochs, config.warmup_epochs) == (1, 0.05)
    lines = [line for line in err.splitlines() if line.startswith("Warning: ")]
    assert len(lines) == len(set(lines))
    assert any("has only 12 validation images (one is 8.3 points" in line for line in lines)


def test_command_line_lists_and_prints(call):
    code, out, _ = call("recipes")
    assert code == 0
    assert all(re.search(rf"\b{name}\b", out) for name in MODELS)
    assert yaml.safe_load(call("recipes", "finetune")[1]) == read_recipe("finetune").model_dump()
    code, _, err = call("recipes", "finetuned")
    assert code == 2
    assert "Did you mean 'finetune'" in err
