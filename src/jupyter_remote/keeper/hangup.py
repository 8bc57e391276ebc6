"""Closes all websockets of all people, until an Apache that stops has ended: jupyter-remote-hangup.service runs it.

A process of Apache's with an open websocket does not end when it is told to. Pages connect again at once, and may get
through as long as Apache listens; so this looks again, until Apache has gone. Nobody waits for it: a keeper that hangs
only keeps its own connections.

It imports next to nothing: what counts is that it is done in the moment between Apache's being told and its first look
at who has ended.
"""

from __future__ import annotations

import contextlib
import glob
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterable, Iterator

from . import wire

#: Where a person's server and keepers have their sockets: a directory that is theirs.
RUN = "/run/jupyter-remote"
_PLACES = (wire.CONTROL, f"kernels/*/{wire.CONTROL}", f"terminals/*/{wire.CONTROL}")

#: Seconds from the first look to the second, then twice as many each time; and in all.
FIRST, MOST = 0.05, 8.0


def main(told: Iterable[str], run: str = RUN) -> int:
    """Hang up as long as Apache is on its way out.

    :param told: what ``systemctl show`` says of Apache, ``Job=…`` and ``MainPID=…``.
    """
    apache = dict(line.strip().partition("=")[::2] for line in told)
    # Somebody may have stopped our unit alone, or the package is removed: Apache goes on, and so do pages.
    if not int(apache.get("Job") or 0):
        return 0
    try:
        # Not what will have its number, nor one that starts in its place.
        process = os.pidfd_open(int(apache.get("MainPID") or 0))
    except OSError:
        return 0  # it has gone already
    patience, give_up = FIRST, time.monotonic() + MOST
    while (left := give_up - time.monotonic()) > 0 and hang_up(min(patience, left), process, run):
        patience *= 2
    return 0


def hang_up(patience: float, apache: int, run: str = RUN) -> bool:
    """Close what is open now, and wait for the end of Apache.

    Neither by a signal, which would end a keeper that does not know it, nor by the server's door, which would start
    one that sleeps.

    :param patience: seconds that all of it may take.
    :param apache: a descriptor of its process.
    :returns: whether it is there still.
    """
    give_up = time.monotonic() + patience
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
        selector.register(apache, selectors.EVENT_READ)
        for lines in _connected(run):
            opened.callback(lines.close)
            selector.register(lines.connection, selectors.EVENT_READ, lines)
        while (left := give_up - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                lines = key.data
                if lines is None:
                    return False
                try:
                    status = next((line for line, _ in lines.receive()), None)
                    if status is None:
                        continue
                    if "labels" not in status:
                        # An older keeper. The login of nobody closes everything.
                        lines.send({"op": "watch", "login": "nobody"})
                    elif status["labels"]:
                        lines.send({"op": "hang_up", "labels": status["labels"], "at_once": True})
                except (OSError, EOFError, ValueError, RecursionError):
                    pass  # it has ended, or is none of ours
                selector.unregister(lines.connection)
        return True


def _connected(run: str) -> Iterator[wire.Lines]:
    """Connections to all servers and keepers that there are, which have been asked for their status."""
    for place in glob.glob(f"{run}/*/"):
        try:
            owner = os.stat(place)
        except OSError:
            continue  # removed at this moment
        # What is in there is theirs to make, also links to others' sockets.
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        try:
            for control in [path for pattern in _PLACES for path in glob.glob(place + pattern)]:
                try:
                    lines = wire.Lines(socket.socket(socket.AF_UNIX))
                except OSError:
                    break  # more of them than a process may have open
                lines.connection.setblocking(False)
                try:
                    lines.connection.connect(control)
                    lines.send({"op": "status"})
                except OSError:
                    lines.close()  # nobody is there any more, or nobody takes calls
                else:
                    yield lines
        finally:
            os.seteuid(os.getuid())
            os.setegid(os.getgid())


if __name__ == "__main__":
    sys.exit(main(sys.stdin))
