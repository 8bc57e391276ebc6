"""What systemd gives to the unit: sockets, directories, the credential, where to report and to ask for kernels.

Taken once, at the start, and then removed from the environment: a kernel or a terminal that found
``NOTIFY_SOCKET`` or ``LISTEN_FDS`` there would answer for the server.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from ..run import EX_OSERR, die

#: The first passed socket, by sd_listen_fds(3).
FIRST_SOCKET = 3

#: Everything that systemd sets for a service (systemd.exec(5)), what our unit and ``run`` set, and our own switch for
#: tests.
OURS_ALONE = (
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "JUPYTER_REMOTE_KEEP_KERNELS",
    "JUPYTER_REMOTE_KERNELS",
    "JUPYTER_REMOTE_TMP",
    "JUPYTER_REMOTE_WHEELS",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LOGS_DIRECTORY",
    "MAINPID",
    "MANAGERPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)


@dataclass(frozen=True)
class Unit:
    """The server's surroundings.

    ``watchdog`` is the longest silence that systemd accepts, in seconds; 0 when it does not watch.
    ``kernels`` is the socket where systemd starts keepers of kernels; without it they are children of ours.
    ``tmp`` are directories that go when the last unit ends that has them: ours, a kernel's, a terminal's.
    ``keep_kernels`` says that also children of ours stay when we end, and terminals.
    """

    sockets: list[socket.socket]
    state: Path
    runtime: Path
    credentials: Path | None
    notify_socket: str
    watchdog: float
    wheels: Path | None
    kernels: Path | None
    tmp: tuple[Path, ...]
    keep_kernels: bool = False


def take(environment: MutableMapping[str, str] = os.environ) -> Unit:
    """Read what systemd gave, and remove it from the environment.

    :raises Mistake: no socket was passed, or a directory is missing.
    """
    given = {name: environment.pop(name) for name in OURS_ALONE if name in environment}
    for name in [name for name in environment if name.startswith("JUPYTER_TOKEN")]:
        # Would be a second password, and a kernel could read it.
        del environment[name]
    sockets = _sockets(given)
    watched = given.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return Unit(
        sockets=sockets,
        state=_directory(given, "STATE_DIRECTORY"),
        runtime=_directory(given, "RUNTIME_DIRECTORY"),
        credentials=Path(given["CREDENTIALS_DIRECTORY"]) if given.get("CREDENTIALS_DIRECTORY") else None,
        notify_socket=given.get("NOTIFY_SOCKET", ""),
        watchdog=int(given.get("WATCHDOG_USEC", "0") or 0) / 1e6 if watched else 0.0,
        wheels=Path(given["JUPYTER_REMOTE_WHEELS"]) if given.get("JUPYTER_REMOTE_WHEELS") else None,
        kernels=Path(given["JUPYTER_REMOTE_KERNELS"]) if given.get("JUPYTER_REMOTE_KERNELS") else None,
        tmp=tuple(map(Path, given.get("JUPYTER_REMOTE_TMP", "").split())),
        keep_kernels="JUPYTER_REMOTE_KEEP_KERNELS" in given,
    )


def _sockets(given: dict[str, str]) -> list[socket.socket]:
    count = given.get("LISTEN_FDS", "")
    # The variables are inherited by whoever is started by whoever they were meant for.
    if given.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        die(
            "No socket was passed to the server: it is started by systemd, not by hand.",
            hint="sudo systemctl start jupyter-remote — or, without systemd: sudo jupyter-remote run",
            code=EX_OSERR,
        )
    sockets = []
    for number in range(FIRST_SOCKET, FIRST_SOCKET + int(count)):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                die(f"What was passed as number {number} is no socket.", code=EX_OSERR)
        except OSError as error:
            die(f"The socket that was passed as number {number} cannot be used: {error}.", code=EX_OSERR)
        # Kernels and terminals must not hold the door open when the server is gone.
        os.set_inheritable(number, False)
        listening = socket.socket(fileno=number)
        listening.setblocking(False)
        if listening.family in (socket.AF_INET, socket.AF_INET6):
            # Accepted connections inherit it. Without it, messages that follow each other quickly
            # wait 40 ms for the peer's acknowledgement.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets.append(listening)
    return sockets


def _directory(given: dict[str, str], name: str) -> Path:
    value = given.get(name, "").split(":")[0]
    if not value or not Path(value).is_dir():
        die(
            f"{name} is not set to a directory that exists: the server is started by systemd, not by hand.",
            hint="sudo systemctl start jupyter-remote — or, without systemd: sudo jupyter-remote run",
            code=EX_OSERR,
        )
    return Path(value)
