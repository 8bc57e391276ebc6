"""Wakes a server that sleeps: it has ended because nobody used it, and systemd listens in its place."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from .loop import Loop

#: What a server wants to know of at once, of a kernel's status. Of pages only whether there is one.
NEWS = ("activity", "returncode", "connections")

#: Seconds until it is called once more, if it has not come.
AGAIN = 10.0


class Waker:
    """Knows whether the server sleeps, and what it knew when it went."""

    def __init__(self, loop: Loop, status: Callable[[], dict[str, Any]]) -> None:
        self._loop, self._status = loop, status
        self._path = ""
        self._known: list[Any] = []
        self._called = False

    def sleep(self, path: str, known: dict[str, Any]) -> None:
        """The server is about to end.

        :param path: the socket at which a connection starts it again.
        :param known: what it knows of :data:`NEWS`.
        :raises RuntimeError: it does not know what has happened meanwhile.
        """
        self._path, self._known = "", _news(known)
        if _news(self._status()) != self._known:
            raise RuntimeError("something has happened")
        self._path = path

    def is_awake(self) -> None:
        """A server is there."""
        self._path = ""

    def look(self) -> None:
        """Something may have happened."""
        if self._path and not self._called and _news(self._status()) != self._known:
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

    def _look_again(self) -> None:
        self._called = False
        self.look()


def _news(status: dict[str, Any]) -> list[Any]:
    return [bool(status.get(name)) if name == "connections" else status.get(name) for name in NEWS]
