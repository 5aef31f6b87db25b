"""Renders an HTML page as one file, without scripts and without external resources."""

from typing import Any

import jinja2


def render_page(loader: jinja2.BaseLoader, template: str, **values: Any) -> str:
    """Renders a template, which extends `page.html.jinja`, the page with the style.

    Args:
        loader: finds the template.
        template: name of its file.
        **values: the values that the template names. All are escaped, since names of classes and
            folders can hold any text.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([loader, jinja2.PackageLoader(__package__, "")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**values)
