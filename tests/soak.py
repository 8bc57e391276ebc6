"""Kernels that print while the server is restarted again and again: what arrives, in what order, how often."""

from __future__ import annotations

import itertools
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import websocket

from tests.client import Client, Kernel


class Server(Protocol):
    """Something that can be stopped and started: ours (``unit/server/running.py``), or a stock server."""

    def start(self) -> Any:
        """Start it, and do not wait."""

    def wait_until_ready(self) -> Any:
        """Wait until it answers."""

    def signal(self, number: signal.Signals) -> None:
        """To its process."""

    def wait(self) -> int:
        """Wait for its end."""

    def stop(self) -> int:
        """Stop it as it wants to be stopped."""


def planned(server: Server) -> None:
    """What systemctl restart does."""
    server.stop()
    server.start().wait_until_ready()


def killed(server: Server) -> None:
    """It crashes."""
    server.signal(signal.SIGKILL)
    server.wait()
    server.start().wait_until_ready()


def hung(server: Server) -> None:
    """It hangs, until the watchdog has enough."""
    server.signal(signal.SIGSTOP)
    killed(server)


#: How a server is restarted, in turn.
RESTARTS = (planned, killed, hung)

#: Prints numbers until a file appears. How many there were stands in another one, also when nobody can be told.
_CELL = """
import itertools, os, time
log = open({stop!r} + ".{number}", "w", buffering=1)
for sent in itertools.count():
    print(sent, file=log)
    print(sent, flush=True)
    if os.path.exists({stop!r}):
        break
    time.sleep({pause})
"""


@dataclass
class Tally:
    """What came of it."""

    kernels: int
    #: fewer than wanted when sessions were gone after one
    restarts: int = 0
    lines_sent: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    #: cells that were answered, of one that ran and one that was queued for each kernel
    replies: int = 0
    #: kernels whose variable is what it was
    variables: int = 0
    #: kernels and sessions that have the ids that they had
    kernel_ids: int = 0
    session_ids: int = 0
    #: times that a websocket was interrupted
    interruptions: int = 0

    @property
    def perfect(self) -> bool:
        """Whether nothing was lost, of whatever kind. Websockets may have been interrupted."""
        wrong = self.lost or self.doubled or self.out_of_order
        all_there = self.variables == self.kernel_ids == self.session_ids == self.kernels
        return not wrong and all_there and self.replies == 2 * self.kernels and self.lines_sent > self.kernels


class _Page(threading.Thread):
    """It takes what comes, all the time, and connects again when it loses the connection, as our pages do."""

    def __init__(self, client: Client, kernel: str, number: int, stop: str, pause: float) -> None:
        """
        :param kernel: its id.
        :param number: to tell the kernels apart.
        :param stop: what ends it, as the kernel sees it.
        :param pause: seconds between two lines.
        """
        super().__init__(daemon=True)
        self.client, self.id, self.number = client, kernel, number
        self.lines: list[int] = []
        self.replies = 0
        self.value: str | None = None
        self.interruptions = 0
        #: the kernel is no more
        self.gone = False
        self._session = uuid.uuid4().hex
        # up to this record it has everything
        self._record = 0
        self.kernel = self._connect()
        assert self.kernel.execute(f"secret = {number}").error is None
        running = self.kernel.submit(_CELL.format(stop=stop, number=number, pause=pause))
        self._waiting = {running, self.kernel.submit("(secret, sent)")}

    def _connect(self) -> Kernel:
        path = f"api/kernels/{self.id}/channels?session_id={self._session}&after={self._record}"
        return Kernel(self.client, self.id, self._session, self.client.websocket(path))

    def run(self) -> None:
        # Its answer and its end come on two channels, in any order.
        while (self._waiting or self.replies < 2) and not self.gone:
            try:
                self._take(self.kernel.receive())
            except (OSError, ValueError, AssertionError, websocket.WebSocketException):
                self.interruptions += 1
                self._connect_again()

    def _connect_again(self) -> None:
        while not self.gone:
            try:
                self.kernel = self._connect()
                return
            except websocket.WebSocketBadStatusException as refused:
                self.gone = refused.status_code == 404
            except (OSError, websocket.WebSocketException):
                time.sleep(0.2)

    def _take(self, message: dict[str, Any]) -> None:
        self._record = message["metadata"].get("jupyter_remote", self._record)
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            self.lines += map(int, content["text"].split())
        elif kind == "execute_result":
            self.value = content["data"]["text/plain"]
        elif kind == "execute_reply":
            self.replies += 1
        elif kind == "status" and content["execution_state"] == "idle":
            self._waiting.discard(message["parent_header"].get("msg_id", ""))


def soak(
    browser: Client,
    restart: Sequence[Callable[[], object]],
    stop: Path,
    *,
    kernels: int,
    restarts: int,
    pause: float = 0.01,
    name: str = "python3",
    seen: str = "",
    say: Callable[[str], None] = print,
) -> Tally:
    """Start kernels on a server that runs, restart it, and count.

    :param restart: ways to restart the server, in turn.
    :param stop: a path where nothing is yet.
    :param pause: seconds between two lines of a kernel.
    :param name: of the kernelspec.
    :param seen: how the kernels call *stop*, if it is not by its own name.
    """
    tally = Tally(kernels)
    pages, sessions = [], {}
    for number in range(kernels):
        body = {"path": f"{number}.ipynb", "name": "", "type": "notebook", "kernel": {"name": name}}
        session = browser.api("POST", "sessions", body)
        sessions[session["id"]] = session["kernel"]["id"]
        pages.append(_Page(browser, session["kernel"]["id"], number, seen or str(stop), pause))
        pages[-1].start()
    heard = [0] * kernels
    for how in itertools.islice(itertools.cycle(restart), restarts):
        # Not before each kernel was heard after the last one.
        for page, had in zip(pages, heard, strict=True):
            while page.is_alive() and len(page.lines) == had:
                time.sleep(0.01)
        how()
        heard = [len(page.lines) for page in pages]
        tally.restarts += 1
        if {session["id"]: session["kernel"]["id"] for session in browser.api("GET", "sessions")} != sessions:
            break
        if tally.restarts % 20 == 0:
            say(f"{tally.restarts} of {restarts} restarts, {sum(len(page.lines) for page in pages)} lines")
    stop.touch()
    for page in pages:
        page.join()
    known = {kernel["id"] for kernel in browser.api("GET", "kernels")}
    tally.kernel_ids = sum(kernel in known for kernel in sessions.values())
    tally.session_ids = sum(session["id"] in sessions for session in browser.api("GET", "sessions"))
    for page in pages:
        tally.interruptions += page.interruptions
        tally.replies += page.replies
        secret, _ = eval(page.value or "(None, -1)")
        tally.variables += secret == page.number and page.id in known
        sent = len(stop.with_name(f"{stop.name}.{page.number}").read_text().splitlines())
        tally.lines_sent += sent
        tally.lost += len(set(range(sent)) - set(page.lines))
        tally.doubled += len(page.lines) - len(set(page.lines))
        tally.out_of_order += sum(later < earlier for earlier, later in itertools.pairwise(page.lines))
    return tally


def ways(server: Server) -> list[Callable[[], object]]:
    """:data:`RESTARTS` for this server."""
    return [lambda how=how: how(server) for how in RESTARTS]  # type: ignore[misc]
