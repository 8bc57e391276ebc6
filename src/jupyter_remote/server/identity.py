"""Who is logged in: the owner, or nobody.

There is one person and one name for them, whatever browser they use. Authentication is never off:
without a password nobody can log in by password, and a login link is the only way in.
"""

from __future__ import annotations

import json
import math
import os
import pwd
import re
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.identity import PasswordIdentityProvider, User
from tornado import httputil, web

from .. import paths
from ..passes import LONGEST, Pass
from ..refusals import Refusals
from ..transaction import replace
from .door import is_for_programs
from .limits import Caller, Limits, canonical
from .links import LoginLinks
from .login import Login, Logout
from .logins import Logins
from .marks import Marks
from .passkeys import Passkeys
from .passwords import Passwords
from .secondfactor import Codes
from .secret import login_of

if TYPE_CHECKING:
    from .app import JupyterRemote

#: As in shadow(5): nobody can log in with a password.
LOCKED = "!"

#: Days that a cookie is good for, at most; the login that it belongs to may end before.
COOKIE_DAYS = LONGEST // 86400

_AUTHORIZATION = re.compile(r"(?:token|bearer)\s+(\S+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Guest:
    """Who asks: a browser that has logged in, or a program with a token.

    ``remembered`` is what the browser's cookie says: the secret of its login, and perhaps a nickname.
    """

    entry: Pass
    user: User
    remembered: dict[str, Any] | None = None

    @property
    def is_program(self) -> bool:
        """Whether it has a token."""
        return self.remembered is None


#: Minutes after the password in which the second step can be taken.
FIRST_STEP_MINUTES = 5


class Owner(PasswordIdentityProvider):
    """The owner's login. What opens the door is fixed here and not a matter of configuration."""

    token = ""
    token_generated = False
    need_token = False
    password_required = False
    allow_password_change = False
    auth_enabled = True
    login_available = True
    logout_available = True
    login_handler_class = Login
    logout_handler_class = Logout

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        app = cast("JupyterRemote", self.parent)
        instance = app.told
        # After the configuration has been loaded: these are not its business either.
        # The prefix: a page that came by plain http, and whoever made it, cannot set it (RFC 6265bis).
        self.cookie_name = f"{'__Secure-' if instance.behind_tls else ''}jupyter-remote-{instance.slug}"
        # Lax, not Strict: a link in a mail or a chat must find its way in. What changes anything is
        # no GET, and needs the XSRF token besides.
        self.cookie_options = {"httponly": True, "samesite": "Lax", "expires_days": COOKIE_DAYS}
        # None: as the connection is. Behind another proxy only that proxy knows.
        self.secure_cookie = True if instance.behind_tls else None
        self.get_secure_cookie_kwargs = {"max_age_days": COOKIE_DAYS}
        self.hashed_password = app.password_hash
        self.links = LoginLinks(app.unit.runtime / "login")
        self.links.sweep()
        self.logins = Logins(app.unit.state, login_of(app.cookie_secret), self.log)
        self._owner = _owner()
        self._key = app.cookie_secret
        self._base_url = instance.base_url
        # It is asked at the door, and by handlers again.
        self._guests: weakref.WeakKeyDictionary[httputil.HTTPServerRequest, Guest] = weakref.WeakKeyDictionary()
        self.step_cookie = f"{self.cookie_name}-step"
        self.limits = Limits()
        self.refusals = Refusals(app.unit.state / paths.REFUSED_LOGINS)
        # A reboot takes it away, with which the clock begins anew.
        self._attempts = app.unit.runtime / "attempts.json"
        self._recall_attempts()
        self.passwords = Passwords()
        factor = app.second_factor
        self.codes = Codes(factor, app.unit.state / "second-factor-used.json") if factor else None
        self.passkeys = Passkeys(app.unit.state / "passkeys.json", instance.base_url)
        self._marks = Marks(f"{self.cookie_name}-known", self._key)

    @property
    def is_locked(self) -> bool:
        """Whether no password has been set."""
        return not self.hashed_password

    def caller(self, request: httputil.HTTPServerRequest) -> Caller:
        """Who asks to be let in, as far as the limits are concerned."""
        if self.is_logged_in(request):
            return Caller("session", True)
        return self.limits.caller(request.remote_ip or "", self._marks.of(request))

    def has_to_wait(self, request: httputil.HTTPServerRequest) -> int:
        """Seconds until this caller may try to log in; 0 when it may now. Asked at the door, where a flood of
        attempts costs least."""
        wait = self.limits.wait(self.caller(request))
        return self.log_wait(request, wait) if wait else 0

    def log_wait(self, request: httputil.HTTPServerRequest, wait: float) -> int:
        """Note a refusal before anything was compared; returns whole seconds."""
        seconds = math.ceil(wait)
        self.refuse(canonical(request.remote_ip or ""), f"too many attempts, wait {seconds} s")
        return seconds

    def refuse(self, address: str, why: str) -> None:
        """One line in the log, which fail2ban reads (etc/fail2ban), and one for ``jupyter-remote status``."""
        self.log.warning("Login refused from %s: %s.", address, why)
        self.refusals.note(address, why)

    def remember_attempts(self) -> None:
        """The server ends: who has tried to log in is for the next one to know."""
        try:
            replace(self._attempts, json.dumps(self.limits.remembered()), 0o600)
        except OSError as error:
            self.log.warning("Attempts to log in are forgotten: %s.", error.strerror)

    def _recall_attempts(self) -> None:
        try:
            known = self._attempts.read_text(encoding="utf-8")
            # Of one time: if this server is killed it is too old.
            self._attempts.unlink()
            self.limits.recall(json.loads(known))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.log.warning("Attempts to log in before this start are not known: %r.", error)

    async def is_password(self, typed: str, caller: Caller) -> bool:
        """Whether this is the password. Takes a tenth of a second, in a thread of its own.

        The caller has a place there (:meth:`Passwords.has_place`), and an attempt.
        """
        if self.is_locked or not typed:
            return False
        return await self.passwords.is_right(self.hashed_password, typed, caller.familiar)

    def passed_first_step(self, request: httputil.HTTPServerRequest) -> bool:
        """Whether this browser has sent the right password in the last minutes."""
        morsel = request.cookies.get(self.step_cookie)
        if morsel is None:
            return False
        days = FIRST_STEP_MINUTES / (24 * 60)
        return web.decode_signed_value(self._key, self.step_cookie, morsel.value, max_age_days=days) is not None

    def first_step(self, handler: web.RequestHandler) -> None:
        """The password was right. What the browser gets for it opens nothing but the second step."""
        signed = web.create_signed_value(self._key, self.step_cookie, "password")
        path, secure = f"{self._base_url}login", self._is_secure(handler.request)
        handler.set_cookie(self.step_cookie, signed, path=path, secure=secure, httponly=True, samesite="Strict")

    def _is_secure(self, request: httputil.HTTPServerRequest) -> bool:
        return bool(self.secure_cookie) if self.secure_cookie is not None else request.protocol == "https"

    def welcome(self, handler: web.RequestHandler, caller: Caller) -> None:
        """Remember that somebody got in by this browser and from this address."""
        self.limits.succeeded(caller, handler.request.remote_ip or "")
        self._marks.give(handler, path=self._base_url, secure=self._is_secure(handler.request))
        place = {"path": f"{self._base_url}login", "secure": self._is_secure(handler.request)}
        handler.clear_cookie(self.step_cookie, **place)

    def owner(self) -> User:
        """The one person there is."""
        return User(**vars(self._owner))

    def generate_anonymous_user(self, handler: web.RequestHandler) -> User:
        """There are no anonymous users; who got in is the owner."""
        del handler
        return self.owner()

    def process_login_form(self, handler: web.RequestHandler) -> User | None:
        """Never the way in: :class:`~.login.Login` asks :meth:`is_password`, which does not block."""
        del handler
        return None

    # -- who is it ----------------------------------------------------------------------------------

    def is_logged_in(self, request: httputil.HTTPServerRequest) -> bool:
        """Whether a request may come in; asked at the door, where there is no handler yet."""
        return self.guest(request) is not None

    def guest(self, request: httputil.HTTPServerRequest) -> Guest | None:
        """Who sends a request; None for a stranger."""
        known = self._guests.get(request)
        if known is None:
            # A token is always meant; a cookie is sent by itself.
            known = self._program(request) or self._browser(request)
            if known is not None:
                self._guests[request] = known
        return known

    def pass_of(self, request: httputil.HTTPServerRequest) -> str | None:
        """The id of the pass that a request came in with; None when it is not good any more."""
        guest = self.guest(request)
        return guest.entry.id if guest is not None and guest.entry.id in self.logins.ids else None

    def _program(self, request: httputil.HTTPServerRequest) -> Guest | None:
        header = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
        token = header[1] if header else ""
        if not token and is_for_programs(request, self._base_url):
            # Where no header can be set: websockets of browsers' libraries. Never for a page: its address is
            # remembered, sent on and shown around.
            token = request.query_arguments.get("token", [b""])[-1].decode("latin-1")
        entry = self.logins.programs.find(token, request.remote_ip or "") if token else None
        return Guest(entry, self.owner()) if entry is not None else None

    def _browser(self, request: httputil.HTTPServerRequest) -> Guest | None:
        morsel = request.cookies.get(self.cookie_name)
        value = morsel and web.decode_signed_value(self._key, self.cookie_name, morsel.value, max_age_days=COOKIE_DAYS)
        if not value:
            return None
        try:
            remembered = json.loads(value)
            secret = remembered.pop("login")
            # What it remembers about the one person there is; not who that is.
            user = User(**{**remembered, "username": self._owner.username})
            entry = self.logins.browsers.find(secret, request.remote_ip or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            # Of an earlier version, which is signed too.
            return None
        return Guest(entry, user, {**remembered, "login": secret}) if entry is not None else None

    def get_user(self, handler: web.RequestHandler) -> User | None:
        """Who asks a handler."""
        guest = self.guest(handler.request)
        if guest is None:
            if handler.get_cookie(self.cookie_name) is not None:
                self.clear_login_cookie(handler)
            return None
        if guest.is_program:
            # No other site can have it sent: handlers need not ask where the request is from.
            handler._token_authenticated = True  # type: ignore[attr-defined]
        return guest.user

    # -- coming and going ---------------------------------------------------------------------------

    def let_in(self, handler: web.RequestHandler, how: str) -> None:
        """Somebody has shown that they are the owner: the browser gets a login of its own.

        Its cookie must be the first that the answer sets: VS Code takes that one.

        :param how: in words, ``with the password``.
        """
        request = handler.request
        self._end_login(request)
        secret = self.logins.begin(how, request.headers.get("User-Agent", ""), request.remote_ip or "")
        self._set_cookie(handler, self.owner(), secret)

    def leave(self, handler: web.RequestHandler) -> None:
        """The browser has no login any more, nor have its open connections."""
        self._end_login(handler.request)
        self.clear_login_cookie(handler)

    def _end_login(self, request: httputil.HTTPServerRequest) -> None:
        guest = self._browser(request)
        if guest is not None:
            self.logins.end([guest.entry])

    def set_login_cookie(self, handler: web.RequestHandler, user: User) -> None:
        """Have the browser remember a nickname or a colour. It lets nobody in."""
        guest = self.guest(handler.request)
        if guest is not None and guest.remembered is not None:
            self._set_cookie(handler, user, guest.remembered["login"])

    def _set_cookie(self, handler: web.RequestHandler, user: User, secret: str) -> None:
        value = json.dumps({**vars(user), "login": secret})
        handler.set_signed_cookie(self.cookie_name, value, **self._cookie_place(handler), **self.cookie_options)

    def clear_login_cookie(self, handler: web.RequestHandler) -> None:
        """Have the browser forget its cookie."""
        # Without "Secure" a browser would not touch one of this name.
        handler.clear_cookie(self.cookie_name, **self._cookie_place(handler))

    def _cookie_place(self, handler: web.RequestHandler) -> dict[str, Any]:
        return {"path": self._base_url, "secure": self._is_secure(handler.request)}


def read_hash(credentials: Path | None) -> str:
    """The password's hash as the unit got it; empty when nobody can log in with a password.

    :param credentials: ``$CREDENTIALS_DIRECTORY``, or None.
    """
    if credentials is None:
        return ""
    try:
        text = (credentials / "password-hash").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if text == LOCKED else text


def _owner() -> User:
    entry = pwd.getpwuid(os.getuid())
    name = entry.pw_gecos.split(",")[0].strip() or entry.pw_name
    initials = "".join(word[0] for word in name.split()[:2]).upper()
    return User(username=entry.pw_name, name=name, display_name=name, initials=initials)
