"""Numbers as text and tables, for a terminal, a page and a notebook."""

import html
from collections.abc import Iterable, Sequence


def byte_size(count: int) -> str:
    """A number of bytes as `"4.20 MB"`, or `"862.4 kB"` below a megabyte."""
    return f"{count / 1e6:.2f} MB" if abs(count) >= 1e6 else f"{count / 1e3:.1f} kB"


def html_table(head: Iterable[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """An HTML table for a notebook. All texts are escaped."""
    parts = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    for tag, cells in [("th", head), *(("td", row) for row in rows)]:
        parts += ["<tr>", *(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells), "</tr>"]
    return f"<table>{''.join(parts)}</table>"
