"""The matrix of TFLite files (`make tflite-matrix`): its rows, its page and its command."""

import csv
import dataclasses

import keras
import pytest
from typer.testing import CliRunner

from benchmarks.tflite import __main__ as command
from benchmarks.tflite import measure, page
from benchmarks.tflite.measure import Row
from tests.tflite_export import fitted_networks


@pytest.fixture(scope="module")
def data():
    return fitted_networks.images("mobilenet", side=32, fitted=100, tested=20)


@pytest.mark.full
def test_a_row_of_a_network(data):
    model = fitted_networks.network("mobilenet", data, alpha=0.25)
    row = measure.measure(model, "mobilenet", "none", data)
    assert (row.network, row.side, row.kind) == ("mobilenet", 32, "none")
    assert (row.error, row.flex, row.outside_xnnpack, row.open_batch) == ("", "", "", "yes")
    assert row.agreement == 1
    assert row.rms_error < 1e-4
    assert 0 < row.latency_p10_ms <= row.latency_ms <= row.latency_p90_ms


@pytest.mark.full
def test_an_error_is_a_row(data):
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    # TFLite has no operator for this function.
    model = keras.Model(image, keras.ops.erfinv(keras.layers.Dense(10, "softmax")(pooled)))
    row = measure.measure(model, "mobilenet", "none", data)
    assert row.error.startswith("InputError: ")
    assert "\n" not in row.error
    assert row.megabytes is None


@pytest.fixture
def table(tmp_path, monkeypatch):
    for name in ("CSV", "PAGE"):
        monkeypatch.setattr(page, name, tmp_path / getattr(page, name).name)
    return page


FULL = Row(
    "vgg11", 64, "int8", "", 1.5, 12, "2 SOFTMAX", "", "", 0.7, 0.99, 0.2, 0.03, 4.5, 4.25, 5.0,
    "XNNPACK", 300.0, "yes", "", 3.0, "one",
)  # fmt: skip


def test_rows_replace_those_of_the_same_network_and_kind(table):
    for row in (FULL, dataclasses.replace(FULL, kind="none"), Row("mobilenet", 64, "none", "no")):
        table.write(row)
    table.write(dataclasses.replace(FULL, megabytes=2.5))
    rows = table.read()
    # In the order of `list_models` and of the kinds.
    assert [(row.network, row.kind) for row in rows] == [
        ("mobilenet", "none"), ("vgg11", "none"), ("vgg11", "int8")
    ]  # fmt: skip
    assert rows[2] == dataclasses.replace(FULL, megabytes=2.5)
    text = table.PAGE.read_text()
    assert "| vgg11, 64 px | int8 | 2.50 | 12 | 2 SOFTMAX |" in text
    assert "| mobilenet, 64 px | none | no |" in text
    assert "| 4.50 (4.25 to 5.00) | A | 300 | yes |" in text
    assert "| SOFTMAX | none, int8 |" in text


@pytest.mark.full
def test_the_command_writes_rows_as_they_come(table, monkeypatch):
    """A process that dies costs the row that it was at, and no other."""

    def rows(name, kinds):
        yield from (dataclasses.replace(FULL, network=name, kind=kind) for kind in kinds[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_rows", rows)
    app = command.typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, ["mobilenet*", "--kinds", "int8,none"])
    assert result.exit_code != 0
    with table.CSV.open(newline="") as file:
        assert [row["network"] for row in csv.DictReader(file)] == ["mobilenet"]
    seen = []
    monkeypatch.setattr(command, "_rows", lambda name, kinds: seen.append((name, kinds)) or [])
    CliRunner().invoke(app, ["mobilenet", "vgg16", "--kinds", "int8,dynamic", "--missing"])
    assert seen == [("mobilenet", ["dynamic"]), ("vgg16", ["int8"])]
    assert "allowed: none" in CliRunner().invoke(app, ["--kinds", "int7"]).output.replace("\n", "")


@pytest.mark.full
def test_a_worker_that_is_killed_is_a_row(monkeypatch):
    code = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(command, "_command", lambda *_: [command.sys.executable, "-c", code])
    first, second = command._rows("mobilenet", ["none", "int8"])
    assert first.error == "the process ended with code -9"
    assert (first.kind, second.kind) == ("none", "int8")
