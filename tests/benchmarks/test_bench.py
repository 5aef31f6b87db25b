"""The benchmark itself: it runs, and its report says what was measured."""

import csv
import dataclasses
import gzip
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tables
from benchmarks.bench import report
from benchmarks.bench.race import ratio
from benchmarks.bench.report import Row
from benchmarks.fashion_mnist import variants
from tests.training.tiny_net import registered
from training.data.fashion_mnist_small.idx import format_idx

ROOT = Path(__file__).parents[2]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_quick_run_compares_and_writes_nothing():
    before = {path: path.read_bytes() for path in (ROOT / "docs").glob("benchmarks.*")}
    finished = bench("train", "--quick", "--rounds", "1")
    assert finished.returncode == 0, finished.stderr
    lines = [line.split("|") for line in finished.stdout.splitlines() if line.startswith("|")]
    ours = [line for line in lines if line[4].strip() == "keras.applications"]
    assert {line[1].strip() for line in ours} == {"MobileNet", "MobileNet, memory"}
    for line in ours:
        # The ratio is of the two values beside it: images a second, but megabytes of memory.
        assert float(line[3].split()[0]) > 0
        assert float(line[6]) > 0
    assert {path: path.read_bytes() for path in (ROOT / "docs").glob("benchmarks.*")} == before


@pytest.mark.slow
def test_files_are_compared_in_float_and_in_integers():
    finished = bench("export", "--quick", "--rounds", "1")
    assert finished.returncode == 0, finished.stderr[-3000:]
    lines = [line.split("|") for line in finished.stdout.splitlines() if line.startswith("|")]
    settings = [line[2].strip() for line in lines]
    measured = ["size", "latency, 1 thread", "latency, 2 threads"]
    assert settings == [f"{kind}, {each}" for kind in ("float32", "int8") for each in measured]
    for line in lines:
        ours, theirs, ratio = (float(line[cell].split()[0]) for cell in (3, 5, 6))
        assert ours > 0
        if "size" in line[2]:
            assert ratio == pytest.approx(ours / theirs, abs=0.01)
            assert ratio <= 1


@pytest.mark.full
@pytest.mark.parametrize(
    ("section", "words"), [("tarin", ["'tarin'", "train"]), ("gpu", ["gpu", "not find a GPU"])]
)
def test_sections_that_cannot_run_are_named(section, words):
    finished = bench(section)
    assert finished.returncode == 2
    for word in words:
        assert word in finished.stderr


def test_ratio_is_the_median_of_the_rounds():
    assert ratio([2, 9, 4], [1, 3, 4]) == 2


def test_a_run_replaces_its_sections_and_keeps_the_others(tmp_path, monkeypatch):
    for name in ("CSV", "PICTURE", "PAGE"):
        monkeypatch.setattr(report, name, tmp_path / getattr(report, name).name)
    old = Row(
        "build", "VGG16", "", 1.0, "s", "keras.applications", 2.0, 2.0, machine="one", rounds="3"
    )
    train = Row("train", "VGG16", "float32", 3.0, "images/s", "timm", 2.0, 1.5, 0.5, "one", "3")
    report.write(old)
    report.write(train)
    report.write(dataclasses.replace(train, ours=4.0, ratio=2.0, machine="two", rounds="5"))
    page = report.PAGE.read_text()
    assert "| VGG16 | float32 | 4 images/s | timm | 2 | 2.00 | 50% |" in page
    assert "| VGG16 |  | 1 s | keras.applications | 2 | 2.00 |" in page
    assert "1.50" not in page
    assert page.index("one; 3 rounds.") < page.index("two; 5 rounds.")
    assert report.PICTURE.read_bytes().startswith(b"\x89PNG")
    assert len(report.CSV.read_text().splitlines()) == 3


def fashion_mnist(*words):
    if not FASHION_MNIST.is_dir():
        pytest.skip("needs Debian's dataset-fashion-mnist")
    command = [sys.executable, "-m", "benchmarks.fashion_mnist", *words, "--quick"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.mark.slow
def test_race_on_few_images():
    printed = fashion_mnist("race")
    rows = [line for line in printed.splitlines() if line.startswith("target ")]
    assert [row.split(",")[0] for row in rows] == ["target 0.93", "target 0.94"]
    assert "over" in rows[1], "few images do not teach that much"


@pytest.mark.slow
def test_int8_on_few_images():
    printed = fashion_mnist("int8-mobilenet-0.25", "--epochs", "1")
    assert "network mobilenet-0.25, seed 0, pixels 64, epochs 1, keras_top1 0." in printed
    (share,) = re.findall(r"qat_within_a_step ([\d.]+)", printed)
    assert float(share) > 0.95


def test_a_table_takes_rows_that_lack_its_new_columns(tmp_path):
    tables.write(tmp_path / "rows.csv", [{"key": "old", "machine": "a"}])
    new = {"key": "new", "steps": 1, "machine": "b"}
    tables.write(tmp_path / "rows.csv", [*tables.read(tmp_path / "rows.csv"), new])
    old = {"key": "old", "steps": "", "machine": "a"}
    assert tables.read(tmp_path / "rows.csv") == [old, {**new, "steps": "1"}]
    tables.write(tmp_path / "rows.csv", [{"key": "a", "steps": 1}, {"key": "b", "epochs": 2}])
    assert tables.read(tmp_path / "rows.csv") == [
        {"key": "a", "steps": "1", "epochs": ""},
        {"key": "b", "steps": "", "epochs": "2"},
    ]


def test_a_folder_for_the_tables_that_is_not_there_is_refused(tmp_path, monkeypatch, capsys):
    missing = str(tmp_path / "missing")
    monkeypatch.setattr(sys, "argv", ["fashion_mnist", "ResNet", "--out", missing])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks.fashion_mnist", run_name="__main__")
    assert ended.value.code == 2
    # The box around it breaks the line where the name of the folder lets it.
    assert "does not exist" in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.full
def test_a_family_and_the_best_network_come_to_tables_and_a_page(tmp_path, monkeypatch):
    """By a network that is quick to trace, on noise."""
    for split, count in {"train": 100, "t10k": 40}.items():
        images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
        arrays = {"images-idx3": images, "labels-idx1": np.arange(count, dtype="uint8") % 10}
        for kind, array in arrays.items():
            path = tmp_path / f"{split}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(format_idx(array)))
    tiny = dataclasses.replace(variants.LONG, model="tinynet", image_size=32)
    monkeypatch.setattr(variants, "LONG", tiny)
    monkeypatch.setitem(variants.VARIANTS, "ResNet", tiny)
    out = tmp_path / "docs"
    out.mkdir()
    words = ["ResNet", "best", "--quick", "--epochs", "1", "--source", tmp_path, "--out", out]
    monkeypatch.setattr(sys, "argv", ["fashion_mnist", *map(str, words)])
    docs = {path: path.read_bytes() for path in (ROOT / "docs").glob("fashion_mnist*.*")}
    with registered(), pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks.fashion_mnist", run_name="__main__")
    assert not ended.value.code
    assert {path: path.read_bytes() for path in docs} == docs
    assert {path.name for path in out.iterdir()} == {"fashion_mnist.csv", "fashion_mnist.md"}
    with (out / "fashion_mnist.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["family"] for row in rows] == ["ResNet", "best"]
    page = (out / "fashion_mnist.md").read_text()
    for row in rows:
        assert row["epochs"] == "1"
        right = float(row["test_top1"]) * 40
        assert right == pytest.approx(round(right), abs=1e-9), "a share of 40 images"
        assert f"| {row['family']} | tinynet | 1 | {row['test_top1']} |" in page
