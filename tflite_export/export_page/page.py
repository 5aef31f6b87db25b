"""The HTML page of an exported file: its figures, and programs that call it."""

from typing import Any

import jinja2

from keras_archs.display.pages import render_page

from ..conversion import Conversion
from ..runtime.images import PICTURES
from ..runtime.metadata import read_metadata
from .snippets import Snippets

_MARK = '<meta name="generator" content="keras-archs export">'


def export_page(name: str, conversion: Conversion) -> str:
    """Renders the page of an exported file.

    The page shows the figures of the report, the time of each operator if it was measured, and the
    programs of `Snippets`. A file without a report has no figures. A file without metadata, or with
    other than 1 or 3 channels, has no programs.

    Args:
        name: name of the file, such as model.tflite.
        conversion: the file and its report.

    Returns:
        HTML, or "" if there are neither figures nor programs.
    """
    values: dict[str, Any] = dict.fromkeys(("figures", "profile", "programs"))
    values["paragraphs"] = []
    if report := conversion.report:
        values |= {"figures": report.row(), "profile": report.profile}
        texts = report.conditions(), report.speed(), report.price()
        values["paragraphs"] = [text for text in texts if text]
    metadata = read_metadata(conversion.content)
    if metadata and metadata.image_shape[-1] in PICTURES:
        programs = Snippets.of(conversion.content, name)
        values["programs"] = {
            "Python": programs.python,
            "C++": programs.cpp,
            "Kotlin": programs.kotlin,
        }
    if not (values["figures"] or values["programs"]):
        return ""
    loader = jinja2.PackageLoader(__package__, "")
    return render_page(loader, "export_page.html.jinja", name=name, **values)


def is_export_page(text: str) -> bool:
    """Returns whether a text is a page that `export_page` rendered."""
    return _MARK in text
