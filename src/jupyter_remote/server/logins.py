"""Who has a pass: browsers that have logged in, and programs with a token. See :mod:`jupyter_remote.passes`.

A request costs a digest and a look into memory. That a pass was removed by somebody else, by ``jupyter-remote
sessions end``, is seen within a second, by the time of the directory.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ..passes import IDLE, LONGEST, Pass, Passes, digest_of, new_secret

#: Seconds between two looks at the directories, and between two notes of when a pass was used.
LOOK, NOTE = 1.0, 60.0

#: Seconds in which a directory that was changed may change once more under the same time.
_YOUNG = 2.0

#: Browsers that are logged in at a time. A script that logs in each minute must not fill the disk.
MOST = 200


class Register:
    """The passes of one kind, in memory.

    :param login: what each must depend on; None: on nothing. Such ones are kept when they have ended, for the list.
    """

    def __init__(self, passes: Passes, log: logging.Logger, login: str | None) -> None:
        self._passes, self._log, self._login = passes, log, login
        self._known: dict[str, Pass] = {}
        # Could not be written: good until the server ends.
        self._unwritten: set[str] = set()
        self._stamp, self._read_at, self._next_end = -1, 0.0, 0.0
        passes.sweep()
        self.look()

    @property
    def ids(self) -> set[str]:
        """Of all that there are."""
        return {one.id for one in self._known.values()}

    @property
    def all_are_written(self) -> bool:
        """Whether a server after this one knows them all."""
        return not self._unwritten

    @property
    def next_end(self) -> float:
        """Until when, in seconds since 1970, none of them ends."""
        return self._next_end

    def find(self, secret: str, address: str) -> Pass | None:
        """The pass of who has this secret, and is there now."""
        digest = digest_of(secret)
        # A new token is good at once. Where there is none this costs a look at a file that is not there.
        one = self._known.get(digest) or (self._passes.read(digest) if digest else None)
        now = time.time()
        if one is None or not self._is_good(one, now):
            return None
        self._known[digest] = one
        if now - one.seen > NOTE or not one.last_address:
            if one.name and one.last_address != address:
                self._log.info("Token %s is used from %s.", one.name, address)
            try:
                one = self._passes.use(one, address)
            except FileNotFoundError:
                if digest not in self._unwritten:
                    # Its end has not been seen yet; look() tells of it.
                    return None
                one = replace(one, seen=now, last_address=address)
            except OSError:
                # A disk without room, or one that became read-only, locks nobody out.
                one = replace(one, seen=now)
            self._known[digest] = one
        return one

    def _is_good(self, one: Pass, now: float) -> bool:
        return now < one.ends() and self._login in (None, one.login)

    def add(self, new: Pass) -> None:
        """Let somebody in."""
        try:
            self._passes.add(new)
        except OSError as error:
            self._log.warning("A login cannot be kept (%s); it ends with the server.", error.strerror)
            self._unwritten.add(new.digest)
        self._known[new.digest] = new
        self._next_end = min(self._next_end, new.ends())

    def remove(self, gone: Iterable[Pass]) -> set[str]:
        """Throw out; the ids of those that are out now."""
        ids = set()
        for one in gone:
            try:
                self._passes.remove(one.digest)
            except OSError as error:
                self._log.error("A login cannot be removed: %s.", error)
            if self._known.pop(one.digest, None) is not None:
                ids.add(one.id)
            self._unwritten.discard(one.digest)
        return ids

    def all(self) -> list[Pass]:
        """All, the one that was used longest ago first."""
        return sorted(self._known.values(), key=lambda one: one.seen)

    def look(self) -> set[str]:
        """See what has changed; the ids of passes that are not good any more."""
        now = time.time()
        stamp = self._passes.stamp()
        ended: set[str] = set()
        if stamp != self._stamp or self._read_at - stamp / 1e9 < _YOUNG:
            self._stamp, self._read_at = stamp, now
            there = set(self._passes.digests())
            gone = self._known.keys() - there - self._unwritten
            ended |= {self._known.pop(digest).id for digest in gone}
            for digest in there - self._known.keys():
                if (one := self._passes.read(digest)) is not None:
                    if self._is_good(one, now):
                        self._known[digest] = one
                    elif self._login is not None:
                        self.remove([one])
            self._next_end = 0.0
        if now >= self._next_end:
            over = [one for one in self._known.values() if not self._is_good(one, now)]
            if self._login is not None:
                ended |= self.remove(over)
            else:
                ended |= {self._known.pop(one.digest).id for one in over}
            self._next_end = min((one.ends() for one in self._known.values()), default=float("inf"))
        return ended


class Logins:
    """Browsers and programs that may come in."""

    def __init__(self, state: Path, login: str, log: logging.Logger) -> None:
        """
        :param state: the owner's state directory.
        :param login: changes when everybody has to log in again.
        """
        self._login = login
        self.browsers = Register(Passes(state / "logins"), log, login)
        self.programs = Register(Passes(state / "tokens"), log, None)
        #: called with ids of passes that are not good any more
        self.on_end: Callable[[set[str]], None] = lambda ids: None

    @property
    def ids(self) -> set[str]:
        """Of all who may come in."""
        return self.browsers.ids | self.programs.ids

    @property
    def all_are_written(self) -> bool:
        """Whether a server after this one knows them all."""
        return self.browsers.all_are_written and self.programs.all_are_written

    @property
    def next_end(self) -> float:
        """Until when, in seconds since 1970, none ends by itself; infinite when none does."""
        return min(self.browsers.next_end, self.programs.next_end)

    def begin(self, how: str, browser: str, address: str) -> str:
        """Somebody has logged in.

        :param how: in words, ``with the password``.
        :param browser: what it calls itself, its ``User-Agent``.
        :returns: the secret for their cookie.
        """
        secret = new_secret()
        now = time.time()
        self.browsers.add(
            Pass(
                digest=digest_of(secret),
                created=now,
                how=re.sub(r"\Awith (an? |the )?", "", how),
                browser=browser_name(browser),
                address=address,
                last_address=address,
                expires=now + LONGEST,
                idle=IDLE,
                login=self._login,
                seen=now,
            )
        )
        self.end(self.browsers.all()[:-MOST])
        return secret

    def end(self, gone: Iterable[Pass]) -> None:
        """Somebody has logged out."""
        self._tell(self.browsers.remove(gone))

    def look(self) -> None:
        """See what others have done."""
        self._tell(self.browsers.look() | self.programs.look())

    def _tell(self, ended: set[str]) -> None:
        if ended:
            self.on_end(ended)


_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
#: Each claims to be those that came before it; here the newest is first.
_BROWSERS = (
    ("Edg", "Edge"),
    ("EdgA", "Edge"),
    ("OPR", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Firefox", "Firefox"),
    ("HeadlessChrome", "Chrome"),
    ("Chrome", "Chrome"),
    ("Version", "Safari"),
)


def browser_name(agent: str) -> str:
    """A browser as a person calls it.

    >>> browser_name("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    'Firefox 140 on Linux'
    >>> browser_name("python-httpx/0.28.1")
    'python-httpx/0.28.1'
    """
    products = dict(re.findall(r"([A-Za-z]+)/([0-9]+)", agent))
    for product, name in _BROWSERS:
        if agent.startswith("Mozilla/") and product in products:
            system = next((f" on {name}" for mark, name in _SYSTEMS if mark in agent), "")
            return f"{name} {products[product]}{system}"
    return "".join(char for char in agent.split(" ")[0] if "!" <= char <= "~")[:40]
