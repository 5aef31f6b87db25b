"""What `pip install` gives: the same as the checkout."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import keras_archs
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


def build(kind, folder, source=ROOT):
    """The one file that a build of this kind from the folder `source` leaves in `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", tmp_path_factory.mktemp("dist"))


@pytest.mark.full
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
    version = keras_archs.__version__
    assert found.stdout.splitlines()[-1] == f"{version} {parameters} 9000 2000"
    assert f"keras_archs-{version}-" in wheel.name
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
    facts = f"keras_archs-{keras_archs.__version__}.dist-info"
    assert tops == {"keras_archs", "training", "tflite_export", facts}
    assert "training/data/fashion_mnist_small/LICENSE" in names
    assert "training/settings/recipes/finetune.yaml" in names
    assert "training/evaluation/report.html.jinja" in names
    assert {
        "keras_archs/display/page.html.jinja",
        "tflite_export/export_page/export_page.html.jinja",
    } <= {*names}
    # Type checkers read the types of a package only where this file lies (PEP 561).
    assert {f"{package}/py.typed" for package in tops - {facts}} <= {*names}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.full
def test_the_source_archive_makes_the_same_wheel_and_holds_no_settings_of_machines(wheel, tmp_path):
    archive = build("sdist", tmp_path / "dist")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("keras_archs-*")
    # Hatchling reads .gitignore when it builds, so it always takes it along.
    assert {path.name for path in source.glob(".*")} == {".gitignore"}
    for path in (
        "tests/conftest.py",
        "docs/published.csv",
        "Makefile",
        "constraints.txt",
        "LICENSE",
    ):
        assert (source / path).is_file()
    with (
        zipfile.ZipFile(wheel) as one,
        zipfile.ZipFile(build("wheel", tmp_path / "w", source)) as two,
    ):
        assert {each.filename: each.CRC for each in one.infolist()} == {
            each.filename: each.CRC for each in two.infolist()
        }
