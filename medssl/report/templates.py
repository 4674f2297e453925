"""The page layouts beside this file."""

from base64 import b64encode
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def render(template: str, **values: Any) -> str:
    """Fill in a template.

    Args:
        template: Its file name; what goes into ``.html`` is escaped.
        **values: Everything the template names; one that is missing is an error.

    Returns:
        Text that can be written as UTF-8, which file names need not be.
    """
    environment = Environment(
        loader=PackageLoader("medssl", "report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = lambda png: f"data:image/png;base64,{b64encode(png).decode()}"
    page = environment.get_template(template).render(values)
    return page.encode("utf-8", errors="replace").decode("utf-8")
