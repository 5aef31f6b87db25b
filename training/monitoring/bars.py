"""Progress bars of the current epoch, in a terminal and in a notebook."""

import html
import sys
import time
from typing import Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

Bar = Any
"""A TerminalBar or a NotebookBar."""


def make_bar(steps: int) -> Bar | None:
    """Makes a bar of `steps` steps, or returns None if the output cannot be redrawn (a file)."""
    console = rich.console.Console(highlight=False, markup=False, emoji=False)
    if console.is_jupyter:
        return NotebookBar(steps)
    # With FORCE_COLOR, rich treats a file as a terminal.
    if console.is_interactive and sys.stdout.isatty():
        return TerminalBar(steps, console)
    return None


class TerminalBar:
    """A bar on the last line of a terminal. Printed lines and warnings appear above the bar."""

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
        self._progress.start()  # only now, because the first step can take long

    def print(self, line: str) -> None:
        self._progress.print(line, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class NotebookBar:
    """A bar in the output of a notebook cell, above later lines. Rich's bar needs ipywidgets."""

    SECONDS = 0.2
    """Minimum time between updates."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._output: Any = None
        self._shown_at = 0.0

    def show(self, epoch: str, done: int, numbers: str) -> None:
        in_progress = 0 < done < self._steps
        if in_progress and time.monotonic() - self._shown_at < self.SECONDS:
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
            from IPython.display import display  # noqa: PLC0415  # installed in every notebook

            self._output = display(content, raw=True, display_id=True)
