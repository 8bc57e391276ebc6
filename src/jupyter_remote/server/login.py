"""The login page, and the two ways in: the password, or a login link."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

from . import limits, opening, pages, passkeys

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

    def show(self, page: str = "login.html", *, error: str = "", notice: str = "", link: bool = False) -> None:
        """Answer with the login page, or the one of its second step.

        :param link: it was opened by a login link, and sends what that has by itself.
        """
        if link:
            self.set_header("Content-Security-Policy", pages.POLICY_WITH_SCRIPT)
        self.finish(
            pages.render(
                page,
                host=self.request.host_name,
                action=f"{self.base_url}login",
                icon=f"{self.base_url}static/favicon.ico",
                next=self.way_on(),
                xsrf=self.xsrf_token.decode(),
                locked=self.owner.is_locked,
                link=link,
                passkey=self.passkey(passkeys.SECOND if page == "code.html" else passkeys.WHOLE),
                scripts=f"{self.base_url}{pages.SCRIPTS}",
                ahead=opening.scripts_ahead(self.settings, self.way_on()),
                error=error,
                notice=notice,
            )
        )

    def passkey(self, purpose: str) -> str:
        """What to ask a browser that has a passkey; empty when there are none for this name of ours."""
        host = self.request.host_name
        if not self.owner.passkeys.all(host):
            return ""
        self.set_header("Content-Security-Policy", pages.POLICY_WITH_SCRIPT)
        return self.owner.passkeys.request(host, purpose)

    @property
    def origin(self) -> str:
        """What a browser calls our own pages."""
        return f"{self.request.protocol}://{self.request.host}"

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
        """A password, what comes after it, a passkey, or the token of a login link."""
        if token := self.get_body_argument("link", ""):
            self._follow_link(token)
        elif self.get_body_argument("credential", None) is not None:
            await self._passkey()
        elif self.owner.is_locked:
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

    async def _passkey(self) -> None:
        if wait := self.owner.limits.attempt(self.owner.caller(self.request)):
            self._refuse_for_now(wait)
            return
        second = self.owner.passed_first_step(self.request)
        purposes = {passkeys.WHOLE, passkeys.SECOND} if second else {passkeys.WHOLE}
        answer = self.get_body_argument("credential")
        if self.owner.passkeys.all():
            await passkeys.load()
        try:
            passkey, purpose = self.owner.passkeys.check(self.request.host_name, self.origin, answer, purposes)
        except passkeys.Refused as refusal:
            self.log.warning("A passkey was refused: %s.", ascii(str(refusal))[1:-1][:200])
            self._refuse("wrong passkey", "That passkey was not accepted. Please try again.")
            return
        which = f"passkey {passkey.name!a}"
        self._let_in(f"with the password and the {which}" if purpose == passkeys.SECOND else f"with the {which}")

    def _follow_link(self, token: str) -> None:
        if not self.owner.links.use(token):
            self._refuse("login link used or expired", "This login link has been used, or is older than ten minutes.")
        elif self.current_user:
            self.redirect(self.way_on())
        else:
            self._let_in("with a login link")

    def _let_in(self, how: str) -> None:
        self.log.info("Login from %s %s.", self.address, how)
        caller = self.owner.caller(self.request)
        self.owner.let_in(self, how)
        self.owner.welcome(self, caller)
        self.redirect(self.way_on())

    def _refuse(self, why: str, error: str = "", page: str = "login.html") -> None:
        """Note it, and say so on the page."""
        self.owner.refuse(self.address, why)
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
        """Forget this browser, and close what it has open."""
        self.owner.leave(self)
        self.current_user = None
        self.show(notice="You have logged out.")


#: The page of the owner's passkeys, below the base URL.
PASSKEYS = "passkeys"


class PasskeysPage(_Page):
    """``/passkeys``: for who is logged in."""

    @web.authenticated
    def get(self) -> None:
        """The list."""
        self._list()

    @web.authenticated
    async def post(self) -> None:
        """A new one, or one less."""
        await passkeys.load()
        try:
            if removed := self.get_body_argument("remove", ""):
                if (gone := self.owner.passkeys.remove(removed)) is not None:
                    self.log.info("Passkey %a was removed from %s.", gone.name, self.address)
            else:
                answer, name = self.get_body_argument("credential"), self.get_body_argument("name", "")
                made = self.owner.passkeys.add(self.request.host_name, self.origin, answer, name)
                self.log.info("Passkey %a was added from %s.", made.name, self.address)
        except passkeys.Refused as refusal:
            self.log.warning("A new passkey was refused: %s.", ascii(str(refusal))[1:-1][:200])
            self.set_status(400)
            self._list("It was not accepted. Please try again.")
        except OSError as error:
            self.set_status(507)
            self._list(f"It cannot be kept: {error.strerror}.")
        else:
            # A redirect, so that a reload sends nothing.
            self.redirect(f"{self.base_url}{PASSKEYS}")

    def _list(self, error: str = "") -> None:
        host, user = self.request.host_name, self.owner.owner()
        self.set_header("Content-Security-Policy", pages.POLICY_WITH_SCRIPT)
        self.finish(
            pages.render(
                "passkeys.html",
                host=host,
                base_url=self.base_url,
                action=f"{self.base_url}{PASSKEYS}",
                icon=f"{self.base_url}static/favicon.ico",
                scripts=f"{self.base_url}{pages.SCRIPTS}",
                xsrf=self.xsrf_token.decode(),
                passkeys=self.owner.passkeys.all(),
                possible=passkeys.can_have(host),
                passkey=self.owner.passkeys.creation(host, user.username, user.display_name or user.username),
                longest=passkeys.LONGEST_NAME,
                error=error,
            )
        )


class Script(_Page):
    """The scripts of our pages."""

    @allow_unauthenticated
    def get(self, name: str) -> None:
        """The text of one."""
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(pages.script(name))
