"""What browsers are told about every answer, whoever wrote it: what pages of others may do with it.

As far as it costs JupyterLab and notebooks nothing; docs/security.md says what was left out, and why.
"""

from __future__ import annotations

from tornado.httputil import HTTPHeaders

#: Where a handler has not said it.
DEFAULTS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    # The browsers' own default, said. Less would cost maps: servers of tiles want to know who shows them.
    "Referrer-Policy": "strict-origin-when-cross-origin",
}

#: No window of another origin holds ours, nor learns where it goes. Windows that ours opens may talk to it.
OPENER = "same-origin-allow-popups"


def complete(headers: HTTPHeaders) -> None:
    """Add what an answer does not say yet."""
    for name, value in DEFAULTS.items():
        headers.setdefault(name, value)
    policy = headers["Content-Security-Policy"]
    # A file of the owner's is shown in a sandbox, and browsers show no page that has both.
    if "sandbox" not in policy:
        headers.setdefault("Cross-Origin-Opener-Policy", OPENER)
        if "base-uri" not in policy:
            headers["Content-Security-Policy"] = f"{policy}; base-uri 'self'"
