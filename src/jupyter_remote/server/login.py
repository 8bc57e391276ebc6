"""The login page, and the two ways in: the password, or a login link."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler

from . import limits, pages

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
    def address(self) -> str:
        """The client's address, for the log."""
        return limits.canonical(self.request.remote_ip or "")

    @property
    def content_security_policy(self) -> str:
        return pages.HEADERS["Content-Security-Policy"]

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in pages.HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "no-store")

    def show(self, page: str = "login.html", *, error: str = "", notice: str = "") -> None:
        """Answer with the login page, or the one of its second step."""
        self.finish(
            pages.render(
                page,
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

    def _log(self) -> None:
        """What a request came to, which for a refused login has been said already."""
        if self.get_status() not in (401, 429):
            super()._log()

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
            self._refuse("login link used or expired", "This login link has been used, or is older than ten minutes.")
        else:
            self.show()

    @allow_unauthenticated
    async def post(self) -> None:
        """A password, or what comes after it."""
        if self.owner.is_locked:
            self._refuse("no password is set")
        elif self.get_body_argument("code", None) is not None:
            self._second_step()
        else:
            await self._first_step()

    async def _first_step(self) -> None:
        caller = self.owner.caller(self.request)
        if not self.owner.passwords.has_place(caller.familiar):
            self._refuse_for_now(1)
            return
        if wait := self.owner.limits.attempt(caller):
            self._refuse_for_now(wait)
            return
        typed = self.get_body_argument("password", "", strip=False)
        if len(typed) > _LONGEST_PASSWORD or not await self.owner.is_password(typed, caller):
            self._refuse("wrong password", "That is not the password.")
        elif self.owner.codes is None:
            self._let_in("with the password")
        else:
            # Neither a failure, nor a reason to forget those that there were.
            self.owner.limits.withdraw(caller)
            self.owner.first_step(self)
            self.show("code.html")

    def _second_step(self) -> None:
        codes = self.owner.codes
        if codes is None or not self.owner.passed_first_step(self.request):
            self.set_status(403)
            self.show(error="This page was open for too long. Please begin again.")
            return
        if wait := self.owner.limits.attempt(self.owner.caller(self.request), limits.CODES):
            self._refuse_for_now(wait)
            return
        try:
            how = codes.use(self.get_body_argument("code"))
        except OSError as error:
            self.log.error("A code was right, but that it is used cannot be remembered: %s.", error)
            self._refuse("the disk cannot be written", "The disk of this machine is full.", "code.html")
            return
        if how:
            self._let_in(f"with the password and a {how}")
            if how == "recovery code":
                self.log.warning("%d recovery codes are left.", codes.recovery_left)
        else:
            self._refuse("wrong code", "That is not a code of this moment, or it has been used.", "code.html")

    def _let_in(self, how: str) -> None:
        self.log.info("Login from %s %s.", self.address, how)
        self.owner.welcome(self, self.owner.caller(self.request))
        self.owner.set_login_cookie(self, self.owner.owner())
        # A redirect, so that a link's token is not in the address bar, nor sent on as a referrer.
        self.redirect(self.way_on())

    def _refuse(self, why: str, error: str = "", page: str = "login.html") -> None:
        """One line in the log, which fail2ban reads (etc/fail2ban), and the page."""
        self.log.warning("Login refused from %s: %s.", self.address, why)
        self.set_status(401)
        self.show(page, error=error)

    def _refuse_for_now(self, wait: float) -> None:
        """Nobody is kept waiting with a connection open: the page says when to come again."""
        seconds = self.owner.log_wait(self.request, wait)
        self.set_status(429)
        self.set_header("Retry-After", str(seconds))
        self.finish(pages.wait(self.request.host_name, self.base_url, seconds, self.way_on()))


class Logout(_Page):
    """``/logout``."""

    @allow_unauthenticated
    def get(self) -> None:
        """Forget this browser."""
        self.owner.clear_login_cookie(self)
        self.current_user = None
        self.show(notice="You have logged out.")
