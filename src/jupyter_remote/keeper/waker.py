"""Wakes a server that sleeps: it has ended because nobody used it, and systemd listens in its place."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from .loop import Loop

#: What a server may want to know of at once, of a status. Of pages only whether there is one.
NEWS = ("activity", "returncode", "connections")

#: Seconds until it is called once more, if it has not come; and those that a last call is waited for.
AGAIN, COMES = 10.0, 5.0

#: Seconds between two looks at the clock, which can be set, and goes on while the machine is suspended.
LOOK = 600.0


class Waker:
    """Knows whether the server sleeps, and what it knew when it went."""

    def __init__(self, loop: Loop, status: Callable[[], dict[str, Any]]) -> None:
        self._loop, self._status = loop, status
        self._path = ""
        self._known: dict[str, Any] = {}
        self._until = math.inf
        self._called = self._looks = False
        self._at_last: Callable[[], None] | None = None

    def sleep(self, path: str, known: dict[str, Any]) -> None:
        """The server is about to end.

        :param path: the socket at which a connection starts it again.
        :param known: what it knows of :data:`NEWS`, and ``until`` when, in seconds since 1970, it wants to sleep at
            most. What is not in there does not wake it.
        :raises RuntimeError: it does not know what has happened meanwhile.
        """
        self._path, self._known = "", _news(known, NEWS)
        self._until = math.inf if known.get("until") is None else float(known["until"])
        if self._is_news():
            raise RuntimeError("something has happened")
        self._path = path
        self._watch_the_clock()

    def is_awake(self) -> None:
        """A server is there."""
        self._path = ""
        if self._at_last is not None:
            self._at_last()

    def look(self) -> None:
        """Something may have happened."""
        if self._path and not self._called and (self._is_news() or time.time() >= self._until):
            self.wake()

    def wake(self) -> None:
        """Wake it, if it sleeps."""
        if not self._path:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            # It is enough that somebody has been there.
            connection.setblocking(False)
            connection.connect(self._path)
        # It may have been on its way out still, and have taken that for itself.
        self._called = True
        self._loop.later(AGAIN, self._look_again)

    def wake_and(self, go_on: Callable[[], None]) -> None:
        """Wake it, if it sleeps, and go on when it is there, or does not come."""
        if not self._path:
            go_on()
            return
        self._at_last = go_on
        self._loop.later(COMES, go_on)
        self.wake()

    def _look_again(self) -> None:
        self._called = False
        self.look()

    def _watch_the_clock(self) -> None:
        if not self._looks and self._path and self._until < math.inf:
            self._looks = True
            self._loop.later(max(0.0, min(self._until - time.time(), LOOK)), self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._looks = False
        self.look()
        if not self._called:
            self._watch_the_clock()

    def _is_news(self) -> bool:
        return _news(self._status(), self._known) != self._known


def _news(status: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    told = {name: status.get(name) for name in names if name in status}
    return {name: bool(value) if name == "connections" else value for name, value in told.items()}
