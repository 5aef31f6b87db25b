"""The page of an exported file: what it costs and how to call it."""

from typing import Any

import jinja2

from .pages import render_page
from .tflite_export import Conversion, Snippets, read_metadata
from .tflite_export.images import PICTURES

_MARK = '<meta name="generator" content="keras-archs export">'


def export_page(name: str, made: Conversion) -> str:
    """The figures, the time of the operators, and programs that call the file, as HTML.

    Nothing, if none of it is known.

    Args:
        name: of the file.
        made: what it holds.
    """
    values: dict[str, Any] = dict.fromkeys(("figures", "profile", "programs"))
    values["paragraphs"] = []
    if report := made.report:
        values |= {"figures": report.row(), "profile": report.profile}
        texts = report.conditions(), report.speed(), report.price()
        values["paragraphs"] = [text for text in texts if text]
    if (facts := read_metadata(made.content)) and facts.image_shape[-1] in PICTURES:
        programs = Snippets.of(made.content, name)
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
    """Whether a text is a page that an export has written."""
    return _MARK in text
