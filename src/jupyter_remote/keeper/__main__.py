"""``python -m jupyter_remote.keeper``: one keeper, ordered through standard input."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from . import cgroup, control, wire
from .loop import Loop
from .waker import Waker
from .wire import Lines

#: Seconds that a kernel or a shell gets to end when the unit is stopped.
PATIENCE = 5.0


class Kept(Protocol):
    """What a keeper is there for; each kind can do this."""

    def status(self) -> dict[str, Any]:
        """What only it knows of its status."""

    def signal(self, number: int) -> None:
        """To its process group."""

    def attach(self, file: int, line: dict[str, Any], early: bytes) -> None:
        """A browser has connected: its connection, what the server says of it, what it has sent already."""

    def keep_logins(self, login: str) -> None:
        """Close the connections of another login."""

    def hang_up(self, labels: list[str], at_once: bool) -> None:
        """Close the connections that have one of these; at once: without waiting for the page's goodbye."""

    def close(self, patience: float) -> None:
        """End it, within so many seconds or by force."""


class Keeper:
    """What is kept, and who may say what becomes of it.

    :raises OSError: a directory or a socket cannot be made, or the kernel cannot be started.
    """

    def __init__(self, loop: Loop, order: dict[str, Any]) -> None:
        self._loop = loop
        self._kind, self._id = order["kind"], order["id"]
        self._runtime: str = order["runtime"]
        self._state: str = order["state"]
        for directory in (self._runtime, self._state):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        self._unit = cgroup.own_unit()
        #: whether the owner is done with it, and nobody will want the journal
        self.done = False
        self._control: control.Control | None = None
        self._waker = Waker(loop, self.status)
        self._kept, more = self._keep(order)
        self._control = control.Control(
            loop,
            os.path.join(self._runtime, wire.CONTROL),
            {
                "status": lambda line, files: self.status(),
                "watch": self._watch,
                "signal": self._signal,
                "websocket": self._websocket,
                "hang_up": self._hang_up,
                "sleep": self._sleep,
                "end": self._end,
                **more,
            },
            self.status,
        )

    def _keep(self, order: dict[str, Any]) -> tuple[Kept, dict[str, control.Operation]]:
        """Start it; the answer is it, and the operations that only its kind has."""
        # Each costs memory: the one, or the other.
        if self._kind == "terminal":
            from .terminal import Terminal

            return Terminal(self._loop, order, self._changed, self._finish), {}
        from .kernel import Kernel

        kernel = Kernel(self._loop, order, self._changed)

        def start(line: dict[str, Any], files: list[int]) -> dict[str, Any]:
            del files
            kernel.start(line["start"])
            return self.status()

        def say(line: dict[str, Any], files: list[int]) -> dict[str, Any]:
            del files
            kernel.say(str(line["execution_state"]))
            return {}

        def note(line: dict[str, Any], files: list[int]) -> dict[str, Any]:
            del files
            kernel.note(str(line["text"]))
            return {}

        return kernel, {"start": start, "say": say, "note": note}

    def status(self) -> dict[str, Any]:
        """As :mod:`.wire` says."""
        return {
            "wire": wire.WIRE,
            "kind": self._kind,
            "id": self._id,
            "unit": self._unit,
            "keeper": os.getpid(),
            "deflate": True,
            **self._kept.status(),
        }

    def _changed(self, at_once: bool) -> None:
        if self._control is not None:
            self._control.changed(at_once)
            self._waker.look()

    def _watch(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._waker.is_awake()
        self._kept.keep_logins(str(line.get("login", "")))
        return self.status()

    def _signal(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._kept.signal(int(line["number"]))
        return {}

    def _websocket(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        if len(files) != 1:
            raise ValueError(f"{len(files)} connections were handed over")
        self._kept.attach(files[0], line, control.early_bytes(line))
        return {}

    def _hang_up(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._kept.hang_up([str(label) for label in line["labels"]], bool(line.get("at_once")))
        return {}

    def _sleep(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._waker.sleep(str(line["socket"]), line)
        return {}

    def _end(self, line: dict[str, Any], files: list[int]) -> dict[str, Any]:
        del files
        self._finish(keep=bool(line.get("keep")))
        return {}

    def _finish(self, keep: bool = False) -> None:
        self.done = not keep
        if self._kind == "terminal":
            # It ends at once, and /tmp with the last of us, unless a server is there.
            self._waker.wake_and(self._loop.stop)
        else:
            self._loop.stop()

    def close(self) -> None:
        """End what still runs. What nobody has read yet stays in the journal, unless all is done."""
        # Whoever ends it, or the unit: the server is to read the rest of the journal, and to hold what is in /tmp.
        self._waker.wake()
        self._kept.close(0 if self.done else PATIENCE)
        _remove(self._runtime)
        if self.done:
            _remove(self._state)


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
        if order.get("wire") != wire.WIRE:
            # From a server whose files were replaced while it runs.
            raise ValueError(f"version {order.get('wire')!a} asks {wire.WIRE}: an upgrade is going on, try again")
        if order.get("kind") not in ("kernel", "terminal"):
            raise ValueError(f"nobody can keep a {order.get('kind')!a}")
        keeper = Keeper(loop, order)
    except Exception as error:
        with contextlib.suppress(OSError):
            asking.send({"error": f"{type(error).__name__}: {error}"})
        for directory in (order.get("runtime"), order.get("state")):
            if directory:
                _remove(directory)
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


def _remove(directory: str) -> None:
    """Remove a directory of ours with all that is in it, as far as that can be done."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
        os.rmdir(directory)


def _drain(connection: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        connection.recv(64)


if __name__ == "__main__":
    sys.exit(main())
