"""The page of all networks (`make docs`)."""

import pytest

import keras_archs
from benchmarks import models


def test_every_network_has_a_row():
    assert {row.model.lower() for row in models.published()} == set(keras_archs.list_models())


@pytest.mark.full
@pytest.mark.parametrize("step", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_the_page_is_up_to_date(step):
    rows = models.published()
    table = models.table([(row, models.measure(row)) for row in rows[::step]])
    page = (models.FOLDER / "models.md").read_text().splitlines()
    assert [line for line in table.splitlines() if line not in page] == []
    assert len(page) == len(models.HEAD.splitlines()) + len(rows)
