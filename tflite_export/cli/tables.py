"""Tables that the commands print."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from keras_archs import tflite_export


def print_table(table: Table) -> None:
    """Prints a table without markup: a class or a folder may have the name `[red]`."""
    Console(markup=False, emoji=False, highlight=False).print(table)


def print_training(out: Path, metrics: dict[str, Any]) -> None:
    """Prints the metrics of a finished run in the folder `out`."""
    title = f"{metrics['model']} on {metrics['dataset']}"
    columns = Column(), Column(overflow="fold")  # paths have no spaces for line breaks
    table = Table(*columns, title=title, show_header=False)
    table.add_row("test top-1", f"{metrics['test_top1']:.2%} of {metrics['test_images']:,} images")
    table.add_row("parameters", f"{metrics['parameters'] / 1e6:.2f} million")
    table.add_row("multiply-adds", f"{metrics['multiply_adds'] / 1e6:.1f} million per image")
    speed = f"{metrics['training_images_per_second']:,.0f} images/s"
    table.add_row("training", f"{metrics['training_seconds']:.0f} s, {speed}")
    table.add_row("run", str(out))
    table.add_row("report", str(out / "report.html"))
    print_table(table)


def print_reports(folder: Path, reports: Sequence[tflite_export.Report]) -> None:
    """Prints the reports of TFLite files in a folder, and the cost of layers kept in float."""
    table = Table(
        *(Column(name, overflow="fold") for name in reports[0].row()),
        title=f"TFLite files in {folder}",
        caption=reports[0].conditions(),
        caption_justify="left",
    )
    for report in reports:
        table.add_row(*report.row().values())
    print_table(table)
    for report in reports:
        if report.kept_float:
            print(report.price())
