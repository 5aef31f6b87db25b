"""Every network has the size and the cost that its paper, or an independent count, states."""

import ast
import csv
import math
from pathlib import Path

import pytest

import keras_archs
from keras_archs.graph import symbolic

with (Path(__file__).parents[2] / "docs" / "published.csv").open(newline="") as file:
    PUBLISHED = list(csv.DictReader(file))


def smallest_of_each_family():
    smallest = {}
    for row in PUBLISHED:
        family = keras_archs.registry.find(row["model"]).family.name
        best = smallest.setdefault(family, row)
        if float(row["parameters_millions"]) < float(best["parameters_millions"]):
            smallest[family] = row
    return list(smallest.values())


def measure(row):
    """Millions of trainable parameters, and billions of multiply-adds."""
    pairs = (pair.split("=") for pair in row["arguments"].split())
    arguments = {name: ast.literal_eval(value) for name, value in pairs}
    side = int(row["input"])
    with symbolic():  # takes no memory
        model = keras_archs.create_model(row["model"], input_shape=(side, side, 3), **arguments)
        trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        return trainable / 1e6, keras_archs.profile(model).multiply_adds / 1e9


@pytest.fixture(
    scope="module",
    params=[smallest_of_each_family(), pytest.param(PUBLISHED, marks=pytest.mark.slow)],
    ids=["smallest", "all"],
)
def measured(request):
    return [(row, *measure(row)) for row in request.param]


def deviation(ours: float, printed: str) -> float:
    """Distance beyond the rounding of the printed figure, relative to it."""
    decimals = len(printed.partition(".")[2])
    return max(0, abs(ours - float(printed)) - 0.5000001 * 10**-decimals) / float(printed)


def test_parameters_to_the_last_printed_digit(measured):
    off = {
        (row["model"], row["arguments"]): (parameters, row["parameters_millions"])
        for row, parameters, _ in measured
        if deviation(parameters, row["parameters_millions"])
    }
    assert off == {}


def test_multiply_adds_within_two_percent(measured):
    off = {
        (row["model"], row["arguments"]): (multiply_adds, row["multiply_adds_billions"])
        for row, _, multiply_adds in measured
        if row["multiply_adds_billions"]
        and deviation(multiply_adds, row["multiply_adds_billions"]) > 0.02
    }
    assert off == {}
