"""The persons of this machine: who there is, who may own a Jupyter, who most likely should."""

from __future__ import annotations

import contextlib
import difflib
import os
import pwd
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .run import EX_NOUSER, die, run


@dataclass(frozen=True)
class Account:
    """A line of the user database."""

    name: str
    uid: int
    gid: int
    home: Path
    shell: str


def find(name: str) -> Account | None:
    """The account of that name, or None."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir), entry.pw_shell)


def name_of(uid: int) -> str:
    """What that account is called, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def people() -> list[Account]:
    """The accounts of persons: an uid in the range that login.defs(5) gives to people, and a login shell."""
    first, last = _uid_range()
    return [
        Account(entry.pw_name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir), entry.pw_shell)
        for entry in sorted(pwd.getpwall(), key=lambda entry: entry.pw_uid)
        if first <= entry.pw_uid <= last and _is_login_shell(entry.pw_shell)
    ]


def suggest_owner() -> str:
    """The one person who uses this machine, or an empty text when that is not clear.

    Whoever called sudo, when that is a person; else the only person there is.
    """
    names = [account.name for account in people()]
    caller = os.environ.get("SUDO_USER", "")
    if caller in names:
        return caller
    return names[0] if len(names) == 1 else ""


def owner(name: str) -> Account:
    """The account that a Jupyter can belong to.

    :raises Mistake: no name, no such account, a system account, or a home that cannot be worked in.
    """
    choices = [account.name for account in people()]
    listed = f"The people on this machine: {', '.join(choices)}." if choices else "Make one first: sudo adduser NAME"
    if not name:
        die("No owner is set.", hint=f"sudo jupyter-remote config set user NAME — {listed}", code=EX_NOUSER)
    account = find(name)
    if account is None:
        near = difflib.get_close_matches(name, choices, 1)
        die(
            f"There is no user {name!a} on this machine.",
            hint=f"Did you mean {near[0]}?" if near else listed,
            code=EX_NOUSER,
        )
    if account.uid < _uid_range()[0] or account.uid == 65534:
        die(
            f"{name} is a system account; a Jupyter belongs to a person: it runs their code.",
            hint=listed,
            code=EX_NOUSER,
        )
    if not account.home.is_dir():
        die(
            f"The home directory of {name}, {account.home}, is not there.",
            hint=f"Make it: sudo mkhomedir_helper {name} — or mount it, then: sudo jupyter-remote apply",
            code=EX_NOUSER,
        )
    if os.geteuid() in (0, account.uid) and not can(account, "w", account.home):
        die(
            f"{name} cannot write to their own home directory, {account.home}.",
            hint=f"Give it back: sudo chown {name}: {account.home} && sudo chmod u+rwx {account.home}",
            code=EX_NOUSER,
        )
    return account


def can(account: Account, access: str, path: Path) -> bool:
    """Whether a person may read ("r"), write ("w") or enter ("x") a path; tried as that person.

    Without root only one's own access can be asked for.
    """
    test = ["test", f"-{access}", str(path)]
    return run(*words_as(account), *test, check=False).returncode == 0


def words_as(account: Account, *, reset_env: bool = False) -> list[str]:
    """What stands before a command that root runs as that person; nothing when we are not root.

    :param reset_env: HOME, PATH and the like become theirs, and nothing of ours is left (setpriv(1)).
    """
    if os.geteuid() != 0:
        return []
    words = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--init-groups"]
    return [*words, "--reset-env"] if reset_env else words


def become(account: Account) -> None:
    """From here on this process is that person, with all of their groups and no way back.

    :raises OSError: we are not root.
    """
    os.initgroups(account.name, account.gid)
    os.setgid(account.gid)
    os.setuid(account.uid)


def may_act_as(account: Account) -> bool:
    """Whether we are that person, or root."""
    return os.geteuid() in (0, account.uid)


@contextlib.contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """In this block root has that person's rights and no others; for everybody else nothing changes.

    That person can do nothing to us meanwhile: the saved user id stays root's (kill(2), ptrace(2)).
    """
    if os.geteuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.initgroups(account.name, account.gid)
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _uid_range() -> tuple[int, int]:
    values = {"UID_MIN": 1000, "UID_MAX": 60000}
    try:
        text = Path("/etc/login.defs").read_text(errors="replace")
    except OSError:
        return values["UID_MIN"], values["UID_MAX"]
    for name in values:
        if match := re.search(rf"^\s*{name}\s+(\d+)", text, re.MULTILINE):
            values[name] = int(match[1])
    return values["UID_MIN"], values["UID_MAX"]


def _is_login_shell(shell: str) -> bool:
    return Path(shell).name not in ("", "nologin", "false", "sync")
