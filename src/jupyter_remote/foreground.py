"""``jupyter-remote run``: the server in the foreground, where no systemd runs it.

It does what the units do, in their order: directories, socket, credential, then the owner's identity.
"""

from __future__ import annotations

import fcntl
import grp
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from . import accounts, apply, password, paths, systemd
from .accounts import Account
from .run import EX_NOPERM, EX_UNAVAILABLE, die, say
from .server import secondfactor
from .settings import Settings

#: The first passed socket, by sd_listen_fds(3).
_FIRST = 3


def run(settings: Settings, *, keep_kernels: bool = False) -> NoReturn:
    """Serve until a signal comes. As root (the usual case in a container) or as the owner.

    :param keep_kernels: they stay when the server ends, and the next one takes them over.
    :raises Mistake: somebody else calls, or the service runs already.
    """
    owner = accounts.owner(settings.user)
    if os.geteuid() not in (0, owner.uid):
        die(
            f"Only root and the owner, {owner.name}, can do this.",
            hint="sudo jupyter-remote run",
            code=EX_NOPERM,
        )
    if systemd.running() and systemd.serves(paths.SERVICE, paths.SOCKET):
        die(
            "The service is running already.",
            # Also where it sleeps: its socket would start it beside this one.
            hint="To have it in this terminal, stop the service first: "
            "sudo systemctl stop jupyter-remote.socket jupyter-remote.service",
            code=EX_UNAVAILABLE,
        )
    if not paths.SERVER_JSON.is_file():
        die(f"{paths.SERVER_JSON} is not there yet.", hint="sudo jupyter-remote apply")
    place = paths.Place(owner.name)
    if os.geteuid() == 0:
        paths.RUN_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
        for directory in (place.state, place.runtime):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(directory, owner.uid, owner.gid)
    listening = _listen(settings, owner)
    last = _FIRST + len(listening) - 1
    # Out of the way of the numbers that they are to have.
    numbers = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, last + 1) for one in listening]
    credentials = _credentials(owner)
    environment = {
        "HOME": str(owner.home),
        "USER": owner.name,
        "LOGNAME": owner.name,
        "SHELL": owner.shell,
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "STATE_DIRECTORY": str(place.state),
        "RUNTIME_DIRECTORY": str(place.runtime),
        "CREDENTIALS_DIRECTORY": str(credentials),
        "LISTEN_FDS": str(len(listening)),
        "LISTEN_PID": str(os.getpid()),
    }
    if keep_kernels:
        environment["JUPYTER_REMOTE_KEEP_KERNELS"] = "1"
    kernels = "; its kernels stay" if keep_kernels else ", and its kernels with it"
    say(f"Serving {apply.address(settings)} — Ctrl-C ends it{kernels}.")
    if os.geteuid() == 0:
        accounts.become(owner)
    os.umask(0o077)
    os.chdir(owner.home)
    # Last: from here on number 3 is a socket, whatever it was before.
    for wanted, number in enumerate(numbers, _FIRST):
        os.dup2(number, wanted)
    os.execve(
        sys.executable,
        [sys.executable, "-P", "-m", "jupyter_remote.server", str(paths.SERVER_JSON)],
        environment,
    )


def _listen(settings: Settings, owner: Account) -> list[socket.socket]:
    listening = []
    if os.geteuid() == 0:
        paths.HTTP_SOCKET.unlink(missing_ok=True)
        listening.append(socket.socket(socket.AF_UNIX))
        listening[0].bind(str(paths.HTTP_SOCKET))
        try:
            group = grp.getgrnam("www-data").gr_gid
        except KeyError:
            group = owner.gid
        os.chown(paths.HTTP_SOCKET, owner.uid, group)
        paths.HTTP_SOCKET.chmod(0o660)
    elif settings.listen == "unix":
        die(
            "Only root can make the socket that Apache connects to.",
            hint="sudo jupyter-remote run — or set a port: sudo jupyter-remote config set listen 8888",
            code=EX_NOPERM,
        )
    if settings.listen != "unix":
        port = socket.socket()
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", int(settings.listen)))
        listening.append(port)
    for one in listening:
        one.listen(512)
    return listening


def _credentials(owner: Account) -> Path:
    """The hash for the server's eyes: a copy that only the owner can read, as LoadCredential= makes it.

    Made in root's own directory, so that nobody can have put a link in its place. Without root there is
    no hash to be had: locked, and login links still work.
    """
    if os.geteuid() != 0:
        return Path(tempfile.mkdtemp(prefix="jupyter-remote-"))
    for left_over in paths.RUN_DIR.glob("credentials-*"):
        shutil.rmtree(left_over)
    directory = Path(tempfile.mkdtemp(prefix="credentials-", dir=paths.RUN_DIR))
    for source, without in ((paths.PASSWORD_HASH, password.LOCKED), (paths.SECOND_FACTOR, secondfactor.NONE)):
        copy = directory / source.name
        copy.touch(mode=0o600)
        copy.write_text(source.read_text() if source.exists() else without + "\n")
        os.chown(copy, owner.uid, owner.gid)
    os.chown(directory, owner.uid, owner.gid)
    return directory
