"""Kernels that print while the server is restarted again and again: what arrives, in what order, how often."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from running import Running

from tests.client import Kernel

#: How the server is stopped, in turn.
STOPS: tuple[Callable[[Running], object], ...] = (
    lambda server: server.stop(),
    lambda server: (server.signal(signal.SIGKILL), server.wait()),
    # It hangs, until the watchdog has enough.
    lambda server: (server.signal(signal.SIGSTOP), server.signal(signal.SIGKILL), server.wait()),
)

#: Prints numbers until a file appears, and then one more thing.
_CELL = """
import itertools, os, sys, time
for sent in itertools.count():
    print(sent, flush=True)
    if os.path.exists({stop!r}):
        break
    time.sleep({pause})
"""


@dataclass
class Tally:
    """What came of it."""

    kernels: int
    restarts: int
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
    #: websockets that were interrupted
    interruptions: int = 0

    @property
    def perfect(self) -> bool:
        """Whether nothing at all was to be noticed."""
        wrong = self.lost or self.doubled or self.out_of_order or self.interruptions
        all_there = self.variables == self.kernel_ids == self.session_ids == self.kernels
        return not wrong and all_there and self.replies == 2 * self.kernels and self.lines_sent > self.kernels


class _Reader(threading.Thread):
    """A page: it takes what comes, all the time."""

    def __init__(self, kernel: Kernel, running: str, queued: str) -> None:
        super().__init__(daemon=True)
        self.kernel = kernel
        self.lines: list[int] = []
        self.replies = 0
        self.value: str | None = None
        self.broke = False
        self._waiting = {running, queued}
        self._queued = queued

    def run(self) -> None:
        try:
            # Its answer and its end come on two channels, in any order.
            while self._waiting or self.replies < 2:
                message = self.kernel.receive()
                kind, content = message["msg_type"], message["content"]
                if kind == "stream":
                    self.lines += map(int, content["text"].split())
                elif kind == "execute_result":
                    self.value = content["data"]["text/plain"]
                elif kind == "execute_reply":
                    self.replies += 1
                elif kind == "status" and content["execution_state"] == "idle":
                    self._waiting.discard(message["parent_header"].get("msg_id", ""))
        except Exception:
            self.broke = True


def soak(
    server: Running,
    stop: Path,
    *,
    kernels: int,
    restarts: int,
    pause: float = 0.01,
    name: str = "python3",
    say: Callable[[str], None] = print,
) -> Tally:
    """Start kernels on a server that runs, restart it, and count.

    :param stop: a path that the kernels see, where nothing is yet.
    :param pause: seconds between two lines of a kernel.
    :param name: of the kernelspec.
    """
    tally = Tally(kernels, restarts)
    with server.owner() as browser:
        readers, sessions = [], {}
        for number in range(kernels):
            body = {"path": f"{number}.ipynb", "name": "", "type": "notebook", "kernel": {"name": name}}
            session = browser.api("POST", "sessions", body)
            sessions[session["id"]] = session["kernel"]["id"]
            kernel = browser.connect(session["kernel"]["id"])
            assert kernel.execute(f"secret = {number}").error is None
            running = kernel.submit(_CELL.format(stop=str(stop), pause=pause))
            readers.append(_Reader(kernel, running, kernel.submit("(secret, sent)")))
            readers[-1].start()
        for number, how in zip(range(1, restarts + 1), itertools.cycle(STOPS), strict=False):
            how(server)
            server.start().wait_until_ready()
            found = {session["id"]: session["kernel"]["id"] for session in browser.api("GET", "sessions")}
            assert found == sessions, f"after restart {number}: {found} instead of {sessions}"
            if number % 20 == 0:
                say(f"{number} of {restarts} restarts, {sum(len(reader.lines) for reader in readers)} lines")
        stop.touch()
        for reader in readers:
            reader.join()
        known = {kernel["id"] for kernel in browser.api("GET", "kernels")}
        tally.kernel_ids = sum(kernel in known for kernel in sessions.values())
        tally.session_ids = sum(session["id"] in sessions for session in browser.api("GET", "sessions"))
    for number, reader in enumerate(readers):
        tally.interruptions += reader.broke
        tally.replies += reader.replies
        secret, sent = eval(reader.value or "(None, -1)")
        tally.variables += secret == number
        tally.lines_sent += sent + 1
        tally.lost += len(set(range(sent + 1)) - set(reader.lines))
        tally.doubled += len(reader.lines) - len(set(reader.lines))
        tally.out_of_order += sum(later < earlier for earlier, later in itertools.pairwise(reader.lines))
    return tally
