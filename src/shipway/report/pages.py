"""Templates of pages, every string in them escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipway.report.formats import clean_text

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["open_template"]


def open_template(name: str) -> Template:
    """Return a template of the report's folder; a name that it does not know is an error.

    Raises:
        jinja2.TemplateError: A bug in the template.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("shipway.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = clean_text
    return environment.get_template(name)
