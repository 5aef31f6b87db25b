"""CSV files of rows, read and replaced as a whole."""

import csv
import io
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from keras_archs.files import atomic_write


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a file by rows; those that lack columns of others are blank there."""
    rows = list(rows)
    text = io.StringIO(newline="")
    longest_first = sorted(rows, key=len, reverse=True)  # its columns are in their order
    writer = csv.DictWriter(text, list(dict.fromkeys(chain.from_iterable(longest_first))))
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode())


def markdown(head: list[str], cells: Iterable[list[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells)]
