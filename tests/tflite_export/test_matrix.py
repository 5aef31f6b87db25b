"""A network of each family as a file of every kind: what is in it, and what it computes.

`make tflite-matrix` does the same for all networks; its table is tested here as well.
"""

import csv
import dataclasses
import functools

import numpy as np
import pytest
from typer.testing import CliRunner

from docs.tflite import __main__ as command
from docs.tflite import measure, networks, page
from docs.tflite.measure import Row
from keras_archs.registry import find
from tflite_export.classifier import Classifier
from tflite_export.lowering import KINDS, lower
from tflite_export.operators import operators

CASES = {
    "vgg": ("vgg11", {"batch_norm": True}),
    "inception": ("inceptionv1", {"batch_norm": True}),
    "resnet": ("resnet18v2", {}),
    "mobilenet": ("mobilenetv3small", {"alpha": 0.75}),
    "efficientnet": ("efficientnet", {"depth_coefficient": 0.3}),
    "attention": ("resnet18", {"attention": {2: "se", 3: "gc", 4: "non_local"}}),
}
# What XNNPACK leaves to the interpreter; docs/tflite.md says why.
LEFT = {
    "dynamic": {"DEPTHWISE_CONV_2D"},
    "none": {"MAX_POOL_2D"},
    "int8": {
        *("ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "EXP", "GELU", "LOG", "MAX_POOL_2D", "RELU"),
        *("RSQRT", "SOFTMAX"),
    },
    "weight_int4": {"CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED"},
}
# Bounds of the root of the mean square of the logits' errors, in deviations of the logits, and of
# the share of images that stay in their class.
BOUNDS = {
    "none": (1e-4, 1.0),
    "float16": (0.02, 0.95),
    "weight_int8": (0.15, 0.9),
    "dynamic": (0.25, 0.9),
    "int16x8": (0.15, 0.9),
    "int8": (0.4, 0.8),
    "weight_int4": (1.5, 0.3),
}
# One network of the fast ones as all kinds, the others as those that differ most; the rest of the
# kinds in `make test-slow`.
FAST = {("mobilenet", kind) for kind in KINDS} | {
    (family, kind) for family in CASES for kind in ("none", "int8")
}


@functools.cache
def of_family(family):
    name, arguments = CASES[family]
    data = networks.images(name, side=32, fitted=200, tested=40)
    return networks.network(name, data, **arguments), name, data


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param(family, kind, marks=() if (family, kind) in FAST else pytest.mark.slow)
        for family in CASES
        for kind in KINDS
    ],
)
def test_each_family_as_each_kind(family, kind, monkeypatch):
    # An open batch takes as long again; `make tflite-matrix` has it in int8 as well.
    opened = kind == "none"
    monkeypatch.setattr(measure, "OPEN_KINDS", (kind,) * opened)
    model, name, data = of_family(family)
    row = measure.measure(model, name, kind, data)
    assert not row.error
    assert not row.flex
    if kind != "int16x8":  # of which the delegates have nothing
        left = {each.split()[1] for each in row.outside_xnnpack.split(", ") if each}
        assert left <= LEFT.get(kind, set())
        assert row.outside_gpu == ""
    error, agreement = BOUNDS[kind]
    assert row.rms_error < error
    assert row.agreement >= agreement
    assert row.keras_top1 > 0.4, "a network that sees nothing would be no test"
    assert row.open_batch == ("yes" if opened else "")


# Of what the families above have beside: in float and in int8, without the table's other columns.
MORE = {
    "mobilenet": {"alpha": 0.25},
    "mobilenetv2": {"alpha": 0.35},
    "mobilenetv4convsmall": {},
}
MORE_SLOW = (
    *("vgg16", "inceptionv1", "inceptionv2", "inceptionv3", "inceptionv4", "inceptionresnetv2"),
    *("xception", "resnet18d", "resnet50", "resnet50v2", "resnext50", "wideresnet50"),
    *("seresnext50", "resnetrs50", "mobilenetv3large", "mobilenetv4hybridmedium"),
    *("efficientnetlite0", "efficientnetb0", "efficientnetv2b0", "nonlocalresnet50"),
    *("gcresnet50", "cbamresnet50", "ecaresnet50", "botnet50", "aaresnet50", "coatnet0"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MORE, *MORE_SLOW])
def test_more_networks_in_float_and_in_integers(name):
    side = max(32, find(name).family.min_size)
    data = networks.images(name, side, fitted=128, tested=20)
    model = networks.network(name, data, **MORE.get(name, {}))
    expected = model.predict(data.test, verbose=0)
    for kind in ("none", "int8"):
        calibration = data.train[:50] if kind == "int8" else None
        content = lower(model, kind, representative=calibration)
        found = operators(content)
        assert not any(each.custom for each in found)
        assert {each.name for each in found if not each.xnnpack} <= LEFT.get(kind, set())
        assert all(each.gpu for each in found)
        error = Classifier(content).predict(data.test) - expected
        # Smaller images, fewer to calibrate with: half as much again as above.
        assert np.sqrt(np.mean(np.square(error))) < 1.5 * BOUNDS[kind][0] * expected.std()


def test_an_error_is_a_row(monkeypatch):
    def lower(*_, **__):
        raise ValueError("one line\nand another")

    monkeypatch.setattr(measure, "lower", lower)
    model, name, data = of_family("mobilenet")
    row = measure.measure(model, name, "dynamic", data)
    assert row.error == "ValueError: one line"
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
    assert "| 4.50 (4.25 to 5.00) | 300 | yes |" in text
    assert "| SOFTMAX | none, int8 |" in text


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


def test_a_worker_that_is_killed_is_a_row(monkeypatch):
    code = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(command, "_command", lambda *_: [command.sys.executable, "-c", code])
    first, second = command._rows("mobilenet", ["none", "int8"])
    assert first.error == "the process ended with code -9"
    assert (first.kind, second.kind) == ("none", "int8")
