"""The mark that a browser gets when somebody logs in with it: it opens nothing, and it is remembered longer.

Whoever has one does not wait behind strangers (:mod:`.limits`); OWASP calls it a device cookie. It is signed with
the key of the login cookies: a new password makes it worthless.
"""

from __future__ import annotations

import re
import secrets

from tornado import httputil, web

#: Days that a mark is good for; browsers keep no cookie for more than 400.
DAYS = 180

_MARK = re.compile(rb"[A-Za-z0-9_-]{16}")


class Marks:
    """The marks of one instance."""

    def __init__(self, name: str, key: bytes) -> None:
        """
        :param name: of the cookie.
        :param key: signs it.
        """
        self._name, self._key = name, key

    def of(self, request: httputil.HTTPServerRequest) -> str | None:
        """The browser's mark; None when it has none, or one that is not ours."""
        morsel = request.cookies.get(self._name)
        if morsel is None:
            return None
        value = web.decode_signed_value(self._key, self._name, morsel.value, max_age_days=DAYS)
        return value.decode() if value is not None and _MARK.fullmatch(value) else None

    def give(self, handler: web.RequestHandler, *, path: str, secure: bool) -> None:
        """Mark the browser that gets the handler's answer; one that it has is renewed.

        :param path: where the browser shows it.
        :param secure: over https only.
        """
        mark = self.of(handler.request) or secrets.token_urlsafe(12)
        signed = web.create_signed_value(self._key, self._name, mark)
        handler.set_cookie(
            self._name, signed, expires_days=DAYS, path=path, secure=secure, httponly=True, samesite="Lax"
        )
