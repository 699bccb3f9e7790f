"""HTML from templates: all values are escaped, and control characters are replaced by visible escapes."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from modalign.report.text import one_line


def render(template: str, **values: Any) -> Markup:
    """The template of that name with these values."""
    return Markup(templates_of("modalign.report").get_template(template).render(**values))


@cache
def templates_of(package: str) -> Environment:
    """The templates of a package, in its folder ``templates``.

    Parameters
    ----------
    package : str
        Its dotted name.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finished,
    )


def _finished(value: Any) -> Any:
    """Return the HTML of a value: markup unchanged; text in one line, with no-break spaces between number and unit."""
    return value if isinstance(value, Markup) else one_line(str(value)).replace(" %", "\u00a0%")
