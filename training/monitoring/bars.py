"""Bars of the running epoch, in a terminal and in a notebook."""

import html
import sys
import time
from typing import Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

Bar = Any
"""Either of the two below."""


def make_bar(steps: int) -> Bar | None:
    """A bar of so many steps, or None where nothing can be drawn anew, as in a file."""
    console = rich.console.Console(highlight=False, markup=False, emoji=False)
    if console.is_jupyter:
        return NotebookBar(steps)
    # FORCE_COLOR makes rich take a file for a terminal.
    if console.is_interactive and sys.stdout.isatty():
        return TerminalBar(steps, console)
    return None


class TerminalBar:
    """On the last line of a terminal. Lines that are printed, warnings too, stand above it."""

    def __init__(self, steps: int, console: rich.console.Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=console,
            expand=True,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=steps, numbers="")

    def show(self, epoch: str, done: int, numbers: str) -> None:
        self._progress.update(self._task, description=epoch, completed=done, numbers=numbers)
        self._progress.start()  # with the first of it, which may stand there for long

    def print(self, line: str) -> None:
        self._progress.print(line, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class NotebookBar:
    """In the output of a cell, above the lines that follow. That of rich needs ipywidgets."""

    SECONDS = 0.2
    """From one picture of it to the next, at least."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._output: Any = None
        self._shown_at = 0.0

    def show(self, epoch: str, done: int, numbers: str) -> None:
        between = 0 < done < self._steps
        if between and time.monotonic() - self._shown_at < self.SECONDS:
            return
        self._shown_at = time.monotonic()
        words = html.escape(numbers)
        self._draw(
            {
                "text/plain": f"{epoch}  {done}/{self._steps}  {numbers}",
                "text/html": f'{epoch} <progress value="{done}" max="{self._steps}"></progress>'
                f" {done}/{self._steps} {words}",
            }
        )

    def print(self, line: str) -> None:
        print(line, flush=True)

    def close(self) -> None:
        if self._output:
            self._draw({"text/plain": "", "text/html": ""})

    def _draw(self, content: dict[str, str]) -> None:
        if self._output:
            self._output.update(content, raw=True)
        else:
            from IPython.display import display  # noqa: PLC0415  # there in every notebook

            self._output = display(content, raw=True, display_id=True)
