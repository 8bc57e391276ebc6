"""Passes: what lets somebody in again and again. A browser that has logged in has one, and each token of a program.

Each is a file of the owner's. To make the file is to let in, to remove it is to throw out: the server and a command
need not know of each other, and one file that is damaged is one pass that is gone. The name is the SHA-256 of the
secret, which itself is nowhere on disk (256 random bits need nothing slower); the file's time is when it was used last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .transaction import sync

#: Secret scanners and people find a token by it.
TOKEN = "jr_"

#: Seconds without any use after which a browser has to log in again, and after which it has to in any case.
IDLE, LONGEST = 30 * 86400, 365 * 86400

#: Characters of a digest that are a pass's id: shown, typed, and told to keepers.
_ID = 16

#: What :func:`new_secret` makes.
_SECRET = re.compile(r"(jr_)?[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Bytes of a file. All are of one size, so that one can be written over by a single write.
_SIZE = 2048
#: Characters of what a browser or a person says of itself.
_TEXT = 80


@dataclass(frozen=True)
class Pass:
    """What is known of one. Times are seconds since 1970.

    ``digest`` is of the secret. ``name`` is a token's. ``how`` somebody came in: ``password``, ``login link``.
    ``browser`` and ``address`` are of the login; ``last_address`` is of the last use, empty before the first.
    ``expires`` is the end in any case, None is never; ``idle`` the seconds without use that end it, 0 is any.
    ``login`` is what it depends on: a digest of the key of cookies, another one after a new password.
    """

    digest: str
    created: float
    name: str = ""
    how: str = ""
    browser: str = ""
    address: str = ""
    last_address: str = ""
    expires: float | None = None
    idle: float = 0
    login: str = ""
    seen: float = 0

    @property
    def id(self) -> str:
        """How it is called. It opens nothing."""
        return self.digest[:_ID]

    def ends(self) -> float:
        """When it ends if it is not used any more."""
        ends = [self.seen + self.idle] if self.idle else []
        if self.expires is not None:
            ends.append(self.expires)
        return min(ends, default=float("inf"))


def new_secret(prefix: str = "") -> str:
    """256 random bits, in 43 characters that need no quoting anywhere."""
    return prefix + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """The name of its file; empty when it cannot be a secret of ours."""
    return hashlib.sha256(secret.encode()).hexdigest() if _SECRET.fullmatch(secret) else ""


class Passes:
    """A directory of them.

    :param directory: made with the first pass, for the owner alone.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def stamp(self) -> int:
        """Another number after a pass was added or removed, unless that is too young for the clock of files."""
        try:
            return self.directory.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def digests(self) -> list[str]:
        """Those that there are.

        :raises OSError: that cannot be known now.
        """
        try:
            return [name for name in os.listdir(self.directory) if _DIGEST.fullmatch(name)]  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, digest: str) -> Pass | None:
        """One of them; None when it is not there, or damaged, which is the same."""
        try:
            file = os.open(self.directory / digest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            known = json.loads(os.read(file, _SIZE))
            # Of a later version: what is not known is ignored.
            fields = {name: known[name] for name in Pass.__dataclass_fields__ if name in known}
            return Pass(**{**fields, "digest": digest, "seen": os.fstat(file).st_mtime})
        except (OSError, ValueError, TypeError):
            return None
        finally:
            os.close(file)

    def all(self, now: float | None = None) -> list[Pass]:
        """Those that are good at that time, the oldest first."""
        now = time.time() if now is None else now
        found = [one for digest in self.digests() if (one := self.read(digest)) is not None and now < one.ends()]
        return sorted(found, key=lambda one: (one.created, one.digest))

    def add(self, new: Pass) -> None:
        """Let somebody in, also after a crash.

        :raises OSError: it cannot be written.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        path = self.directory / f".{new.digest}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, _content(new))
            os.fsync(file)
            path.rename(self.directory / new.digest)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(file)
        sync(self.directory)

    def use(self, known: Pass, address: str) -> Pass:
        """Write down that it was used now, from there.

        :raises FileNotFoundError: it was removed. It is not there again now.
        :raises OSError: that cannot be written.
        """
        now = replace(known, seen=time.time(), last_address=address)
        file = os.open(self.directory / known.digest, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if now.last_address != known.last_address:
                os.pwrite(file, _content(now), 0)
            os.utime(file)
        finally:
            os.close(file)
        return now

    def remove(self, digest: str) -> bool:
        """Throw somebody out; whether it was there.

        :raises OSError: it cannot be removed.
        """
        try:
            (self.directory / digest).unlink()
        except FileNotFoundError:
            return False
        return True

    def sweep(self) -> None:
        """Remove what was begun and not finished."""
        for left in self.directory.glob(".*"):
            with contextlib.suppress(OSError):
                left.unlink()


def _content(one: Pass) -> bytes:
    told = {name: value[:_TEXT] if isinstance(value, str) else value for name, value in asdict(one).items()}
    del told["digest"], told["seen"]
    return json.dumps(told).encode().ljust(_SIZE - 1) + b"\n"
