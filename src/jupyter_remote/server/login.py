"""The login page, and the two ways in: the password, or a login link."""

from __future__ import annotations

import re
from pathlib import Path
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

    def show(self, *, error: str = "", notice: str = "", link: bool = False) -> None:
        """Answer with the login page.

        :param link: it was opened by a login link, and sends what that has by itself.
        """
        self.finish(
            pages.render(
                "login.html",
                host=self.request.host_name,
                action=f"{self.base_url}login",
                icon=f"{self.base_url}static/favicon.ico",
                next=self.way_on(),
                xsrf=self.xsrf_token.decode(),
                locked=self.owner.is_locked,
                link=f"{self.base_url}login/link.js" if link else "",
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
    def get(self) -> None:
        """The login page.

        A login link has its token behind a ``#``, which no browser sends: it comes into no log, and whoever only
        looks at what is behind a link (a chat, a mail scanner) does not use it up. A script sends it.
        """
        # Also of somebody who is logged in already: a link that was followed is used up.
        if self.current_user and "link" not in self.request.query_arguments:
            self.redirect(self.way_on())
        else:
            self.show(link="link" in self.request.query_arguments)

    head = get

    @allow_unauthenticated
    async def post(self) -> None:
        """A password, or the token of a login link."""
        if token := self.get_body_argument("link", ""):
            self._follow_link(token)
            return
        typed = self.get_body_argument("password", "", strip=False)
        if len(typed) <= _LONGEST_PASSWORD and await self.owner.is_password(typed):
            self._let_in("with the password")
            return
        self._log_refusal("no password is set" if self.owner.is_locked else "wrong password")
        self.set_status(401)
        self.show(error="" if self.owner.is_locked else "That is not the password.")

    def _follow_link(self, token: str) -> None:
        if not self.owner.links.use(token):
            self._log_refusal("login link used or expired")
            self.set_status(401)
            self.show(error="This login link has been used, or is older than ten minutes.")
        elif self.current_user:
            self.redirect(self.way_on())
        else:
            self._let_in("with a login link")

    def _let_in(self, how: str) -> None:
        self.log.info("Login from %s %s.", self.request.remote_ip, how)
        self.owner.let_in(self, how)
        self.redirect(self.way_on())

    def _log_refusal(self, why: str) -> None:
        self.log.warning("Login refused from %s: %s.", self.request.remote_ip, why)


class Logout(_Page):
    """``/logout``."""

    @allow_unauthenticated
    def get(self) -> None:
        """Forget this browser, and close what it has open."""
        self.owner.leave(self)
        self.current_user = None
        self.show(notice="You have logged out.")


class LinkScript(JupyterHandler):
    """``/login/link.js``: what a login link needs."""

    _text = (Path(__file__).parent / "templates/link.js").read_bytes()

    @allow_unauthenticated
    def get(self) -> None:
        """The script."""
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(self._text)
