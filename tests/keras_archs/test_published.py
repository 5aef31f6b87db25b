"""Every network has the size and the cost that its paper, or an independent count, states."""

import pytest

import keras_archs
from docs import models


@pytest.fixture(scope="module")
def measured():
    return [(row, models.measure(row)) for row in models.published()]


def deviation(ours: float, printed: str) -> float:
    """Distance beyond the rounding of the printed figure, relative to it."""
    decimals = len(printed.partition(".")[2])
    return max(0, abs(ours - float(printed)) - 0.5000001 * 10**-decimals) / float(printed)


def test_parameters_to_the_last_printed_digit(measured):
    off = {
        (row.model, row.arguments): (ours.parameters_millions, row.parameters_millions)
        for row, ours in measured
        if deviation(ours.parameters_millions, row.parameters_millions)
    }
    assert off == {}


def test_multiply_adds_within_two_percent(measured):
    off = {
        (row.model, row.arguments): (ours.multiply_adds_billions, row.multiply_adds_billions)
        for row, ours in measured
        if row.multiply_adds_billions
        and deviation(ours.multiply_adds_billions, row.multiply_adds_billions) > 0.02
    }
    assert off == {}


def test_every_network_has_a_row(measured):
    assert {row.model.lower() for row, _ in measured} == set(keras_archs.list_models())


def test_the_table_in_the_docs_is_up_to_date(measured):
    assert (models.FOLDER / "models.md").read_text() == models.table(measured)
