"""Who is logged in: the owner, or nobody.

There is one person and one name for them, whatever browser they use. Authentication is never off:
without a password nobody can log in by password, and a login link is the only way in.
"""

from __future__ import annotations

import math
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.identity import PasswordIdentityProvider, User
from tornado import httputil, web

from .limits import Caller, Limits, canonical
from .links import LoginLinks
from .login import Login, Logout
from .marks import Marks
from .passkeys import Passkeys
from .passwords import Passwords
from .secondfactor import Codes

if TYPE_CHECKING:
    from .app import JupyterRemote

#: As in shadow(5): nobody can log in with a password.
LOCKED = "!"

#: Days after which a browser has to log in again.
COOKIE_DAYS = 30

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
        self.cookie_name = f"jupyter-remote-{instance.slug}"
        # Lax, not Strict: a link in a mail or a chat must find its way in. What changes anything is
        # no GET, and needs the XSRF token besides.
        self.cookie_options = {"httponly": True, "samesite": "Lax", "expires_days": COOKIE_DAYS}
        # None: as the connection is. Behind another proxy only that proxy knows.
        self.secure_cookie = True if instance.behind_tls else None
        self.get_secure_cookie_kwargs = {"max_age_days": COOKIE_DAYS}
        self.hashed_password = app.password_hash
        self.links = LoginLinks(app.unit.runtime / "login")
        self.links.sweep()
        self._owner = _owner()
        self._key = app.cookie_secret
        self._base_url = instance.base_url
        self.step_cookie = f"{self.cookie_name}-step"
        self.limits = Limits()
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
        """One line for a refusal before anything was compared (etc/fail2ban reads it); returns whole seconds."""
        seconds = math.ceil(wait)
        address = canonical(request.remote_ip or "")
        self.log.warning("Login refused from %s: too many attempts, wait %d s.", address, seconds)
        return seconds

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
        handler.clear_cookie(self.step_cookie, path=f"{self._base_url}login")

    def owner(self) -> User:
        """The one person there is."""
        return User(**vars(self._owner))

    def user_from_cookie(self, cookie_value: str) -> User | None:
        """What the cookie remembers (a nickname, a colour) about the one person there is."""
        user = super().user_from_cookie(cookie_value)
        if user is not None:
            user.username = self._owner.username
        return user

    def generate_anonymous_user(self, handler: web.RequestHandler) -> User:
        """There are no anonymous users; who got in is the owner."""
        del handler
        return self.owner()

    def process_login_form(self, handler: web.RequestHandler) -> User | None:
        """Never the way in: :class:`~.login.Login` asks :meth:`is_password`, which does not block."""
        del handler
        return None

    def is_logged_in(self, request: httputil.HTTPServerRequest) -> bool:
        """Whether a request carries a valid login cookie; asked at the door, where there is no handler yet."""
        morsel = request.cookies.get(self.cookie_name)
        if morsel is None:
            return False
        value = web.decode_signed_value(self._key, self.cookie_name, morsel.value, max_age_days=COOKIE_DAYS)
        return value is not None


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
