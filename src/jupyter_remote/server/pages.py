"""The pages that are ours: login, and the refusal of a name. No picture, nothing from elsewhere, and one script:
what a login link has is known to the browser only.

And what browsers are told about every answer, whoever wrote it.
"""

from __future__ import annotations

from typing import Any

import jinja2
from tornado.httputil import HTTPHeaders

#: What a page of ours may do: nothing but show itself, run our script, and send its own form.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

#: What other pages may do with an answer of any handler; as far as it costs JupyterLab and notebooks nothing.
#: docs/security.md says what was left out, and why.
DEFAULTS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    # The browsers' own default, said. Less would cost maps: servers of tiles want to know who shows them.
    "Referrer-Policy": "strict-origin-when-cross-origin",
}

#: No window of another origin holds ours, nor learns where it goes. Windows that ours opens may talk to it.
OPENER = "same-origin-allow-popups"

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


def complete(headers: HTTPHeaders) -> None:
    """Add what every answer says, where its handler has not said it."""
    for name, value in DEFAULTS.items():
        headers.setdefault(name, value)
    policy = headers["Content-Security-Policy"]
    # A file of the owner's is shown in a sandbox, and browsers show no page that has both.
    if "sandbox" not in policy:
        headers.setdefault("Cross-Origin-Opener-Policy", OPENER)
        if "base-uri" not in policy:
            headers["Content-Security-Policy"] = f"{policy}; base-uri 'self'"
