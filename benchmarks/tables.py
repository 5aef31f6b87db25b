"""Reads and writes CSV files and Markdown tables."""

import csv
import io
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from keras_archs.files import atomic_write


def read(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a file. Returns no rows if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a file by rows. Missing columns of a row are left blank."""
    rows = list(rows)
    text = io.StringIO(newline="")
    longest_first = sorted(rows, key=len, reverse=True)  # it defines the order of the columns
    writer = csv.DictWriter(text, list(dict.fromkeys(chain.from_iterable(longest_first))))
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode())


def markdown(head: list[str], cells: Iterable[list[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells)]


def legend(machines: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Gives each machine of a table a letter, so that each row can name its machine.

    Returns:
        The letters by machine, "" for rows without one, and the lines that explain the letters.
    """
    names = dict.fromkeys(filter(None, machines))
    letters = {name: chr(ord("A") + i) for i, name in enumerate(names)}
    return {"": "", **letters}, [f"- Machine {letters[name]}: {name}." for name in names]
