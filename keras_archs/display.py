"""Figures as texts and tables, for a terminal, a page and a notebook."""

import html
from collections.abc import Iterable, Sequence


def byte_size(count: int) -> str:
    """A number of bytes as `"4.20 MB"`, or below a megabyte as `"862.4 kB"`."""
    return f"{count / 1e6:.2f} MB" if abs(count) >= 1e6 else f"{count / 1e3:.1f} kB"


def html_table(head: Iterable[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table for the cell of a notebook. All texts are escaped."""
    parts = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    for tag, cells in [("th", head), *(("td", row) for row in rows)]:
        parts += ["<tr>", *(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells), "</tr>"]
    return f"<table>{''.join(parts)}</table>"
