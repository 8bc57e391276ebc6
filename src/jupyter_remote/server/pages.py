"""The pages that are ours: login, and refusals. No picture, nothing from elsewhere, and no script but for login
links and passkeys.

And what browsers are told about every answer, whoever wrote it.
"""

from __future__ import annotations

import math
from typing import Any

import jinja2
from tornado.httputil import HTTPHeaders

#: What a page of ours may do: nothing but show itself, run our script, and send its own form.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

#: The same for a page with a script: a file of ours, nothing written into the page.
POLICY_WITH_SCRIPT = HEADERS["Content-Security-Policy"] + "; script-src 'self'"

#: Where scripts are, below the base URL. Public, as everything below static/.
SCRIPTS = "static/jupyter-remote/"

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


def script(name: str) -> str:
    """The text of one of our scripts."""
    text, _, _ = _environment.loader.get_source(_environment, name)  # type: ignore[union-attr]
    return text


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


def wait(host: str, base_url: str, seconds: int, way_on: str) -> str:
    """The page for who tries to log in too often.

    :param way_on: where the login leads.
    """
    return render(
        "wait.html",
        host=host,
        action=f"{base_url}login",
        icon=f"{base_url}static/favicon.ico",
        next=way_on,
        wait=in_words(seconds),
    )


def in_words(seconds: int) -> str:
    """A time to wait, as a person says it.

    >>> in_words(1), in_words(99), in_words(601)
    ('one second', '99 seconds', '11 minutes')
    """
    if seconds < 100:
        return "one second" if seconds == 1 else f"{seconds} seconds"
    return f"{math.ceil(seconds / 60)} minutes"
