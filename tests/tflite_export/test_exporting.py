"""Files from .keras files and datasets, by the command line's own function."""

import errno
import html
import json
import os
import re
import shutil
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import tflite_export
import training
from keras_archs import files
from keras_archs.errors import InputError
from keras_archs.preprocessing import TF
from tests.tflite_export.networks import SHAPE, as_pixels, stripes
from tests.training.runs import tiny_config, write_images
from tests.training.tiny_net import registered
from tflite_export import Classifier, ParityError, Snippets, read_metadata
from tflite_export import exporter as exporting
from tflite_export.cli.main import main
from tflite_export.cli.predict import predict

CLASSES = ("across", "diagonal", "down", "other")


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained):
    """The trained network as a file, and its images as a folder of classes."""
    folder = tmp_path_factory.mktemp("stripes")
    trained.save(folder / "stripes.keras")
    for number, (image, label) in enumerate(zip(*stripes(160, seed=4), strict=True)):
        target = folder / "images" / CLASSES[label]
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(as_pixels(image)).save(target / f"{number}.png")
    return folder


def exported(source, quantize, **options):
    made = tflite_export.export(source, quantize, **options)
    return made.path, made.conversion


@pytest.fixture
def export(place, tmp_path):
    def run(quantize, **options):
        options = {
            "out": tmp_path / "model.tflite",
            "dataset": f"image_folder:{place / 'images'}",
            "preprocessing": "mobilenet",
            "calibration_size": 100,
        } | options
        return exported(str(place / "stripes.keras"), quantize, **options)

    return run


def test_a_keras_file_with_a_dataset_gives_a_checked_file(export, tmp_path):
    path, made = export("int8", profile=True)
    assert path.read_bytes() == made.content
    report = json.loads(path.with_suffix(".json").read_text())
    assert report["images"] == 15  # a tenth of each class of 160
    assert report["keras_top1"] >= 0.8  # only if images and labels fit
    assert report["agreement"] == made.report.agreement
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "model.html",
        "model.json",
        "model.tflite",
    ]
    page = html.unescape(path.with_suffix(".html").read_text())
    programs = Snippets.of(made.content, path.name)
    assert all(text in page for text in (programs.python, programs.cpp, programs.kotlin))
    for part in (f"{report['agreement']:.2%}", "Softmax", "<h1>model.tflite</h1>", "127.5f"):
        assert part.lower() in page.lower()
    latency, peak = report["latency"], report["peak"]
    share = latency["multiply_adds"] / (latency["median_ms"] / 1e3) / peak
    assert 1e8 < peak < 1e12
    assert made.report.share_of_peak == pytest.approx(share)
    assert f"computed at {share:.0%} of the speed" in page
    found = read_metadata(made.content)
    assert (found.mean, found.scale, found.image_shape) == ((127.5,), 127.5, SHAPE)
    assert (found.quantize, found.probabilities, found.class_names) == ("int8", True, CLASSES)


def test_without_a_dataset_there_is_no_report(export, tmp_path, trained):
    path, made = export("float16", dataset=None, preprocessing=None)
    assert made.report is None
    assert list(tmp_path.iterdir()) == [path]
    images = stripes(20)[0]
    expected = trained.predict(images, verbose=0)
    np.testing.assert_allclose(Classifier(path).predict(images), expected, atol=0.02)


@pytest.mark.full
def test_nothing_is_left_of_an_earlier_file(export, tmp_path):
    export("none")
    assert len(list(tmp_path.iterdir())) == 3
    path, _ = export("none", dataset=None, preprocessing=None, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.full
@pytest.mark.parametrize(
    ("page", "stays"), [("# model.tflite\n\n| quantize |", False), ("# My model\n", True)]
)
def test_the_markdown_page_of_an_earlier_version_goes_with_its_file(export, tmp_path, page, stays):
    beside = tmp_path / "model.md"
    beside.write_text(page)
    export("none")
    assert beside.read_text() == page, "nothing was replaced"
    export("none", overwrite=True)
    assert beside.exists() == stays


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.json", '{"class_name": "Functional"}'), ("model.html", "<h1>model.tflite</h1>")],
)
def test_files_that_are_not_of_an_export_stay(export, tmp_path, name, content):
    mine = tmp_path / name
    mine.write_text(content)
    with pytest.raises(
        InputError,
        match=f"would replace '{name}' in the same folder, which is not from an earlier export",
    ):
        export("none", overwrite=True)
    assert list(tmp_path.iterdir()) == [mine]
    assert mine.read_text() == content


def test_a_full_disk_ends_in_one_line(export, tmp_path, monkeypatch):
    def atomic_write(path, data):
        if path.suffix == ".json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        files.atomic_write(path, data)

    monkeypatch.setattr(exporting, "atomic_write", atomic_write)
    with pytest.raises(
        InputError, match=r"model\.json' cannot be written: No space left on device"
    ):
        export("none")
    assert Classifier(tmp_path / "model.tflite").image_shape == SHAPE


@pytest.mark.full
def test_a_file_can_take_pixels(export, place):
    path, made = export("int8", pixels=True, io="uint8")
    assert made.report.agreement >= 0.95
    paths = sorted((place / "images").glob("*/*.png"))[:50]
    pixels = np.stack([np.asarray(Image.open(file)) for file in paths]).astype(np.float32)
    expected = keras.saving.load_model(place / "stripes.keras").predict(pixels / 127.5 - 1)
    agreement = np.mean(Classifier(path).predict(pixels).argmax(1) == expected.argmax(1))
    assert agreement >= 0.9


@pytest.mark.full
def test_images_need_not_be_square(place, tmp_path, capsys):
    """From the dataset to `predict`, height and width keep their places."""
    image = keras.Input((12, 40, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    scores = layers.Dense(4, "softmax", kernel_initializer="random_normal")(layers.Flatten()(x))
    model = keras.Model(image, scores)
    model.save(tmp_path / "wide.keras")
    path, made = exported(
        str(tmp_path / "wide.keras"),
        "int8",
        out=tmp_path / "wide.tflite",
        dataset=f"image_folder:{place / 'images'}",
        preprocessing="mobilenet",
        pixels=True,
        io="uint8",
        min_agreement=0.8,
    )
    assert read_metadata(made.content).image_shape == (12, 40, 3)
    assert made.report.images == 15
    picture = next((place / "images").glob("*/*.png"))
    values = np.asarray(Image.open(picture).resize((40, 12), Image.Resampling.BILINEAR))
    expected = model.predict(values[None] / np.float32(127.5) - 1, verbose=0)[0]
    predict([str(path), str(picture), "--top", "4"])
    printed = re.findall(r"([\d.]+)%  (\w+)", capsys.readouterr().out)
    found = {name: float(share) / 100 for share, name in printed}
    assert [found[name] for name in CLASSES] == pytest.approx(expected.tolist(), abs=0.03)


def test_a_refused_file_is_kept_aside_and_debugged(export, place, tmp_path, call):
    earlier = tmp_path / "model.tflite"
    earlier.write_bytes(b"good")
    with pytest.raises(ParityError) as caught:
        export("weight_int4", max_error=1e-9, overwrite=True, debug=True)
    rejected = tmp_path / "model.rejected.tflite"
    assert str(rejected) in "".join(caught.value.__notes__)
    assert Classifier(rejected).image_shape == SHAPE
    assert earlier.read_bytes() == b"good"
    assert not (tmp_path / "model.json").exists()
    assert "conv2d_1" in [loss.layer for loss in caught.value.layer_losses]
    options = ["--quantize=weight_int4", "--max-error=1e-9", "--debug", "--preprocessing=mobilenet"]
    options += [f"--dataset=image_folder:{place / 'images'}", "--overwrite", f"--out={earlier}"]
    code, printed, err = call(place / "stripes.keras", *options)
    assert (code, "conv2d_1" in printed, "too far" in err) == (3, True, True)


@pytest.mark.full
def test_labels_of_other_classes_are_not_taken_for_the_network_s(export, place):
    (place / "images" / "other").rename(place / "other")
    try:
        _, made = export("none")
    finally:
        (place / "other").rename(place / "images" / "other")
    assert made.report.keras_top1 is None
    assert made.report.agreement == 1


def damage(folder):
    """Cuts one of a folder's images off."""
    picture = next(folder.glob("*/*.png"))
    picture.write_bytes(picture.read_bytes()[:60])


@pytest.mark.full
def test_damaged_images_of_a_dataset_are_left_out_if_told(export, place, tmp_path):
    shutil.copytree(place / "images", tmp_path / "images")
    damage(tmp_path / "images")
    dataset = f"image_folder:{tmp_path / 'images'}"
    with pytest.raises(InputError, match=r"1 of 160 images are corrupt .*--skip-corrupt"):
        export("none", dataset=dataset)
    with pytest.warns(UserWarning, match="1 of 160 images are corrupt and skipped"):
        _, made = export("none", dataset=dataset, skip_corrupt=True)
    assert made.report.agreement == 1
    with pytest.raises(
        InputError,
        match=r"skip_corrupt \(--skip-corrupt\) needs dataset \(--dataset\) or a run",
    ):
        export("float16", dataset=None, preprocessing=None, skip_corrupt=True, overwrite=True)


@pytest.mark.full
def test_damaged_images_of_a_run_are_left_out_if_it_or_the_user_says_so(tmp_path):
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images")
    with registered():
        training.train(tiny_config(tmp_path / "images", epochs=1), tmp_path / "run")
        damage(tmp_path / "images")
        with pytest.raises(InputError, match=r"corrupt .*--skip-corrupt"):
            exported(str(tmp_path / "run"), "none")
        with pytest.warns(UserWarning, match="corrupt and skipped"):
            _, made = exported(str(tmp_path / "run"), "none", skip_corrupt=True)
        assert made.report.images == 11  # a tenth of 39, of 40 and of 40
        settings = tmp_path / "run" / "config.json"
        text = settings.read_text()
        assert '"skip_corrupt": false' in text
        settings.write_text(text.replace('"skip_corrupt": false', '"skip_corrupt": true'))
        with pytest.warns(UserWarning, match="corrupt and skipped"):
            exported(str(tmp_path / "run"), "none", overwrite=True)


@pytest.fixture
def call(monkeypatch, capfd):
    """Runs `keras-archs export`; returns its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-archs", "export", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capfd.readouterr()

    return run


def test_a_file_without_test_images_says_so_in_one_line(place, tmp_path, call):
    out = tmp_path / "model.tflite"
    code, printed, _ = call(place / "stripes.keras", "--quantize", "weight_int8", "--out", out)
    assert code == 0
    assert len(printed.splitlines()) == 1
    assert "Compared with Keras on 16 generated images" in printed
    assert "--dataset" in printed


def test_nan_ends_in_code_3_and_one_line(place, trained, tmp_path, call):
    model = keras.models.clone_model(trained)
    model.set_weights([np.nan * weight for weight in trained.get_weights()])
    model.save(tmp_path / "broken.keras")
    dataset = [f"--dataset=image_folder:{place / 'images'}", "--preprocessing=mobilenet", "--auto"]
    for options in ([], dataset):
        code, _, err = call(
            tmp_path / "broken.keras",
            "--quantize=int8" if options else "--quantize=none",
            "--out",
            tmp_path / "broken.tflite",
            *options,
        )
        assert (code, err.count("\n")) == (3, 1)
        assert err.startswith("Error: model returns NaN or infinity for")
    assert [each.name for each in tmp_path.iterdir()] == ["broken.keras"]


@pytest.mark.parametrize(
    ("quantize", "options", "message"),
    [
        ("int9", {}, "quantize must be one of.*'int9'"),
        ("int8", {"out": None}, r"out \(--out\) is missing"),
        ("int8", {"dataset": None}, r"quantize='int8' needs images\. Pass dataset \(--dataset\)"),
        ("dynamic", {"dataset": None, "debug": True}, r"debug \(--debug\) needs images"),
        ("int8", {"preprocessing": None}, r"preprocessing \(--preprocessing\) is missing"),
        ("int8", {"preprocessing": "mobilnet"}, "no model 'mobilnet'"),
        ("int8", {"calibration_size": 9}, "at least 50 images, got 9"),
        (
            "int8",
            {"calibration_size": "many", "dataset": "image_folder:nowhere"},
            "calibration_size must be a positive integer, got 'many'",
        ),
        (
            "int8",
            {"calibration_seed": -1, "dataset": "image_folder:nowhere"},
            "calibration_seed must be from 0 to 4294967295, got -1",
        ),
        ("int8", {"keep_float": ["conv"]}, "keep_float: the model has no layer 'conv'"),
        (
            "int8",
            {"keep_float": ["conv2d_"], "dataset": "image_folder:nowhere"},
            "the model has no layer 'conv2d_'. Did you mean 'conv2d",
        ),
        ("none", {"dataset": "image_folder:nowhere"}, "nowhere"),
        ("int8", {"io": "int4"}, "io must be one of .*, got 'int4'"),
        (
            "int8",
            {"preprocessing": None, "dataset": None, "pixels": True},
            r"pixels=True \(--pixels\) needs",
        ),
        ("dynamic", {"dataset": None, "min_agreement": 0.9}, "min_agreement needs images"),
        ("none", {"min_agreement": 2.0}, r"min_agreement must be from 0 to 1, got 2\.0"),
    ],
)
def test_bad_arguments_leave_nothing(export, tmp_path, quantize, options, message):
    with pytest.raises(InputError, match=message):
        export(quantize, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_convert_ends_in_one_line(tmp_path, capfd):
    """The converter's own pages on it, which come from C++, stay out of the command's output."""
    image = keras.Input(SHAPE)
    x = layers.UpSampling2D(interpolation="bicubic")(image)
    scores = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    keras.Model(image, scores).save(tmp_path / "bicubic.keras")
    capfd.readouterr()
    with pytest.raises(InputError, match=r"no built-in operator for: ResizeBicubic\("):
        exported(str(tmp_path / "bicubic.keras"), "none", out=tmp_path / "bicubic.tflite")
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "bicubic.tflite").exists()


def test_targets_are_checked_before_any_work(export, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "open_source", None)  # nothing is opened
    (tmp_path / "folder.tflite").mkdir()
    (tmp_path / "old.tflite").write_bytes(b"old")
    (tmp_path / "notes.html").write_bytes(b"mine")
    (tmp_path / "far.rejected.json").mkdir()
    for name, message in {
        "missing/model.tflite": "existing folder",
        "model.json": r"out \(--out\) must end in \.tflite",
        "old.tflite/model.tflite": "existing folder",
        "/proc/model.tflite": "/proc.*(cannot be written|existing folder)",
        "folder.tflite": "is a folder",
        "far.tflite": r"far\.rejected\.json' is a folder",
        "old.tflite": "exists",
        "notes.tflite": r"notes\.html' in the same folder, which is not from an earlier export",
    }.items():
        with pytest.raises(InputError, match=message):
            export("int8", out=tmp_path / name)
    assert (tmp_path / "old.tflite").read_bytes() == b"old"
    assert (tmp_path / "notes.html").read_bytes() == b"mine"


@pytest.mark.full
def test_a_model_that_takes_pixels_needs_no_word_on_preprocessing(place, tmp_path, trained):
    image = keras.Input(SHAPE)
    keras.Model(image, trained(TF.layer()(image))).save(tmp_path / "pixels.keras")
    arguments = {"out": tmp_path / "pixels.tflite", "dataset": f"image_folder:{place / 'images'}"}
    _, made = exported(str(tmp_path / "pixels.keras"), "int8", **arguments)
    assert made.report.keras_top1 >= 0.8
    with pytest.raises(
        InputError,
        match=r"preprocessing='vgg' \(--preprocessing\) is not allowed.*pixels\.keras.* is known",
    ):
        exported(
            str(tmp_path / "pixels.keras"), "none", preprocessing="vgg", **arguments, overwrite=True
        )
