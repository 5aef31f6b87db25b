"""What a type checker makes of a user's program, by the types that come with the packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FINE = """
import keras_archs
from keras_archs import *

model = keras_archs.VGG16(batch_norm=True, classes=10, input_shape=(64, 64, 3))
small = MobileNet((96, 96, 3), alpha=0.5, weights="imagenet")
features = ResNetRS50(include_top=False, pooling="avg", drop_connect_rate=0.1)
pixels = keras_archs.mobilenet.preprocess_input([])
"""

# Each line with a part of what mypy says about it.
WRONG = {
    "keras_archs.VGG16(batchnorm=True)": 'Unexpected keyword argument "batchnorm"; did you mean',
    "keras_archs.VGG16(clases=10)": 'Unexpected keyword argument "clases"; did you mean "classes"?',
    "keras_archs.MobileNet(0.5)": 'Argument 1 to "MobileNet" has incompatible type "float"',
    'keras_archs.EfficientNetB0(classes="10")': 'Argument "classes" has incompatible type "str"',
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """What mypy says about the program and about each wrong line, by file and line."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "fine.py").write_text(FINE)
    (folder / "wrong.py").write_text("\n".join(["import keras_archs", *WRONG]))
    command = [sys.executable, "-m", "mypy", "--no-color-output", "--cache-dir", folder / "cache"]
    ended = subprocess.run(
        [*command, "fine.py", "wrong.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    lines = [line.split(": error: ") for line in ended.stdout.splitlines() if ": error: " in line]
    return {tuple(place.split(":")): message for place, message in lines}


def test_a_program_without_a_mistake_passes(errors):
    assert [place for place in errors if place[0] == "fine.py"] == []


@pytest.mark.parametrize("line", WRONG)
def test_a_mistake_is_named(errors, line):
    number = 2 + list(WRONG).index(line)
    assert WRONG[line] in errors["wrong.py", str(number)]
