"""The login page, and the two ways in: the password, or a login link."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler

from . import pages

if TYPE_CHECKING:
    from .identity import Owner

#: Where a login may lead: a path of our own, written in one way only.
_SAFE_PATH = re.compile(r"/[!-\[\]-~]*")

#: Longer than any password; argon2 would hash a megabyte as well.
_LONGEST_PASSWORD = 4096


class _Page(JupyterHandler):
    """What login and logout have in common: the page."""

    @property
    def owner(self) -> Owner:
        return cast("Owner", self.identity_provider)

    @property
    def content_security_policy(self) -> str:
        return pages.HEADERS["Content-Security-Policy"]

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in pages.HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "no-store")

    def show(self, *, error: str = "", notice: str = "") -> None:
        """Answer with the login page."""
        self.finish(
            pages.render(
                "login.html",
                host=self.request.host_name,
                action=f"{self.base_url}login",
                icon=f"{self.base_url}static/favicon.ico",
                next=self.way_on(),
                xsrf=self.xsrf_token.decode(),
                locked=self.owner.is_locked,
                error=error,
                notice=notice,
            )
        )

    def way_on(self) -> str:
        """Where to go after the login: what was asked for, if it is a page of ours."""
        wanted = self.get_argument("next", self.base_url)
        if _SAFE_PATH.fullmatch(wanted) and wanted.startswith(self.base_url) and ".." not in wanted:
            return wanted
        return self.base_url

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say it on the page itself."""
        if status_code != 403:
            super().write_error(status_code, **kwargs)
            return
        # The form's own protection against other sites: its cookie is gone, or was of another time.
        self.show(error="This page was open for too long. Please try again.")


class Login(_Page):
    """``/login``."""

    @allow_unauthenticated
    async def get(self) -> None:
        """The login page; or the way in for a login link that has not been used yet."""
        token = self.get_query_argument("token", "")
        # Also of somebody who is logged in already: a link that was followed is used up.
        opens = bool(token) and self.owner.links.use(token)
        if self.current_user:
            self.redirect(self.way_on())
        elif opens:
            self._let_in("with a login link")
        elif token:
            self._log_refusal("login link used or expired")
            self.set_status(401)
            self.show(error="This login link has been used, or is older than ten minutes.")
        else:
            self.show()

    @allow_unauthenticated
    async def post(self) -> None:
        """A password."""
        typed = self.get_body_argument("password", "", strip=False)
        if len(typed) <= _LONGEST_PASSWORD and await self.owner.is_password(typed):
            self._let_in("with the password")
            return
        self._log_refusal("no password is set" if self.owner.is_locked else "wrong password")
        self.set_status(401)
        self.show(error="" if self.owner.is_locked else "That is not the password.")

    def _let_in(self, how: str) -> None:
        self.log.info("Login from %s %s.", self.request.remote_ip, how)
        self.owner.set_login_cookie(self, self.owner.owner())
        # A redirect, so that a link's token is not in the address bar, nor sent on as a referrer.
        self.redirect(self.way_on())

    def _log_refusal(self, why: str) -> None:
        self.log.warning("Login refused from %s: %s.", self.request.remote_ip, why)


class Logout(_Page):
    """``/logout``."""

    @allow_unauthenticated
    def get(self) -> None:
        """Forget this browser."""
        self.owner.clear_login_cookie(self)
        self.current_user = None
        self.show(notice="You have logged out.")
