"""Pages for any browser: one file each, without scripts and without anything from elsewhere."""

from typing import Any

import jinja2


def render_page(loader: jinja2.BaseLoader, template: str, **values: Any) -> str:
    """The page that a template makes of values; it extends `page.html.jinja`, which has the style.

    Args:
        loader: finds the template.
        template: name of its file.
        **values: what it names. Names of classes and folders are anybody's text: all is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([loader, jinja2.PackageLoader(__package__, "")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**values)
