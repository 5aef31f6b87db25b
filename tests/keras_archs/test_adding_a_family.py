"""The worked example of how to add a family, followed word by word in a copy of the packages."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "CONTRIBUTING.md"

# 3x3 and 1x1 convolutions of table 1 with their biases, and a classifier of ten units.
WEIGHTS = {
    "conv1": 9 * 3 * 96 + 96,
    "conv2": 9 * 96 * 96 + 96,
    "conv3": 9 * 96 * 96 + 96,
    "conv4": 9 * 96 * 192 + 192,
    "conv5": 9 * 192 * 192 + 192,
    "conv6": 9 * 192 * 192 + 192,
    "conv7": 9 * 192 * 192 + 192,
    "conv8": 192 * 192 + 192,
    "predictions": 192 * 10 + 10,
}

USE = """
from keras_archs import *
import csv, inspect, sys
import keras_archs
from keras_archs.graph import symbolic

assert keras_archs.__file__.startswith(sys.argv[1])
assert keras_archs.list_models("all*") == ["allcnn"]
assert AllCNN is keras_archs.AllCNN and "AllCNN" in dir(keras_archs)
assert list(inspect.signature(AllCNN).parameters)[0] == "include_top"
assert abs(all_cnn.preprocess_input([[[[255.0] * 3]]])[0, 0, 0, 0] - (1 - 0.485) / 0.229) < 1e-4
with open("docs/published.csv", newline="") as file:
    (row,) = [row for row in csv.DictReader(file) if row["model"] == "AllCNN"]
with symbolic():
    network = AllCNN(classes=10, input_shape=(32, 32, 3))
print(network.count_params() / 1e6, row["parameters_millions"])
print(keras_archs.create_model("all-cnn", classes=10, dropout=0.1).count_params())
keras_archs.create_model("all-cnn", dropout=1)
"""


def blocks(language):
    """The code blocks of a language, in order."""
    found = re.findall(
        rf"^ *```{language}\n(.*?)^ *```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    return [textwrap.dedent(block) for block in found]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the packages with the three changes of the example."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("keras_archs", "training", "tflite_export"):
        shutil.copytree(ROOT / package, folder / package)
    (folder / "docs").mkdir()
    family, imports = blocks("python")
    (row,) = blocks("csv")
    (folder / "keras_archs" / "families" / "all_cnn.py").write_text(family)
    package = folder / "keras_archs" / "__init__.py"
    before = "from .families import attention_resnet"
    package.write_text(package.read_text().replace(before, f"{imports}{before}", 1))
    figures = (ROOT / "docs" / "published.csv").read_text()
    (folder / "docs" / "published.csv").write_text(figures + row)
    return folder


def run(checkout, *command):
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_network_is_found_built_and_measured(checkout):
    ended = run(checkout, "-c", USE, str(checkout))
    parameters = sum(WEIGHTS.values())
    assert ended.stdout.splitlines() == [f"{parameters / 1e6} 1.4", str(parameters)], ended.stderr
    # The last line of the program asks for a rate that the family refuses.
    assert "dropout must be at least 0 and below 1, got 1." in ended.stderr


@pytest.mark.full
def test_the_command_line_lists_it(checkout):
    ended = run(checkout, "-m", "keras_archs", "models", "all*")
    assert (ended.returncode, ended.stdout) == (0, "allcnn\n"), ended.stderr


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_the_example_is_written_as_the_rest(checkout, command):
    files = ["keras_archs/families/all_cnn.py"]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    ended = run(checkout, "-m", "ruff", *command, *settings, *files)
    assert ended.returncode == 0, ended.stdout
