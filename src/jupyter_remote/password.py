"""The password's hash on disk. The password itself is never written, logged, or given to a program."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from . import paths
from .run import EX_DATAERR, EX_NOPERM, EX_UNAVAILABLE, die
from .transaction import replace

#: As in shadow(5): nobody can log in with a password. A login link still works.
LOCKED = "!"

#: What jupyter_server.auth.passwd_check understands: its own argon2, and the 2016 guide's sha1:salt:hash.
_KNOWN = re.compile(r"argon2:\$argon2(id|i|d)\$[!-~]+|(sha1|sha224|sha256|sha384|sha512|md5):[0-9a-f]+:[0-9a-f]+")


def hashed(password: str) -> str:
    """The hash of a password, in jupyter_server's own format (argon2id).

    :raises Mistake: the password is empty or has a line break in it.
    """
    from jupyter_server.auth.security import passwd

    if not password:
        die("An empty password would let everybody in.", hint="Type one, best a few words.", code=EX_DATAERR)
    if any(char in password for char in "\r\n\0"):
        die(
            "A password cannot have a line break in it.",
            hint="A login form could never send it.",
            code=EX_DATAERR,
        )
    return str(passwd(password))  # type: ignore[no-untyped-call]


def typed() -> str:
    """A password that somebody types twice, at the terminal.

    :raises Mistake: the two are not the same.
    """
    import getpass

    first = getpass.getpass("New password: ")
    if getpass.getpass("Again: ") != first:
        die("The two are not the same.", hint="Nothing was changed; try again.", code=EX_DATAERR)
    return first


def checked_hash(text: str) -> str:
    """A hash made elsewhere, if it is one that the server understands.

    :raises Mistake: it is not.
    """
    if text == LOCKED or _KNOWN.fullmatch(text):
        return text
    die(
        "This is no password hash that Jupyter understands.",
        hint="It looks like argon2:$argon2id$… (jupyter server password) or sha1:salt:hash.",
        code=EX_DATAERR,
    )


def store(hash_or_locked: str, path: Path = paths.PASSWORD_HASH) -> None:
    """Put a hash in place, readable by root alone."""
    replace(path, hash_or_locked + "\n", 0o600)


def is_locked(path: Path = paths.PASSWORD_HASH) -> bool | None:
    """Whether no password is set; None when only root may know."""
    try:
        return path.read_text().strip() in ("", LOCKED)
    except FileNotFoundError:
        return True
    except OSError:
        return None


def from_credential(directory: Path, taken: Path = paths.CREDENTIAL) -> str:
    """The hash of a password that was handed in as a systemd credential, if it was not taken before.

    :param directory: where systemd has put it, ``$CREDENTIALS_DIRECTORY``.
    :param taken: remembers the last one: a password that somebody has set since stays, at each boot.
    :returns: empty when there is nothing new.
    :raises Mistake: what was handed in is no password, or no hash.
    """
    from jupyter_server.auth.security import passwd_check

    last = _text(taken)
    if ready := _text(directory / "jupyter-remote.password-hash"):
        return "" if ready == last else checked_hash(ready)
    typed = _text(directory / "jupyter-remote.password")
    if not typed or (last and passwd_check(last, typed)):  # type: ignore[no-untyped-call]
        return ""
    return hashed(typed)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        die(f"{path.name} is not UTF-8.", hint="Hand it in anew, as a browser would send it.", code=EX_DATAERR)


def is_same(hash_or_locked: str, path: Path = paths.PASSWORD_HASH) -> bool:
    """Whether that is in place already; root knows."""
    try:
        return path.read_text().strip() == hash_or_locked
    except OSError:
        return False


def new_login_link(directory: Path) -> str:
    """Make a login token that works once, within ten minutes.

    Only its SHA-256 is kept, as the name of an empty file: a listing of the directory opens nothing.

    :param directory: ``login/`` in the owner's runtime directory.
    :raises Mistake: the caller is neither the owner nor root, or the server has never run.
    """
    token = secrets.token_urlsafe(32)
    name = hashlib.sha256(token.encode()).hexdigest()
    try:
        # Root writes here into a directory of the owner's: no link is followed, nothing is overwritten.
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=opened))
        finally:
            os.close(opened)
    except (FileNotFoundError, NotADirectoryError):
        die(
            "The server has not run since the machine was started, so it cannot give out a login link.",
            hint=f"sudo systemctl restart {paths.SERVICE}",
            code=EX_UNAVAILABLE,
        )
    except PermissionError:
        die(
            "Only the owner and root can make a login link.",
            hint="Run: sudo jupyter-remote url",
            code=EX_NOPERM,
        )
    return token
