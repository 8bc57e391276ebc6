"""The server's side of keepers: asks for them, finds those that there are, and talks to them.

What is said is written down in :mod:`jupyter_remote.keeper.wire`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from jupyter_server_terminals.handlers import TermSocket
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError

from ..keeper import wire
from ..keeper.waker import NEWS
from ..run import EX_UNAVAILABLE, die
from . import upstream
from .instance import Instance
from .unit import Unit

if TYPE_CHECKING:
    from .identity import Owner

#: Seconds after which a keeper that says nothing is taken for one that hangs.
PATIENCE = 30.0
#: The same while the server starts, for all of them together: requests wait meanwhile.
PATIENCE_AT_START = 5.0

#: RFC 6455: the server meets something that it did not expect.
_INTERNAL_ERROR = 1011

_HINT = "sudo systemctl start jupyter-remote-kernel.socket"
_LOG = "See what it has logged: sudo jupyter-remote logs"
#: Why a keeper cannot be used.
OTHER_VERSION = "it was started by another version of jupyter-remote, and can be used when that is installed again."
_HANGS = "what keeps it does not answer. It is tried again at the next start: sudo systemctl restart jupyter-remote."


class KeeperGone(Exception):
    """The keeper has ended, and what it kept with it."""


class Refused(Exception):
    """The keeper lives, but cannot do it; the text says why."""


class Hangs(Refused):
    """It has not answered. It may do it still."""


class Keeper:
    """A connection to a keeper. Everything here happens in the event loop."""

    def __init__(self, lines: wire.Lines, status: dict[str, Any]) -> None:
        """
        :param lines: the connection; it watches already.
        :param status: what ``watch`` was answered with.
        """
        self.status = status
        #: why it can only be ended, for a person; what it tells of itself is not listened to then
        self.trouble = ""
        self.is_gone = False
        #: called after each change of the status, and when the keeper has gone
        self.on_change: Callable[[], None] | None = None
        self._lines = lines
        self._answers: deque[asyncio.Future[dict[str, Any]]] = deque()
        self._outgoing: deque[tuple[bytearray, int | None]] = deque()
        self._gone = asyncio.Event()
        # Also before it runs: the loop is where the server will be.
        self._loop: asyncio.AbstractEventLoop = IOLoop.current().asyncio_loop  # type: ignore[attr-defined]
        lines.connection.setblocking(False)
        self._loop.add_reader(lines.fileno(), self._receive)

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Of the kernel, or the terminal's name."""
        return str(self.status["id"])

    @property
    def kind(self) -> str:
        """``kernel`` or ``terminal``."""
        return str(self.status["kind"])

    @property
    def connections(self) -> int:
        """How many browsers are connected to it."""
        return 0 if self.is_gone else int(self.status.get("connections") or 0)

    @property
    def returncode(self) -> int | None:
        """How its process has ended, as subprocess has it; None while it runs."""
        if self.is_gone:
            # Nobody saw the end. The keeper was the only parent.
            return -9
        if self.status.get("pid") is not None and self.status.get("returncode") is None:
            return None
        return int(self.status.get("returncode") or 0)

    # -- talking ------------------------------------------------------------------------------------

    async def ask(self, op: str, *, file: int | None = None, **fields: Any) -> dict[str, Any]:
        """Ask for one operation of :mod:`wire`'s control socket and return its answer.

        :param file: a descriptor that goes along; it is closed here, whatever happens.
        :raises KeeperGone: there is nobody to do it.
        :raises Refused: it cannot be done, or the keeper hangs.
        """
        if self.is_gone:
            if file is not None:
                os.close(file)
            raise KeeperGone
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers.append(answer)
        self._outgoing.append((bytearray(json.dumps({"op": op, **fields}).encode() + b"\n"), file))
        self._send()
        try:
            line = await asyncio.wait_for(answer, PATIENCE)
        except TimeoutError:
            raise Hangs(f"no answer to {op} for {PATIENCE:.0f} s") from None
        if "error" in line:
            raise Refused(str(line["error"]))
        return line

    async def refresh(self) -> None:
        """Have the status of this moment, whatever events are on their way.

        :raises KeeperGone, Refused: as :meth:`ask` does.
        """
        self._take(await self.ask("status"))

    async def watch(self, login: str) -> None:
        """Have the status, now and after each change.

        :raises KeeperGone, Refused: as :meth:`ask` does.
        """
        self._take(await self.ask("watch", login=login))

    async def sleep(self, address: str, until: float | None) -> None:
        """The server is about to end: have it started again, by a connection to this socket, when something happens.

        :param until: when, in seconds since 1970, in any case.
        :raises KeeperGone: as :meth:`ask` does.
        :raises Refused: something has happened that we do not know yet; or it is an older one.
        """
        # What is typed and printed in a terminal is nothing that the server would have to do with.
        names = NEWS if self.kind == "kernel" else ("returncode",)
        await self.ask("sleep", socket=address, until=until, **{name: self.status.get(name) for name in names})

    async def end(self) -> None:
        """End what it keeps, and itself. Returns when it has gone, or hangs."""
        with contextlib.suppress(KeeperGone, Refused):
            await self.ask("end")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), PATIENCE)

    def _send(self) -> None:
        connection = self._lines.connection
        while self._outgoing:
            data, file = self._outgoing[0]
            try:
                sent = connection.send(data) if file is None else socket.send_fds(connection, [data], [file])
            except BlockingIOError:
                self._loop.add_writer(connection, self._send)
                return
            except OSError:
                self._lose()
                return
            if file is not None:
                os.close(file)
            del data[:sent]
            if data:
                self._outgoing[0] = (data, None)
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(connection)

    def _receive(self) -> None:
        try:
            for line, files in self._lines.receive():
                for file in files:
                    os.close(file)
                if line.get("event") == "status":
                    self._take(line)
                elif "event" not in line and self._answers:
                    answer = self._answers.popleft()
                    # Nobody waits for it any more: it came too late.
                    if not answer.done():
                        answer.set_result(line)
        except BlockingIOError:
            return
        except (EOFError, OSError, ValueError):
            self._lose()

    def _take(self, status: dict[str, Any]) -> None:
        if self.trouble:
            return
        self.status = status
        self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            # Apart from us: its errors are not the connection's.
            self._loop.call_soon(self.on_change)

    def _lose(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self._loop.remove_reader(self._lines.fileno())
        self._loop.remove_writer(self._lines.fileno())
        self._lines.close()
        for _, file in self._outgoing:
            if file is not None:
                os.close(file)
        self._outgoing.clear()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(KeeperGone())
        self._answers.clear()
        self._gone.set()
        self._tell()


class Keepers:
    """All keepers of this server: those that it found at its start, and those that it asks for."""

    def __init__(self, unit: Unit, instance: Instance, login: str, log: logging.Logger, kind: str = "kernel") -> None:
        """
        :param login: changes when everybody has to log in again.
        :param kind: ``kernel`` or ``terminal``.
        """
        self.login = login
        self._kind = kind
        self._asked_at = unit.kernels
        self.instance = instance
        self._log = log
        self._unit = unit
        #: of each keeper, a directory of sockets and one of what is kept
        self.runtime = unit.runtime / f"{kind}s"
        self.state = unit.state / f"{kind}s"
        self._unreachable: dict[str, Keeper] = {}
        #: those that we talk to
        self._all: weakref.WeakSet[Keeper] = weakref.WeakSet()
        #: started by us, where no systemd does it
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def outlive_us(self) -> bool:
        """Whether somebody else is their parent, so that they may stay when the server stops."""
        return self._asked_at is not None

    # -- those that there are -----------------------------------------------------------------------

    def find(self) -> list[Keeper]:
        """Connect to all that there are, and remove what was left behind by those that have gone.

        Blocks, for at most :data:`PATIENCE_AT_START` seconds. Those that hang, or that we do not understand, are left
        alone: they are :attr:`unreachable`.
        """
        for directory in (self.runtime, self.state):
            directory.mkdir(mode=0o700, exist_ok=True)
        found = []
        with selectors.DefaultSelector() as selector:
            for directory in sorted(self.runtime.iterdir()):
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(1.0)
                lines = wire.Lines(connection)
                try:
                    connection.connect(os.fspath(directory / wire.CONTROL))
                    lines.send({"op": "watch", "login": self.login})
                except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, BrokenPipeError):
                    lines.close()
                    self._log.info("The keeper of %s has gone.", directory.name)
                    shutil.rmtree(directory, ignore_errors=True)
                except OSError as error:
                    lines.close()
                    self._log.error("The keeper of %s cannot be reached: %s.", directory.name, error)
                else:
                    selector.register(connection, selectors.EVENT_READ, (directory.name, lines))
            give_up = time.monotonic() + PATIENCE_AT_START
            while selector.get_map() and (left := give_up - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    name, lines = key.data
                    try:
                        # What comes after the first one are events, and newer.
                        received = [line for line, _ in lines.receive()]
                    except (EOFError, OSError, ValueError) as error:
                        selector.unregister(key.fileobj)
                        lines.close()
                        self._log.error("The keeper of %s has not answered: %r.", name, error)
                        continue
                    if received:
                        selector.unregister(key.fileobj)
                        if self._is_understood(name, received[-1]):
                            found.append(Keeper(lines, received[-1]))
                            self._all.add(found[-1])
                        else:
                            self.leave_alone(Keeper(lines, {**received[-1], "id": name}), OTHER_VERSION)
            for key in list(selector.get_map().values()):
                name, lines = key.data
                self.leave_alone(Keeper(lines, {"id": name}), _HANGS)
        return found

    @property
    def unreachable(self) -> dict[str, Keeper]:
        """Those that run and that we can do nothing with but end them, by name. Their ``trouble`` says why."""
        return {name: keeper for name, keeper in self._unreachable.items() if not keeper.is_gone}

    def leave_alone(self, keeper: Keeper, why: str) -> None:
        """It cannot be used, for *why*: a sentence for a person."""
        name, memo = keeper.id, keeper.status.get("memo")
        command = f"jupyter-remote kernels stop {name}"
        keeper.trouble = f"{self._kind.capitalize()} {name} runs on, but cannot be reached: {why} To end it: {command}"
        self._log.error("%s", keeper.trouble)
        # What it has said may mean something else.
        found_at = time.time()
        keeper.status = {
            "kind": self._kind,
            "id": name,
            "pid": 0,
            "started": found_at,
            "activity": found_at,
            "memo": {"kernel_name": str(memo.get("kernel_name", "")) if isinstance(memo, dict) else ""},
        }
        keeper.on_change = None
        self._unreachable[name] = keeper

    def left_over(self) -> list[str]:
        """Those of which only the state is there: they were stopped, or the machine was. Ask after :meth:`find`."""
        return sorted(state.name for state in self.state.iterdir() if not (self.runtime / state.name).is_dir())

    def journal(self, name: str) -> Path:
        """The directory of what a kernel has said."""
        return self.state / name / "journal"

    @staticmethod
    def _is_understood(name: str, answer: dict[str, Any]) -> bool:
        return "error" not in answer and answer.get("id") == name and answer.get("wire") in wire.UNDERSTOOD

    def remove(self, name: str) -> None:
        """Remove what a keeper that has gone has left behind."""
        for directory in (self.runtime / name, self.state / name):
            shutil.rmtree(directory, ignore_errors=True)
        (self._unit.runtime / f"kernel-{name}.json").unlink(missing_ok=True)

    # -- whose browsers may stay --------------------------------------------------------------------

    def labels(self) -> set[str]:
        """Whose passes have let in the browsers that are connected now, as far as keepers know."""
        return {str(label) for keeper in self._all for label in keeper.status.get("labels", ())}

    async def hang_up(self, labels: set[str]) -> None:
        """Close the connections of these. An older keeper cannot tell them apart: all of its pages connect again."""
        # At once: one that hangs must not be in the way of the others.
        all_of_them = [keeper for keeper in [*self._all, *self.unreachable.values()] if not keeper.is_gone]
        await asyncio.gather(*(self._hang_up(keeper, sorted(labels)) for keeper in all_of_them))

    async def _hang_up(self, keeper: Keeper, labels: list[str]) -> None:
        try:
            if "labels" in keeper.status:
                await keeper.ask("hang_up", labels=labels)
                return
            # The login of nobody closes everything.
            with socket.socket(socket.AF_UNIX) as connection:
                connection.setblocking(False)
                control = os.fspath(self.runtime / keeper.id / wire.CONTROL)
                await asyncio.get_running_loop().sock_connect(connection, control)
                await _ask_once(connection, {"op": "watch", "login": "nobody"})
        except KeeperGone:
            return
        except (Refused, OSError) as error:
            if not keeper.is_gone:
                self._log.error("Browsers of the keeper of %s are not disconnected: %r", keeper.id, error)

    # -- a new one ----------------------------------------------------------------------------------

    async def order(self, name: str, start: dict[str, Any], **more: Any) -> Keeper:
        """Ask for a keeper, which starts what it keeps.

        :param name: the id.
        :param more: what this kind needs beside.
        :param start: START of :mod:`wire`.
        :raises Mistake: there is nobody to ask, or it cannot be started; with the reason.
        """
        if keeper := self.unreachable.get(name):
            die(keeper.trouble, code=EX_UNAVAILABLE)
        for directory in (self.runtime / name, self.state / name):
            # Of a keeper that was killed.
            shutil.rmtree(directory, ignore_errors=True)
        line = {
            "wire": wire.WIRE,
            "kind": self._kind,
            "id": name,
            "runtime": str(self.runtime / name),
            "state": str(self.state / name),
            "login": self.login,
            "memory_limit": None,
            "start": start,
            **more,
        }
        with await self._somebody() as connection:
            answer = await _ask_once(connection, line)
        if answer is None:
            die(f"The {self._kind}'s keeper has ended at once.", hint=_LOG, code=EX_UNAVAILABLE)
        if "error" in answer:
            die(str(answer["error"]), code=EX_UNAVAILABLE)
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, os.fspath(self.runtime / name / wire.CONTROL))
        except OSError as error:
            connection.close()
            die(f"The {self._kind}'s keeper cannot be reached: {error.strerror}.", hint=_LOG, code=EX_UNAVAILABLE)
        keeper = Keeper(wire.Lines(connection), {"kind": self._kind, "id": name})
        try:
            await keeper.watch(self.login)
        except (KeeperGone, Refused) as error:
            die(f"The {self._kind}'s keeper does not answer. {error}", hint=_LOG, code=EX_UNAVAILABLE)
        self._all.add(keeper)
        return keeper

    async def _somebody(self) -> socket.socket:
        """A connection to a keeper that waits for its order."""
        if self._asked_at is None:
            return self._child()
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, os.fspath(self._asked_at))
        except OSError as error:
            connection.close()
            die(
                f"{self._kind.capitalize()}s are started through {self._asked_at}, and nobody listens there "
                f"({error.strerror}).",
                hint=_HINT,
                code=EX_UNAVAILABLE,
            )
        return connection

    def _child(self) -> socket.socket:
        # Looked at here, so that ended ones do not stay as zombies for longer than until the next.
        self._children = [child for child in self._children if child.poll() is None]
        ours, theirs = socket.socketpair()
        with theirs:
            self._children.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "jupyter_remote.keeper"],
                    stdin=theirs.fileno(),
                    # A signal for the server's terminal is not one for kernels.
                    start_new_session=True,
                )
            )
        ours.setblocking(False)
        return ours


async def hand_over(websocket: KernelWebsocketHandler | TermSocket, keeper: Keeper, *, login: str, **more: Any) -> None:
    """Give a browser's connection to a keeper, after the handshake. The server has nothing to do with it any more.

    :param more: what a keeper of this kind needs beside.
    """
    max_message = websocket.max_message_size
    upstream.end_pings(websocket)
    try:
        file, early = await upstream.take_over(websocket)
    except StreamClosedError:
        return
    # For a word of our own, if it is not taken.
    with socket.socket(fileno=os.dup(file)) as connection:
        # Of now: from here on it is closed with others when the pass ends.
        label = cast("Owner", websocket.identity_provider).pass_of(websocket.request)
        if label is None:
            os.close(file)
            _refuse(connection, "logged out")
            return
        try:
            await keeper.ask(
                "websocket",
                file=file,
                login=login,
                label=label,
                max_message=max_message,
                # Jupyter has this setting and heeds it for other websockets only; 0 is never.
                ping=websocket.settings.get("websocket_ping_interval") or 0,
                early=base64.b64encode(early).decode(),
                **more,
            )
        except (KeeperGone, Refused) as error:
            websocket.log.error("A websocket was not taken by the keeper of %s: %r", keeper.id, error)
            _refuse(connection, f"The {keeper.kind} cannot be reached")


def _refuse(connection: socket.socket, why: str) -> None:
    """Close a websocket with a reason, without waiting."""
    text = struct.pack("!H", _INTERNAL_ERROR) + why.encode()
    try:
        connection.setblocking(False)
        connection.send(bytes((0x88, len(text))) + text)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the browser has gone


async def _ask_once(connection: socket.socket, line: dict[str, Any]) -> dict[str, Any] | None:
    """Send a line and return the only one that is the answer; None when the other side closes instead."""
    loop = asyncio.get_running_loop()

    async def ask() -> bytes:
        await loop.sock_sendall(connection, json.dumps(line).encode() + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            data = await loop.sock_recv(connection, 1 << 16)
            if not data:
                break
            received += data
        return received

    try:
        answer = json.loads(await asyncio.wait_for(ask(), PATIENCE))
    except (OSError, ValueError):  # a timeout is one of the first kind
        return None
    return answer if isinstance(answer, dict) else None
