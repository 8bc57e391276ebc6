"""Logins that were refused: the server writes them down, and ``jupyter-remote status`` tells of them.

The journal has them too, but the owner may not read it without sudo.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

#: Bytes of the file. Somebody who knocks without end must not fill the disk: the older half goes then.
LARGEST = 64 << 10


@dataclass(frozen=True)
class Refusal:
    """One attempt: when, in seconds since 1970, from which address, and why it was refused."""

    when: float
    address: str
    why: str


class Refusals:
    """A file of them, a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, address: str, why: str) -> None:
        """Write one down. A disk that is full keeps nobody from logging in, and nobody out."""
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(file).st_size
                if size > LARGEST:
                    younger = os.pread(file, LARGEST, size - LARGEST // 2).partition(b"\n")[2]
                    os.ftruncate(file, 0)
                    os.write(file, younger)
                os.write(file, f"{time.time():.0f} {address} {why}\n".encode())
            finally:
                os.close(file)

    def since(self, begin: float) -> list[Refusal]:
        """Those that are known from that time on, the oldest first.

        :param begin: seconds since 1970.
        """
        found = []
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        for line in text.splitlines():
            when, _, rest = line.partition(" ")
            address, _, why = rest.partition(" ")
            if when.isdecimal() and why and float(when) >= begin:
                found.append(Refusal(float(when), address, why))
        return found
