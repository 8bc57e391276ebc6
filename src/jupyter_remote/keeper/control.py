"""The control socket: what the server and the owner's commands want of a keeper."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from .loop import Loop
from .wire import Lines

#: Seconds between two reports of mere activity.
SELDOM = 1.0

#: What an operation answers, beside that it is done.
Answer = dict[str, Any]
#: An operation: the line, and the descriptors that came with it.
Operation = Callable[[dict[str, Any], list[int]], Answer]


class Control:
    """Listens on ``control`` in the runtime directory; only the owner can get at it."""

    def __init__(self, loop: Loop, path: str, operations: dict[str, Operation], status: Callable[[], Answer]) -> None:
        self._loop, self._operations, self._status = loop, operations, status
        self._peers: dict[int, Lines] = {}
        self._watchers: list[Lines] = []
        self._told = time.monotonic()
        self._due = False
        self._listening = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listening.bind(path)
        os.chmod(path, 0o600)
        self._listening.listen(64)
        self._listening.setblocking(False)
        loop.watch(self._listening.fileno(), self._accept)

    def changed(self, at_once: bool) -> None:
        """Tell the watchers: now, or with others in a while."""
        if at_once:
            self._tell()
        elif not self._due and self._watchers:
            self._due = True
            self._loop.later(max(0.0, self._told + SELDOM - time.monotonic()), self._tell)

    def _tell(self) -> None:
        self._due = False
        self._told = time.monotonic()
        for peer in list(self._watchers):
            self._send(peer, {"event": "status", **self._status()})

    def _accept(self, events: int) -> None:
        del events
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listening.accept()
            connection.setblocking(False)
            peer = Lines(connection)
            self._peers[peer.fileno()] = peer
            self._loop.watch(peer.fileno(), lambda _: self._read(peer))

    def _read(self, peer: Lines) -> None:
        try:
            for line, files in peer.receive():
                self._send(peer, self._do(peer, line, files))
        except BlockingIOError:
            pass
        except (EOFError, ValueError, OSError):
            self._leave(peer)

    def _do(self, peer: Lines, line: dict[str, Any], files: list[int]) -> Answer:
        name = line.get("op")
        try:
            if name == "watch" and peer not in self._watchers:
                self._watchers.append(peer)
            operation = self._operations.get(str(name))
            if operation is None:
                return {"error": f"no operation {name!a}"}
            answer = {"ok": True, **operation(line, files)}
            files = []
            return answer
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        finally:
            # Nobody has taken them.
            for file in files:
                os.close(file)

    def _send(self, peer: Lines, line: Answer) -> None:
        if peer.fileno() < 0:
            return
        peer.connection.setblocking(True)
        # Somebody who does not read must not hold us up.
        peer.connection.settimeout(2)
        try:
            peer.send(line)
            peer.connection.setblocking(False)
        except OSError:
            self._leave(peer)

    def _leave(self, peer: Lines) -> None:
        number = peer.fileno()
        if number < 0:
            return
        self._loop.forget(number)
        self._peers.pop(number, None)
        if peer in self._watchers:
            self._watchers.remove(peer)
        peer.close()


def early_bytes(line: dict[str, Any]) -> bytes:
    """What a browser had sent before its connection was handed over.

    :raises ValueError: it is not base64.
    """
    return base64.b64decode(line.get("early") or "", validate=True)
