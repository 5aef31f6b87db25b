"""The command line: what it prints, what it writes, how it refuses."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tflite_export import Classifier
from tflite_export.cli.main import main
from tflite_export.cli.tables import print_training
from training import TrainConfig, open_dataset
from training.settings.recipes import read_recipe

INSTALLED = Path(sys.executable).with_name("keras-archs")


@pytest.fixture
def call(monkeypatch, capfd):
    """Runs one command in this process; returns its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-archs", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return stop.value.code or 0, out, err

    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A short run on the shipped images, by the installed command as a user types it."""
    # TFDS shows how it prepares a dataset for the first time.
    open_dataset("fashion_mnist_small")
    out = tmp_path_factory.mktemp("cli") / "run"
    command = "train --model mobilenet --alpha 0.5 --dataset fashion_mnist_small --epochs 2"
    finished = subprocess.run(
        [INSTALLED, *command.split(), "--image-size", "32", "--out", out],
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        capture_output=True,
        text=True,
        check=True,
    )
    return out, finished


@pytest.mark.parametrize(
    ("command", "required"),
    [
        ("train", ["--model", "--dataset", "--out"]),
        ("export", ["SOURCE"]),
        ("report", ["RUN"]),
        ("demo", []),
        ("data prepare", ["DATASET", "--out"]),
        ("predict", []),
        ("models", []),
        ("recipes", []),
    ],
)
def test_help_fits_a_screen_and_marks_what_is_required(call, monkeypatch, command, required):
    monkeypatch.setenv("COLUMNS", "80")
    code, text, err = call(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert f"usage: keras-archs {command}" in text.lower()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= (60 if command == "export" else 40)
    entries = re.split(r"\n(?=  \S)", text)
    marked = [entry.split()[0] for entry in entries if "[required]" in entry]
    assert sorted(marked) == sorted(required)


def test_help_all_names_every_setting(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, text, _ = call("train", "--help-all")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    named = {*re.findall(r"--[a-z][a-z-]*", text)}
    fields = {f"--{name.replace('_', '-')}" for name in TrainConfig.model_fields} - {"--model-args"}
    assert fields | {"--model-arg", "--alpha", "--out", "--resume", "--help-all"} <= named
    for panel in ("Network", "Data", "Optimisation", "Devices"):
        assert f"\n{panel}:\n" in text


def test_brackets_are_no_markup(call, capfd):
    assert "keras-archs[beam]" in call("data", "prepare", "--help")[1]
    metrics = {"model": "net", "dataset": "image_folder:[red]", "test_top1": 0.5, "test_images": 6}
    metrics |= {"parameters": 1e6, "multiply_adds": 1e6, "training_images_per_second": 10}
    out = Path("a" * 90) / "[bold]run[/bold]"
    print_training(out, metrics | {"training_seconds": 1})
    printed = re.sub(r"[│\s]", "", capfd.readouterr().out)
    assert "netonimage_folder:[red]" in printed
    assert f"run{out}" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train", "train needs --model, --dataset and --out. See keras-archs train --help."),
        ("train --out x --dataset y", "train needs --model. See keras-archs train --help."),
        ("train --resume", "train needs --out. See keras-archs train --help."),
        ("train --resume-from x", "train needs --out. See keras-archs train --help."),
        ("train --recipe own.yaml", "train needs --out. See keras-archs train --help."),
        ("train --recipe fast --out x", "train needs --model and --dataset. See"),
        ("export", "export needs SOURCE. See keras-archs export --help."),
        ("report", "report needs RUN. See keras-archs report --help."),
        ("data", "Missing command. See keras-archs data --help."),
        ("data prepare", "data prepare needs DATASET and --out. See keras-archs data prepare"),
        ("data prepare x", "data prepare needs --out. See keras-archs data prepare --help."),
        ("export run --io", "Option '--io' requires an argument."),
        ("report a b", "Got unexpected extra argument(s) (b). See keras-archs report --help."),
    ],
)
def test_what_is_missing_is_said_in_one_line(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("fast").model_dump()
    recipe["settings"] |= {"model": "vgg11", "dataset": "x"}
    Path("own.yaml").write_text(yaml.safe_dump(recipe))
    code, out, err = call(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {message}")
    assert err.count("\n") == 1


@pytest.mark.full
def test_training_prints_what_it_measured_and_nothing_of_tensorflow(run_folder):
    out, finished = run_folder
    metrics = json.loads((out / "metrics.json").read_text())
    assert f"{metrics['test_top1']:.2%} of 2,000 images" in finished.stdout
    assert "Epoch 2/2" in finished.stdout
    assert finished.stderr == ""


@pytest.mark.full
def test_export_of_every_kind_agrees_with_keras(run_folder, call):
    out, _ = run_folder
    top1 = json.loads((out / "metrics.json").read_text())["test_top1"]
    sizes = {}
    for kind in ("none", "float16", "dynamic", "int8"):
        # After two epochs many images are near the border of two classes.
        code, printed, _ = call("export", out, "--quantize", kind, "--min-agreement", "0.9")
        assert code == 0
        (file,) = (out / "export").glob(f"*_{kind}.tflite")
        report = json.loads(file.with_suffix(".json").read_text())
        assert Classifier(file.read_bytes()).image_shape == (32, 32, 1)
        assert report["images"] == 2000
        assert report["keras_top1"] == pytest.approx(top1, abs=1e-3)
        assert report["tflite_top1"] == pytest.approx(report["keras_top1"], abs=0.01)
        assert report["latency"]["threads"] == 1
        assert report["latency"]["median_ms"] > 0
        assert f"{report['tflite_top1']:.2%}" in printed
        sizes[kind] = report["size_bytes"] = file.stat().st_size
    assert sizes["none"] > 1.8 * sizes["float16"] > 1.8 * 1.2 * sizes["int8"]


@pytest.mark.full
def test_report(run_folder, call):
    out, _ = run_folder
    (out / "report.html").unlink()
    code, printed, _ = call("report", out)
    assert (code, printed) == (0, f"{out / 'report.html'}\n")
    assert (out / "report.html").stat().st_size > 10_000
    code, _, err = call("report", out.parent)
    assert (code, err.count("\n")) == (2, 1)
    assert "is not a run folder" in err


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"[]", "config.json' is damaged"),
        ("config.json", b"\xff\x00", "config.json' is damaged"),
        (
            "config.json",
            b'{"config": {}, "input_shape": [8, 8, 3]}',
            "config.json': The setting 'model' is missing",
        ),
        ("metrics.json", b"{", "metrics.json' is damaged"),
        ("metrics.json", b"[]", "metrics.json' is damaged"),
        ("log.csv", b"epoch,loss\n1,x\n", "log.csv' is damaged"),
        ("log.csv", None, "log.csv' cannot be read: No such file"),
        ("best.keras", b"PK", "best.keras' cannot be read"),
    ],
)
def test_a_damaged_run_ends_in_one_line(run_folder, call, tmp_path, name, content, message):
    run = shutil.copytree(run_folder[0], tmp_path / "run")
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    code, out, err = call("report", run)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.full
def test_export_keeps_an_earlier_file_unless_told(run_folder, call):
    out, _ = run_folder
    call("export", out, "--quantize", "float16")
    (file,) = (out / "export").glob("*_float16.tflite")
    file.write_bytes(b"mine")
    code, _, err = call("export", out, "--quantize", "float16")
    assert code == 2
    assert "overwrite" in err
    assert file.read_bytes() == b"mine"
    assert call("export", out, "--quantize", "float16", "--overwrite")[0] == 0
    assert len(file.read_bytes()) > 10_000


@pytest.mark.full
def test_a_file_too_far_from_keras_ends_in_code_3_and_a_block_of_numbers(run_folder, call):
    out, _ = run_folder
    shutil.rmtree(out / "export", ignore_errors=True)
    code, printed, err = call(
        "export", out, "--quantize", "weight_int4", "--min-agreement", "1", "--debug"
    )
    assert code == 3
    assert re.search(r"The \d+ worst of \d+ quantized layers", printed)
    assert printed.count(" dB ") > 10
    (rejected,) = (out / "export").glob("*.tflite")
    assert rejected.name.endswith("_weight_int4.rejected.tflite")
    report = json.loads(rejected.with_suffix(".json").read_text())
    assert report["size_bytes"] == rejected.stat().st_size
    assert report["agreement"] < 1
    block = err[err.index("Error: ") :]
    for part in (f"{report['agreement']:.2%}", "100.00%", "2,000 images", str(rejected)):
        assert part in block


@pytest.mark.full
def test_an_existing_run_is_refused(run_folder, call):
    out, _ = run_folder
    before = (out / "best.keras").read_bytes()
    code, _, err = call(
        "train", "--model", "mobilenet", "--dataset", "fashion_mnist_small", "--out", out
    )
    assert code == 2
    assert "--overwrite" in err
    assert "--resume" in err
    assert (out / "best.keras").read_bytes() == before


@pytest.fixture
def pictures(tmp_path):
    """Two classes of twelve small images."""
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / name / f"{i}.jpg")
    return tmp_path / "pictures"


TRAIN: dict[str, str | None] = {
    "--model": "mobilenet",
    "--dataset": "fashion_mnist_small",
    "--out": "run",
}
BAD_TRAINING: list[tuple[dict[str, str | None], list[str]]] = [
    ({"--model": "mobilnet"}, ["'mobilnet'", "'mobilenet'"]),
    ({"--model": None}, ["train needs --model."]),
    ({"--out": None}, ["--out"]),
    ({"--dataset": "fashion_mnist_smal"}, ["'fashion_mnist_smal'", "'fashion_mnist_small'"]),
    ({"--dataset": "image_folder:nowhere"}, ["nowhere"]),
    ({"--dataset": "tfrecord:nowhere*"}, ["nowhere*"]),
    ({"--alpha": "0"}, ["alpha", "positive", "0.0"]),
    ({"--alpha": "-1"}, ["alpha", "positive", "-1.0"]),
    ({"--alpha": "wide"}, ["--alpha", "'wide'"]),
    ({"--model": "vgg16", "--alpha": "0.5"}, ["vgg16", "'alpha'"]),
    ({"--image-size": "16"}, ["image_size", "32", "mobilenet", "16"]),
    ({"--model-arg": "rho"}, ["--model-arg", "NAME=VALUE", "'rho'"]),
    ({"--model-arg": "rho=2"}, ["rho", "2"]),
    ({"--model-arg": "weights=no.h5"}, ["weights", "no.h5"]),
    ({"--model-arg": "weights=imagenet"}, ["classes", "1000", "10"]),
    ({"--epochs": "0"}, ["epochs", "1", "0"]),
    ({"--epochs": "many"}, ["--epochs", "'many'"]),
    ({"--precision": "half"}, ["precision", "'half'", "'mixed_float16'"]),
    ({"--optimiser": "sgd"}, ["No such option: --optimiser", "--optimizer"]),
]


@pytest.mark.parametrize(
    ("changes", "parts"),
    BAD_TRAINING,
    ids=[" ".join(f"{k} {v}" for k, v in changes.items()) for changes, _ in BAD_TRAINING],
)
def test_bad_training_ends_in_one_line_before_anything_is_written(
    call, tmp_path, monkeypatch, changes, parts
):
    monkeypatch.chdir(tmp_path)
    options = [option for option in (TRAIN | changes).items() if option[1] is not None]
    code, out, err = call("train", *itertools.chain(*options))
    assert code == 2
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert [part for part in parts if part not in err] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--force"], ["--force needs --resume"]),
        (["--resume", "--overwrite"], ["--overwrite cannot be combined with --resume"]),
        (
            ["--resume", "--resume-from", "other"],
            ["--resume-from cannot be combined with --resume"],
        ),
        (["--resume-from", "other"], ["'other'", "is not a run folder"]),
        (
            ["--resume-from", "other", "--recipe", "fast"],
            ["--recipe cannot be combined with --resume-from"],
        ),
        (["--qat"], ["qat", "--resume-from"]),
        (["--resume"], ["'run'", "is not a run folder"]),
        (["--checkpoint-steps", "0"], ["checkpoint_steps", "1", "0"]),
        (["--on-nan", "retry"], ["on_nan", "'rollback'", "'retry'"]),
    ],
)
def test_flags_of_interrupted_runs(call, tmp_path, monkeypatch, flags, parts):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("train", *itertools.chain(*TRAIN.items()), *flags)
    assert (code, err.count("\n")) == (2, 1)
    assert [part for part in parts if part not in err] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_folders_of_pictures_with_faults(call, pictures, tmp_path):
    train = ["train", "--model", "mobilenet", "--alpha", "0.25", "--epochs", "1", "--out"]
    train += [tmp_path / "run", "--dataset", f"image_folder:{pictures}", "--batch-size", "8"]
    train += ["--image-size", "32"]
    (pictures / "cow").mkdir()
    code, _, err = call(*train)
    assert (code, err.count("\n")) == (2, 1)
    assert "cow" in err
    (pictures / "cow").rmdir()

    damaged = pictures / "cat" / "3.jpg"
    damaged.write_bytes(damaged.read_bytes()[:100])
    code, _, err = call(*train)
    assert code == 2
    line = err.splitlines()[-1]  # libjpeg, in TensorFlow, may have its say before
    assert line.startswith("Error: ")
    assert "3.jpg" in line
    assert "--skip-corrupt" in line
    assert not (tmp_path / "run").exists()

    code, _, err = call(*train, "--skip-corrupt")
    assert code == 0
    assert "3.jpg" in err


BAD_EXPORT = [
    (["--quantize", "int4"], ["'int4'", "int8"]),
    (["--threads", "0"], ["threads", "0"]),
    (["--quantize", "int8", "--calibration-size", "3"], ["--calibration-size", "50", "3"]),
    (["--test-images", "0"], ["--test-images", "1", "0"]),
    (["--min-agreement", "99"], ["min_agreement", "from 0 to 1", "99"]),
    (["--auto"], ["auto", "int8", "'none'"]),
    (["--dataset", "image_folder:nowhere"], ["nowhere"]),
    (["--out", "nowhere/model.tflite"], ["nowhere", "existing folder"]),
    (["--out", f"{__file__}/model.tflite"], ["test_cli.py", "existing folder"]),
    (["--out", "/proc/model.tflite"], ["/proc"]),
]


@pytest.mark.full
@pytest.mark.parametrize(("options", "parts"), BAD_EXPORT)
def test_bad_export(run_folder, call, options, parts):
    out, _ = run_folder
    shutil.rmtree(out / "export", ignore_errors=True)
    code, _, err = call("export", out, *options)
    assert code == 2
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert [part for part in parts if part not in err] == []
    assert list((out / "export").glob("*")) == []


def test_export_of_no_run(call, tmp_path):
    code, _, err = call("export", tmp_path / "nothing")
    assert code == 2
    assert "nothing" in err
    assert err.count("\n") == 1
