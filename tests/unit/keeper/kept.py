"""A keeper in a process of its own, with a real ipykernel, and browsers that were handed over to it."""

from __future__ import annotations

import base64
import os
import select
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import websocket

from jupyter_remote.keeper.wire import CONTROL, WIRE, Lines
from tests.client import PATIENCE, QUICK, Kernel

SOURCES = Path(__file__).resolve().parents[3] / "src"

#: how a Python kernel is started
IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{kernel_file}"]

KEY = "the key"


class Page(Kernel):
    """A browser's connection to the keeper: the handshake is somebody else's, and done."""

    def __init__(self, connection: socket.socket, session: str, subprotocol: str) -> None:
        connection.settimeout(PATIENCE)
        channels = websocket.WebSocket(**QUICK)
        channels.sock = connection
        channels.connected = True
        super().__init__(None, "kernel", session, channels)  # type: ignore[arg-type]
        self.protocol = subprotocol


class Kept:
    """The keeper.

    :param top: an empty directory.
    """

    def __init__(self, top: Path, **order: Any) -> None:
        self.runtime, self.state, self.log = top / "runtime", top / "state", top / "log"
        ours, its = socket.socketpair()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "jupyter_remote.keeper"],
                stdin=its,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "HOME": str(top)},
                start_new_session=True,
            )
        its.close()
        ours.settimeout(PATIENCE)
        asking = Lines(ours)
        asking.send(
            {
                "wire": WIRE,
                "kind": "kernel",
                "id": "kernel",
                "runtime": str(self.runtime),
                "state": str(self.state),
                "key": KEY,
                "login": "alice",
                "journal_bytes": 1 << 26,
                "memory_limit": None,
                "start": self.start_of(top),
                **order,
            }
        )
        self.answer = _line(asking)
        asking.close()

    @staticmethod
    def start_of(cwd: Path, argv: list[str] | None = None) -> dict[str, Any]:
        """What a kernel is started with."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(cwd),
            "IPYTHONDIR": str(cwd / "ipython"),
            "LANG": "C.UTF-8",
            # else debugpy prints a warning about some Pythons when the kernel starts
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        return {"argv": argv or IPYKERNEL, "env": env, "cwd": str(cwd), "memo": {"kernel_name": "python3"}}

    def control(self) -> Control:
        """A new connection to the control socket."""
        return Control(self.runtime / CONTROL)

    def open(self, session: str | None = None, *, protocol: str = "", early: bytes = b"", **more: Any) -> Page:
        """A browser connects, and is handed over."""
        session = session or uuid.uuid4().hex
        ours, its = socket.socketpair()
        with self.control() as control:
            control.ask(
                "websocket",
                file=its.fileno(),
                session=session,
                protocol=protocol,
                login=more.pop("login", "alice"),
                label=more.pop("label", ""),
                max_message=more.pop("max_message", 10 << 20),
                ping=more.pop("ping", 30),
                early=base64.b64encode(early).decode(),
                after=more.pop("after", None),
            )
        its.close()
        assert not more
        return Page(ours, session, protocol)

    def close(self) -> None:
        """End it and its kernel."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)


class Control:
    """Somebody who wants something of the keeper."""

    def __init__(self, path: Path) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        self.lines = Lines(connection)
        self.events: list[dict[str, Any]] = []
        self._received: list[dict[str, Any]] = []

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *error: object) -> None:
        self.lines.close()

    def ask(self, op: str, file: int | None = None, **more: Any) -> dict[str, Any]:
        """Ask, and return the answer.

        :raises AssertionError: it is an error.
        """
        self.lines.send({"op": op, **more}, file)
        answer = self._next(event=False)
        assert "error" not in answer, answer["error"]
        return answer

    def event(self) -> dict[str, Any]:
        """The next event."""
        return self._next(event=True)

    def _next(self, *, event: bool) -> dict[str, Any]:
        while True:
            for line in self._received:
                if ("event" in line) == event:
                    self._received.remove(line)
                    return line
            self._received += [line for line, _ in self.lines.receive()]


class Listening:
    """The socket that systemd holds while the server sleeps."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.address)
        self._socket.listen()

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def is_called(self, within: float = PATIENCE) -> bool:
        """Whether somebody connects; they are heard once."""
        if not select.select([self._socket], [], [], within)[0]:
            return False
        self._socket.accept()[0].close()
        return True


def _line(lines: Lines) -> dict[str, Any]:
    while True:
        for line, _ in lines.receive():
            return line
