"""Login links: files that ``jupyter-remote url`` makes, each good for one login within ten minutes.

The name of the file is the SHA-256 of the token; the token itself is nowhere on disk.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

#: Seconds that a link is good for.
LIFETIME = 600

#: What secrets.token_urlsafe(32) makes.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class LoginLinks:
    """The directory of links that have not been used yet."""

    def __init__(self, directory: Path) -> None:
        """:param directory: made if it is missing; only the owner (and root) can write there."""
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory

    def use(self, token: str) -> bool:
        """Whether the token opens the door. It never does so again, whatever the answer is."""
        if not _TOKEN.fullmatch(token):
            return False
        self.sweep()
        link = self._directory / hashlib.sha256(token.encode()).hexdigest()
        try:
            age = time.time() - link.lstat().st_mtime
            # Of several requests at once, one can remove the file, and that one comes in.
            link.unlink()
        except OSError:
            return False
        return -60 < age <= LIFETIME

    def sweep(self) -> None:
        """Remove links that are too old to be used."""
        oldest = time.time() - LIFETIME
        for link in self._directory.iterdir():
            try:
                if link.lstat().st_mtime < oldest:
                    link.unlink()
            except OSError:
                continue
