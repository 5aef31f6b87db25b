"""Every network has the size and the cost that its paper, or an independent count, states."""

import pytest

import keras_archs
from docs import models


def smallest_of_each_family():
    smallest: dict[str, models.Published] = {}
    for row in models.published():
        family = keras_archs.registry.find(row.model).family.name
        best = smallest.setdefault(family, row)
        if float(row.parameters_millions) < float(best.parameters_millions):
            smallest[family] = row
    return list(smallest.values())


@pytest.fixture(
    scope="module",
    params=[smallest_of_each_family, pytest.param(models.published, marks=pytest.mark.slow)],
    ids=["smallest", "all"],
)
def measured(request):
    return [(row, models.measure(row)) for row in request.param()]


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


def test_every_network_has_a_row():
    assert {row.model.lower() for row in models.published()} == set(keras_archs.list_models())


def test_the_table_in_the_docs_is_up_to_date(measured):
    page = (models.FOLDER / "models.md").read_text()
    table = models.table(measured)
    if len(measured) == len(models.published()):
        assert page == table
    else:
        lines = page.splitlines()
        assert [line for line in table.splitlines() if line not in lines] == []
        assert len(lines) == len(models.HEAD.splitlines()) + len(models.published())
