"""The pages that are ours: login, refusals, status. No picture, nothing from elsewhere, and no script but for login
links, passkeys and what changes."""

from __future__ import annotations

import base64
import hashlib
import math
from typing import Any

import jinja2
from markupsafe import Markup

#: What a page of ours may do: nothing but show itself and send its own form.
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

#: For a page that asks for something, and may stand in a tab of JupyterLab.
POLICY_FOR_FRAMES = (
    POLICY_WITH_SCRIPT.replace("frame-ancestors 'none'", "frame-ancestors 'self'") + "; connect-src 'self'"
)

#: Where scripts are, below the base URL. Public, as everything below static/.
SCRIPTS = "static/jupyter-remote/"

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


def away(host: str) -> str:
    """The page that Apache shows in place of a server that does not answer. It needs nothing but itself."""
    text = script("away.js")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'"
    )
    # Our own file, and nothing else, goes into the page as it is.
    return render("away.html", host=host, policy=policy, script=Markup(text))


def in_words(seconds: int) -> str:
    """A time to wait, as a person says it.

    >>> in_words(1), in_words(99), in_words(601)
    ('one second', '99 seconds', '11 minutes')
    """
    if seconds < 100:
        return "one second" if seconds == 1 else f"{seconds} seconds"
    return f"{math.ceil(seconds / 60)} minutes"
