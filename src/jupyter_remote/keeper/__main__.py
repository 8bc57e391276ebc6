"""``python -m jupyter_remote.keeper``: one keeper, ordered through standard input."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import cgroup, control, wire
from .kernel import Kernel
from .loop import Loop
from .wire import Lines

#: Seconds that a kernel gets to end when the unit is stopped.
PATIENCE = 5.0


class Keeper:
    """What is kept, and who may say what becomes of it.

    :raises OSError: a directory or a socket cannot be made, or the kernel cannot be started.
    """

    def __init__(self, loop: Loop, order: dict[str, Any]) -> None:
        self._loop = loop
        self._kind, self._id = order["kind"], order["id"]
        self._login: str = order.get("login", "")
        self._runtime, self._state = Path(order["runtime"]), Path(order["state"])
        for directory in (self._runtime, self._state):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._unit = cgroup.own_unit()
        #: whether the owner is done with it, and nobody will want the journal
        self.done = False
        self._control: control.Control | None = None
        self._kept = Kernel(loop, order, self._changed)
        self._control = control.Control(
            loop,
            self._runtime / wire.CONTROL,
            {
                "status": lambda line, files: self.status(),
                "watch": self._watch,
                "start": self._start,
                "signal": self._signal,
                "say": self._say,
                "note": self._note,
                "websocket": self._websocket,
                "end": self._end,
            },
            self.status,
        )

    def status(self) -> dict[str, Any]:
        """As :mod:`.wire` says."""
        return {
            "wire": wire.WIRE,
            "kind": self._kind,
            "id": self._id,
            "unit": self._unit,
            "keeper": os.getpid(),
            **self._kept.status(),
        }

    def _changed(self, at_once: bool) -> None:
        if self._control is not None:
            self._control.changed(at_once)

    def _watch(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._login = str(line.get("login", ""))
        self._kept.feed.keep_logins(self._login)
        return self.status()

    def _start(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._kept.start(line["start"])
        return self.status()

    def _signal(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._kept.signal(int(line["number"]))
        return {}

    def _say(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._kept.say(str(line["execution_state"]))
        return {}

    def _note(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._kept.note(str(line["text"]))
        return {}

    def _websocket(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        if len(files) != 1:
            raise ValueError(f"{len(files)} connections were handed over")
        early = control.early_bytes(line)
        self._kept.feed.attach(
            files[0],
            session=str(line["session"]),
            protocol=str(line["protocol"]),
            login=str(line.get("login", "")),
            max_message=int(line["max_message"]),
            ping=float(line["ping"]),
            early=early,
            state=self._kept.execution_state,
            on_message=self._kept.from_browser,
        )
        return {}

    def _end(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del line, files
        self.done = True
        self._loop.stop()
        return {}

    def close(self) -> None:
        """End what still runs. What nobody has read yet stays in the journal, unless all is done."""
        self._kept.say("dead")
        self._kept.close(0 if self.done else PATIENCE)
        shutil.rmtree(self._runtime, ignore_errors=True)
        if self.done:
            shutil.rmtree(self._state, ignore_errors=True)


def main() -> int:
    """Take the order, answer, keep."""
    os.umask(0o077)
    asking = Lines(socket.socket(fileno=os.dup(0)))
    asking.connection.setblocking(True)
    # Whoever asked may go; standard input must not be a socket of theirs.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        order = next(line for line, _ in _lines(asking))
    except (EOFError, StopIteration, ValueError, OSError) as error:
        print(f"no order: {error!r}", file=sys.stderr)
        return 1
    loop = Loop()
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    # A signal ends the wait of the loop by a byte on this socket.
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    loop.watch(wake.fileno(), lambda _: _drain(wake))
    try:
        if order.get("wire") != wire.WIRE or order.get("kind") != "kernel":
            raise ValueError(f"an order that this version does not know: {order.get('wire')} {order.get('kind')!a}")
        keeper = Keeper(loop, order)
    except Exception as error:
        with contextlib.suppress(OSError):
            asking.send({"error": f"{type(error).__name__}: {error}"})
        if order.get("runtime"):
            shutil.rmtree(order["runtime"], ignore_errors=True)
        raise
    with contextlib.suppress(OSError):
        asking.send({"wire": wire.WIRE, "pid": os.getpid()})
    asking.close()
    del order
    try:
        loop.run()
    finally:
        keeper.close()
    return 0


def _lines(peer: Lines) -> Iterator[tuple[dict[str, Any], list[int]]]:
    while True:
        yield from peer.receive()


def _drain(connection: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        connection.recv(64)


if __name__ == "__main__":
    sys.exit(main())
