"""What `pip install` gives: the same as the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.tflite_export.files import NAMES, file_of, metadata
from tflite_export import attach

ROOT = Path(__file__).parent.parent

USE = """
import keras_archs, tflite_export, training, sys
assert all(m.__file__.startswith(sys.argv[1]) for m in (keras_archs, tflite_export, training))
model = keras_archs.MobileNet(alpha=0.25, input_shape=(32, 32, 1), classes=10)
data = training.open_dataset("fashion_mnist_small", data_dir=sys.argv[2])
print(keras_archs.__version__, model.count_params(), len(data.train), len(data.test))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


def test_wheel_installed_elsewhere_builds_networks_and_has_the_images(wheel, tmp_path):
    place = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", place, wheel], check=True)
    found = subprocess.run(
        [sys.executable, "-c", USE, place, tmp_path / "data"],
        env={"PYTHONPATH": str(place), "PATH": "", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    # 218,544 weights below the classifier (MobileNet's table 1 at a quarter of the width, one
    # input channel) and 257 for each class; a tenth of the training images is for validation.
    parameters = 218_544 - 2 * 8 * 9 + 257 * 10
    assert found.stdout.splitlines()[-1] == f"0.1.0 {parameters} 9000 2000"
    assert (place / "bin" / "keras-archs").exists()


@pytest.mark.slow
def test_a_file_is_run_where_only_litert_numpy_and_pillow_are_installed(wheel, tmp_path):
    """An environment of its own: the stand-in of it is in tests/tflite_export/test_predict.py."""
    Image.new("RGB", (40, 30)).save(tmp_path / "cat.jpg")
    (tmp_path / "model.tflite").write_bytes(attach(file_of("int8"), metadata(quantize="int8")))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    pip = [tmp_path / "env" / "bin" / "pip", "install", "--quiet"]
    packages = ["-c", ROOT / "constraints.txt", "ai-edge-litert", "pillow"]
    subprocess.run([*pip, *packages], check=True)
    subprocess.run([*pip, "--no-deps", wheel], check=True)

    def run(*words):
        command = [tmp_path / "env" / "bin" / "keras-archs", *words]
        return subprocess.run(
            command, env={"PATH": ""}, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    found = run("predict", "model.tflite", "cat.jpg")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[0] == "cat.jpg"
    assert {line.split()[1] for line in found.stdout.splitlines()[1:]} == {*NAMES}
    for words in (["predict", "model.tflite"], ["train"], ["report", "run"], ["recipes"]):
        refused = run(*words)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    for words in (["--help"], ["train", "--help"], ["predict", "--help"], ["models"]):
        answered = run(*words)
        assert (answered.returncode, answered.stderr) == (0, "")
    assert "Only predict and models" in run("--help").stdout


def test_wheel_holds_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"keras_archs", "training", "tflite_export", "keras_archs-0.1.0.dist-info"}
    assert "training/data/fashion_mnist_small/LICENSE" in names
    assert "training/recipes/finetune.yaml" in names
    assert "training/reporting/report.html.jinja" in names
    assert {"keras_archs/page.html.jinja", "keras_archs/export_page.html.jinja"} <= {*names}
    assert not [name for name in names if "__pycache__" in name]
