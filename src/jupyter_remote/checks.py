"""What settings ask of the system, asked before anything is changed."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import socket
from pathlib import Path

from . import accounts, paths, render, systemd, venv
from .accounts import Account
from .run import EX_CANTCREAT, EX_UNAVAILABLE, ProcessFailed, die, run
from .settings import Settings


def notebook_dir(settings: Settings, owner: Account) -> None:
    """:raises Mistake: the directory is not there, or the owner cannot work in it."""
    directory = render.notebook_dir(settings, owner)
    if not directory.is_dir():
        die(
            f"notebook_dir {directory} is not there.",
            hint=f"Make it: sudo install -d -o {owner.name} -g {owner.gid} {shlex.quote(str(directory))}",
            code=EX_CANTCREAT,
        )
    if not all(accounts.can(owner, access, directory) for access in "rx"):
        die(
            f"notebook_dir {directory} cannot be entered by {owner.name}.",
            hint="Choose a directory of theirs: sudo jupyter-remote config set notebook_dir '~'",
            code=EX_CANTCREAT,
        )


def interface(settings: Settings) -> None:
    """:raises Mistake: there is no such interface here."""
    if settings.interface == "notebook" and not venv.has_notebook():
        die(
            "Notebook 7 is not installed beside this server.",
            hint="sudo jupyter-remote config set interface lab",
            code=EX_UNAVAILABLE,
        )


def port_is_free(settings: Settings) -> None:
    """:raises Mistake: another program listens on the loopback port that the settings ask for."""
    port = settings.listen
    if not isinstance(port, int) or _is_our_socket(port):
        return
    with socket.socket() as probe:
        # As systemd will do it: without this, connections of the last minutes would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            who = listener(port)
            die(
                f"Port {port} of this machine is taken{f' by {who}' if who else ''} ({error.strerror}).",
                hint=f"Choose another: sudo jupyter-remote config set listen {_next_free(port)}",
                code=EX_UNAVAILABLE,
            )


def _is_our_socket(port: int) -> bool:
    if systemd.running():
        listens = systemd.properties(paths.SOCKET, "Listen")["Listen"] if systemd.is_active(paths.SOCKET) else ""
        return f"127.0.0.1:{port} " in f"{listens} "
    # `jupyter-remote run`
    return any("jupyter_remote.server" in command_line(pid) for pid in listeners(port))


def command_line(pid: int) -> list[str]:
    """The words of a process's command line that are not empty; none when it has gone."""
    with contextlib.suppress(OSError):
        return [word for word in Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0") if word]
    return []


def _next_free(port: int) -> int:
    for candidate in range(port + 1, min(port + 100, 65536)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    return 8888


def listener(port: int) -> str:
    """Which program listens on a TCP port, as "name (pid)"; empty when nobody does or it cannot be seen."""
    listening = _listening(port)
    if match := re.search(r'\(\("([^"]+)",pid=(\d+)', listening):
        return f"{match[1]} (pid {match[2]})"
    return "another program" if listening.strip() else ""


def listeners(port: int) -> set[int]:
    """The processes that have a TCP port open to listen on it; root sees all."""
    return set(map(int, re.findall(r"\bpid=(\d+)", _listening(port))))


def _listening(port: int) -> str:
    try:
        return run("ss", "-H", "-ltnp", f"sport = :{port}").stdout
    except ProcessFailed:
        return ""


def space_for(directory: Path, need: int = 4 << 20) -> None:
    """:raises Mistake: the file system of *directory* has less than *need* bytes left for root."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if shutil.disk_usage(existing).free < need:
        die(
            f"The disk with {existing} is full.",
            hint=f"See what is large: sudo du -xh {existing} | sort -h | tail — free some, and try again.",
            code=EX_CANTCREAT,
        )
