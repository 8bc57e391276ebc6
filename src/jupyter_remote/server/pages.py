"""The pages that are ours: login, and the refusal of a name. No script, no picture, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

import jinja2

#: What a page of ours may do: nothing but show itself and send its own form.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("jupyter_remote.server"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, /, **values: Any) -> str:
    """One of our templates, with every value escaped for HTML."""
    return _environment.get_template(template).render(values)


def unknown_name(name: str) -> str:
    """The page for a browser that calls us by a name we do not know.

    :param name: the name if it looks like a host name, else empty: then it is not repeated.
    """
    return render("unknown-name.html", name=name)
