"""`keras-archs predict`: what it prints, what it refuses, and that it needs next to nothing."""

import inspect
import io
import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

import tflite_export
from tests.tflite_export.files import NAMES, file_of, metadata
from tflite_export import Classifier, attach
from tflite_export.cli.main import main
from tflite_export.runtime.images import read_image

# What a user of a file need not have installed: importing any of these fails. `keras_archs` is
# there, for the package brings it, but cannot be imported without Keras.
MISSING = ["tensorflow", "keras", "typer", "rich", "pydantic", "matplotlib", "yaml", "jinja2"]
WITHOUT = f"""
import sys
for name in {MISSING}:
    sys.modules[name] = None
from tflite_export.cli.main import main
main()
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def predict(tmp_path):
    """Runs the command in the test's folder; returns its exit code, stdout and stderr."""

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT, "predict", *map(str, arguments)],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def folder(tmp_path):
    """A file of each kind and two pictures."""
    for kind, changes in {
        "none": {},
        "int8": {"probabilities": False, "class_names": None},
    }.items():
        content = attach(file_of(kind), metadata(quantize=kind, **changes))
        (tmp_path / f"{kind}.tflite").write_bytes(content)
    numbers = np.random.default_rng(0)
    for name, shape in {"cat.jpg": (40, 30, 3), "dog.png": (24, 24)}.items():
        Image.fromarray(numbers.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "bare.tflite").write_bytes(file_of("none"))
    (tmp_path / "half.tflite").write_bytes((tmp_path / "none.tflite").read_bytes()[:5000])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        facts = json.loads(archive.read("keras_archs.json"))
    del facts["crc32"]  # of another network
    (tmp_path / "short.tflite").write_bytes(file_of("none"))
    with zipfile.ZipFile(tmp_path / "short.tflite", "a") as archive:
        archive.writestr("keras_archs.json", json.dumps(facts))
        archive.writestr("labels.txt", "lying\nstanding\n")
    (tmp_path / "text.jpg").write_text("no image")
    return tmp_path


def scores(folder, kind, picture):
    classifier = Classifier(folder / f"{kind}.tflite")
    image = read_image(folder / picture, classifier.image_shape)
    return classifier.predict(classifier.metadata.preprocess(image[None]))[0]


def test_prints_the_best_classes_of_each_picture(predict, folder):
    code, out, err = predict("none.tflite", "cat.jpg", "dog.png", "--top", "2", "--threads", "2")
    assert (code, err) == (0, "")
    expected = []
    for picture in ("cat.jpg", "dog.png"):
        row = scores(folder, "none", picture)
        expected.append(picture)
        expected += [f"{row[i]:.2%}  {NAMES[i]}" for i in np.argsort(-row)[:2]]
    assert [line.strip() for line in out.splitlines()] == expected


def test_prints_numbers_for_names_and_turns_logits_into_probabilities(predict, folder):
    code, out, _ = predict("int8.tflite", "cat.jpg")
    assert code == 0
    shares = [float(number) for number in re.findall(r"([\d.]+)%  class \d", out)]
    row = scores(folder, "int8", "cat.jpg")
    expected = np.sort(np.exp(row) / np.exp(row).sum())[::-1]
    np.testing.assert_allclose(shares, 100 * expected, atol=0.01)


def test_logits_for_sigmoids_go_through_sigmoids(predict, folder):
    """A class has its own probability: they need not add up to one."""
    logits = Classifier(folder / "int8.tflite").predict
    facts = metadata(quantize="int8", probabilities=False, activation="sigmoid")
    content = attach(file_of("int8"), facts)
    (folder / "sigmoids.tflite").write_bytes(content)
    code, out, _ = predict("sigmoids.tflite", "cat.jpg")
    image = facts.preprocess(read_image(folder / "cat.jpg", facts.image_shape)[None])
    expected = dict(zip(NAMES, 100 / (1 + np.exp(-logits(image)[0])), strict=True))
    found = {name: float(share) for share, name in re.findall(r"([\d.]+)%  (\w+)", out)}
    assert code == 0
    assert found == pytest.approx(expected, abs=0.01)


def test_a_reader_that_has_enough_ends_it_quietly(folder):
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT, "predict", "none.tflite", "cat.jpg"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.tflite missing.jpg", "'missing.jpg' cannot be read: No such file"),
        ("none.tflite cat.jpg text.jpg", "'text.jpg' is not an image"),
        ("missing.tflite cat.jpg", "'missing.tflite' cannot be read: No such file"),
        ("half.tflite cat.jpg", "'half.tflite') is not a working TFLite file"),
        ("cat.jpg cat.jpg", "'cat.jpg') is not a working TFLite file"),
        ("bare.tflite cat.jpg", "'bare.tflite' has no metadata about its preprocessing"),
        ("short.tflite cat.jpg", "'short.tflite' is damaged: it has 2 class names for 4 classes"),
        ("none.tflite", "required: IMAGE"),
        ("none.tflite cat.jpg --top 0", "--top: must be a positive integer, got '0'"),
        ("none.tflite cat.jpg --threads two", "--threads: must be a positive integer"),
        ("none.tflite cat.jpg --best", "--best"),
    ],
)
def test_bad_input_ends_in_one_line(predict, folder, arguments, message):  # noqa: ARG001
    code, out, err = predict(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


def test_help(predict):
    code, out, _ = predict("--help")
    assert code == 0
    for word in ("MODEL.tflite", "IMAGE", "--top", "--threads", "pillow"):
        assert word in out


def test_running_a_file_imports_nothing_that_makes_one():
    program = (
        "import sys, tflite_export.runtime.classifier, tflite_export.export_page.snippets\n"
        "assert not {'keras', 'tensorflow', 'keras_archs'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)


def test_the_package_has_all_names_though_it_imports_none_at_first():
    assert {*tflite_export.__all__} <= {*dir(tflite_export)}
    for name in tflite_export.__all__:
        assert not inspect.ismodule(getattr(tflite_export, name))
    with pytest.raises(AttributeError, match="no attribute 'convrt'"):
        tflite_export.convrt  # noqa: B018


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--help", 0, ["predict", "Classify images"]),
        ("predict none.tflite cat.jpg", 0, ["cat.jpg", "%"]),
        ("predict none.tflite dog.png --top 0", 2, ["Error: ", "--top"]),
        ("predict --help", 0, ["MODEL.tflite", "--threads"]),
    ],
)
def test_the_whole_command_line_has_it_as_well(folder, monkeypatch, capfd, arguments, code, words):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["keras-archs", *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = "".join(capfd.readouterr())
    assert (stop.value.code or 0) == code
    assert [word for word in words if word not in printed] == []
