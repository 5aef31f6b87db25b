"""Training runs from end to end, on small images made here."""

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import keras_archs
import training
from training import monitoring
from training import trainer as fitting
from training.model.schedules import make_optimizer, make_schedule
from training.runs.input_shape import input_shape
from training.runs.run_folder import RunFolder

EPOCHS = 14


def config(images, **changes):
    return training.TrainConfig(
        **{
            "model": "mobilenet",
            "model_args": {"alpha": 0.25},
            "dataset": f"image_folder:{images}",
            "image_size": 32,
            "epochs": 2,
            "batch_size": 16,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    metrics = training.train(
        config(images, epochs=EPOCHS, optimizer="sgd", learning_rate=0.05, seed=1), out
    )
    return out, metrics


def test_a_run_leaves_what_it_promises(finished):
    out, metrics = finished
    written = {path.name for path in out.iterdir()}
    assert written == {
        "config.json",
        "log.csv",
        "tensorboard",
        "best.keras",
        "last.keras",
        "curves.png",
        "confusion_matrix.png",
        "report.html",
        "metrics.json",
    }
    assert json.loads((out / "metrics.json").read_text()) == metrics
    for name in ("curves.png", "confusion_matrix.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
    assert list(out.glob("tensorboard/*/events*"))


def test_a_notebook_shows_single_figures_and_short_lines(finished):
    out, metrics = finished
    table, run = metrics._repr_html_(), training.load_run(out)
    assert f"<td>test_top1</td><td>{metrics['test_top1']:.4g}</td>" in table
    assert "confusion_matrix" not in table
    for part in (str(out), "mobilenet on image_folder:"):
        assert part in repr(run)
    assert "3 classes, 96 train, 12 validation, 12 test, ? x ? x 3" in repr(run.data)
    assert max(len(repr(run)), len(repr(run.data))) < 250


def test_metrics_are_those_of_the_saved_model_on_the_test_images(finished):
    out, metrics = finished
    model = keras.saving.load_model(out / "best.keras")
    x, labels = training.load_run(out).arrays("test", 1000)
    assert len(x) == metrics["test_images"] == 12  # a tenth of each class's 40
    scores = model.predict(x, verbose=0)
    guesses = np.array([int(np.argmax(row)) for row in scores])
    assert metrics["test_top1"] == np.mean(guesses == labels)
    assert metrics["test_top1"] > 0.6  # three colours: easily told apart, and 0.33 by chance
    assert metrics["test_top5"] == 1.0
    losses = [-np.log(row[label]) for row, label in zip(scores, labels, strict=True)]
    assert metrics["test_loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    for true, row in enumerate(metrics["confusion_matrix"]):
        for predicted, count in enumerate(row):
            assert count == np.sum((labels == true) & (guesses == predicted))
    assert metrics["parameters"] == model.count_params()


def test_the_report_can_be_written_anew(finished):
    out, _ = finished
    written = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert training.report(out) == out / "report.html"
    assert (out / "report.html").read_text() == written


def test_an_unfinished_run_has_no_report(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "copy")
    (tmp_path / "copy" / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"not finished; resume it with --resume"):
        training.report(tmp_path / "copy")


def test_best_is_the_epoch_with_the_highest_validation_accuracy(finished):
    out, metrics = finished
    with (out / "log.csv").open() as file:
        log = list(csv.DictReader(file))
    assert [row["epoch"] for row in log] == [str(epoch) for epoch in range(1, EPOCHS + 1)]
    best = max(float(row["val_accuracy"]) for row in log)
    assert metrics["validation_top1"] == best
    x, labels = training.load_run(out).arrays("validation", 1000)
    model = keras.saving.load_model(out / "best.keras")
    accuracy = np.mean(model.predict(x, verbose=0).argmax(axis=1) == labels)
    assert accuracy == pytest.approx(best, abs=1e-6)


@pytest.mark.full
def test_one_seed_gives_one_run(images, tiny, tmp_path):
    for name in ("a", "b"):
        settings_ = config(images, model=tiny, model_args={}, epochs=1, seed=3)
        training.train(settings_, tmp_path / name)
    weights = [
        keras.saving.load_model(tmp_path / name / "last.keras").get_weights() for name in ("a", "b")
    ]
    for one, other in zip(*weights, strict=True):
        # Threads add up in no fixed order: equal but for rounding.
        np.testing.assert_allclose(one, other, atol=5e-3)


class Stop(monitoring.TensorBoard):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.fixture
def begin(images, tiny, tmp_path, monkeypatch):
    """Trains the first of two epochs; returns the run's folder."""

    def run(**changes):
        changes = {"model": tiny, "model_args": {}, "epochs": 2, "batch_size": 32, **changes}
        with monkeypatch.context() as patch:
            patch.setattr(monitoring, "TensorBoard", Stop)
            with pytest.raises(KeyboardInterrupt):
                training.train(config(images, **changes), tmp_path / "run")
        return tmp_path / "run"

    return run


@pytest.mark.full
def test_blocks_by_level_are_read_back(begin):
    out = begin(model_args={"attention": {2: "eca"}})
    training.resume(out)
    run = training.load_run(out)
    assert any(isinstance(layer, keras_archs.layers.ECA) for layer in run.model().layers)
    assert training.continue_from(out).model_args == {"attention": {2: "eca"}}


@pytest.mark.full
def test_a_dataset_that_has_grown_is_refused(begin, images, tmp_path):
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    out = begin(dataset=f"image_folder:{copy}")
    for i in range(10):
        shutil.copy(copy / "red" / "0.png", copy / "red" / f"new{i}.png")
    with pytest.raises(ValueError, match=r"has changed.*had 96 train, .* and now has 104 train, "):
        training.resume(out)
    for path in copy.glob("red/new*"):
        path.unlink()
    stored = out / "config.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"images": None}))
    assert training.resume(out)["epochs"] == 2, "a run of before the images were counted"


def test_weights_that_are_not_finite_are_no_beginning(images, tiny, tmp_path):
    model = keras_archs.create_model(tiny, input_shape=(32, 32, 3), classes=3)
    model.get_layer("conv").kernel.assign(np.full((3, 3, 3, 16), np.nan))
    model.save(tmp_path / "nan.keras")
    settings_ = config(images, model=tiny, model_args={}, init=str(tmp_path / "nan.keras"))
    with pytest.raises(ValueError, match=r"init='.*nan\.keras' has weights that are not finite"):
        training.train(settings_, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.full
@pytest.mark.parametrize(
    "precision", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision(images, tmp_path, precision):
    """With all that is done to gradients and scores."""
    more = {"optimizer": "lamb", "accumulate": 2, "clip_norm": 1.0, "ema": 0.9, "loss": "binary"}
    training.train(config(images, epochs=1, precision=precision, **more), tmp_path / "run")
    assert keras.config.dtype_policy().name == "float32", "the global policy is as it was"
    model = training.load_run(tmp_path / "run").model()
    assert model.get_layer("conv_pw_1").compute_dtype == precision.removeprefix("mixed_")
    assert model.get_layer("conv_preds").compute_dtype == "float32"
    assert model.layers[-1].activation is keras.activations.sigmoid
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.full
def test_a_folder_that_holds_a_run_is_safe(finished, images, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    (out / "notes.txt").write_text("mine")
    before = (out / "best.keras").read_bytes()
    with pytest.raises(ValueError, match=r"already holds a run.*--resume.*--overwrite"):
        training.train(config(images), out)
    # Bad input must not cost the old run either.
    with pytest.raises(ValueError, match="alpha"):
        training.train(config(images, model_args={"alpha": -1}), out, overwrite=True)
    assert (out / "best.keras").read_bytes() == before
    with pytest.raises(ValueError, match="finished"):
        training.resume(out)
    training.train(config(images, epochs=1), out, overwrite=True)
    assert (out / "best.keras").read_bytes() != before
    assert len((out / "log.csv").read_text().splitlines()) == 2
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.full
def test_other_folders_are_never_written_to(images, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="not empty and does not hold a run"):
            training.train(config(images), tmp_path, overwrite=overwrite)
    for out in ("thesis.tex", "thesis.tex/run", "thesis.tex/all/run"):
        with pytest.raises(ValueError, match=r"thesis\.tex' is a file"):
            training.train(config(images, dataset="none"), tmp_path / out)
    with pytest.raises(ValueError, match="out='gs:/bucket/run' is not a local folder"):
        training.train(config(images), "gs://bucket/run")
    with pytest.raises(ValueError, match="is not a run folder"):
        training.resume(tmp_path)
    (tmp_path / "config.json").write_text('{"config": {')
    with pytest.raises(ValueError, match="damaged"):
        training.load_run(tmp_path)


@pytest.mark.parametrize("out", ["run", "many/runs"])
def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch, out):
    def read_only(name, flags, mode=0o777, **_):  # noqa: ARG001
        raise OSError(errno.EROFS, "Read-only file system", name)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(ValueError, match=f"out='.*{out}' cannot be written to: .*Read-only"):
        training.train(config("nowhere"), tmp_path / out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_a_kill_while_the_first_or_an_earlier_run_goes(begin, images, tiny, monkeypatch):
    out = begin()
    again = config(images, model=tiny, model_args={}, epochs=1, batch_size=32)

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_settings", kill)
        with pytest.raises(KeyboardInterrupt):
            training.train(again, out, overwrite=True)
    assert list(out.iterdir()) == []
    (out / ".config.json.0a1b2c3d").write_text('{"config')
    training.train(again, out)
    assert not list(out.glob(".*"))


@pytest.mark.full
@pytest.mark.parametrize(
    "step", ["plot_curves", pytest.param("write_report", marks=pytest.mark.slow), "write_json"]
)
def test_a_full_disk_behind_the_last_epoch(begin, monkeypatch, step):
    out = begin()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fitting, step, full)
        with pytest.raises(training.TrainingStopped, match=r"No space left.*--resume resumes from"):
            training.resume(out)
    assert training.resume(out)["epochs"] == 2


BAD = [
    ({"model": "mobilnet"}, "Did you mean 'mobilenet'"),
    ({"model_args": {"alfa": 0.5}}, "Did you mean 'alpha'"),
    ({"model_args": {"classes": 5}}, "model_args must not contain 'classes'"),
    (
        {"model_args": {"attention": keras.layers.ReLU()}},
        "attention must be a string, .* got <ReLU ",
    ),
    (
        {"model_args": {"attention": {3: keras.layers.ReLU()}}},
        "attention must be a string, .* got {3: <ReLU ",
    ),
    ({"epochs": 0}, "epochs should be greater than or equal to 1, got 0"),
    ({"batch_size": -1}, "batch_size"),
    ({"learning_rate": 0}, "learning_rate should be greater than 0, got 0"),
    ({"label_smoothing": 1.0}, "label_smoothing"),
    ({"optimizer": "adm"}, "optimizer should be 'adamw', 'sgd', .*got 'adm'"),
    ({"precision": "float16"}, "precision"),
    ({"final_learning_rate": 1}, "final_learning_rate=1.0 must not be above learning_rate"),
    ({"accumulate": 0}, "accumulate"),
    ({"ema": 1.0}, "ema should be less than 1"),
    ({"layer_decay": 1.5}, "layer_decay should be less than or equal to 1"),
    ({"distill_temperature": 0}, "distill_temperature should be greater than 0"),
    ({"teacher": "x", "loss": "binary"}, "teacher needs loss='crossentropy'"),
    (
        {"init": "imagenet", "model_args": {"weights": "x"}},
        "init and weights in model_args exclude",
    ),
    ({"repeated_augmentation": 0}, "repeated_augmentation should be greater than or equal to 1"),
    ({"repeated_augmentation": 16}, "repeated_augmentation must be less than batch_size=16, got"),
    ({"warmup_epochs": 2}, "warmup_epochs must be less than epochs=2"),
    ({"epoch": 3}, "no setting 'epoch'. Did you mean 'epochs'"),
    ({"image_size": 0}, "image_size"),
    ({"model": 3}, "model"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[str(changes) for changes, _ in BAD])
def test_bad_settings_are_named(images, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        config(images, **changes)
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_and_other_spellings_are_stored_as_pythons():
    pythons = {"epochs": 3, "image_size": 64, "learning_rate": 0.5, "mixup": 0.25, "freeze": 3}
    blocks = {3: "se"}
    theirs = training.TrainConfig(
        model="MobileNet_V2",
        dataset="any",
        model_args={"alpha": np.float32(0.35), "attention": {np.int64(3): "se"}},
        **{name: np.array(value)[()] for name, value in pythons.items()},
    )
    args = {"alpha": 0.35, "attention": blocks}
    same = training.TrainConfig(model="mobilenetv2", dataset="any", model_args=args, **pythons)
    assert theirs.model_dump_json() == same.model_dump_json()
    assert training.TrainConfig(**theirs.model_dump()) == same


@pytest.mark.parametrize(("model", "size"), [("mobilenet", 64), ("xception", 96), ("vgg11", 64)])
def test_small_images_get_a_size_that_the_network_takes(model, size):
    made = training.TrainConfig(model=model, dataset="fashion_mnist_small")
    assert input_shape(made, (28, 28, 1)) == (size, size, 1)


def test_defaults_go_with_the_optimizer():
    def values(**changes):
        made = training.TrainConfig(model="mobilenet", dataset="any", **changes)
        return made.learning_rate, made.weight_decay

    assert values(batch_size=64) == (0.0025, 0.05)
    assert values(batch_size=64, optimizer="sgd") == (0.025, 0.0005)
    assert values(batch_size=4096, optimizer="rmsprop") == (0.256, 1e-5)  # EfficientNet's
    # ResNet strikes back has 0.005 for 2,048 images.
    assert values(batch_size=512, accumulate=4, optimizer="lamb")[0] == pytest.approx(0.005, 0.02)
    assert values(learning_rate=1.0, weight_decay=0.0) == (1.0, 0.0)


def test_missing_setting():
    with pytest.raises(ValueError, match="setting 'dataset' is missing"):
        training.TrainConfig(model="mobilenet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 16}, "image_size must be at least 32 for mobilenet, got 16"),
        (
            {"model": "inceptionv3", "model_args": {}},
            "image_size must be at least 75 for inception",
        ),
        (
            {"model": "xception", "model_args": {}, "image_size": 96, "progressive_from": 64},
            "progressive_from must be at least 71 for xception, got 64",
        ),
        ({"model_args": {"rho": 0.5}}, "rho"),
        ({"model_args": {"rho": "half"}}, "rho must be a number, got 'half'"),
        ({"model_args": {"rho": 4 / 7}, "image_size": 64}, "rho.*128x128"),
        ({"model_args": {"weights": "/no/file.h5"}}, "weights='/no/file.h5'"),
        ({"model_args": {"weights": "imagenet"}}, "classes=1000, got 3"),
        ({"dataset": "image_folder:/no/such/folder"}, "/no/such/folder"),
        ({"dataset": "no_such_dataset"}, "no_such_dataset"),
        ({"init": "no/such.keras"}, "init='no/such.keras'"),
        ({"teacher": "no/such/run"}, "teacher='no/such/run'"),
        ({"freeze": 9}, "freeze=9: mobilenet.* has no map of this level"),
        ({"freeze": "conv_predictions"}, "freeze='conv_predictions'.*or 'conv_preds'"),
        ({"progressive_from": 32}, "progressive_from=32 must be below image_size=32"),
    ],
)
def test_bad_combinations_leave_no_folder(images, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        training.train(config(images, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@settings(max_examples=30, deadline=None)
@given(
    epochs=st.integers(1, 20),
    steps=st.integers(1, 50),
    warmup=st.floats(0, 0.99),
    peak=st.floats(1e-5, 1),
)
def test_schedule_warms_up_and_falls_as_a_cosine(epochs, steps, warmup, peak):
    settings_ = training.TrainConfig(
        model="mobilenet",
        dataset="any",
        epochs=epochs,
        warmup_epochs=warmup * epochs,
        learning_rate=peak,
    )
    schedule = make_schedule(settings_, steps)
    total = epochs * steps
    rising = min(round(warmup * epochs * steps), total - 1)
    for step in {0, rising // 2, rising, (rising + total) // 2, total}:
        if step < rising:
            expected = peak * step / rising
        else:
            expected = peak * (1 + np.cos(np.pi * (step - rising) / (total - rising))) / 2
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-3, abs=1e-6 * peak)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_spares_biases_and_norms(optimizer):
    layers = [keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((5, 5, 1)), *layers, keras.layers.Dense(2)])
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape))
    settings_ = training.TrainConfig(
        model="mobilenet",
        dataset="any",
        optimizer=optimizer,
        learning_rate=0.1,
        warmup_epochs=0,
        weight_decay=0.5,
    )
    apply = make_optimizer(settings_, model, steps_per_epoch=10).apply
    apply(
        [np.zeros(weight.shape, "float32") for weight in model.trainable_weights],
        model.trainable_weights,
    )
    for weight in model.trainable_weights:
        expected = 0.95 if weight.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(weight, np.full(weight.shape, expected), rtol=1e-6)
