"""Files that are put in place together, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


class Transaction:
    """Writes files atomically, remembers what was there, and puts it back when the work fails.

    Used as ``with Transaction() as transaction:``; leaving the block with an exception rolls back.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.rollback()

    def write(self, path: Path, text: str, mode: int = 0o644) -> bool:
        """Put a file in place.

        :returns: whether it is different from before.
        :raises OSError: it cannot be written (no space, read-only); nothing has changed then.
        """
        try:
            before = path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            before = None
        if before == text and path.stat().st_mode & 0o777 == mode:
            return False
        replace(path, text, mode)
        if before is None:
            self._undo.append(lambda: path.unlink(missing_ok=True))
        else:
            self._undo.append(lambda: replace(path, before, mode))
        return True

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Something else to take back; called in reverse order with the files."""
        self._undo.append(undo)

    def rollback(self) -> None:
        """Put everything back, whatever fails on the way."""
        while self._undo:
            try:
                self._undo.pop()()
            except Exception:
                continue


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, finds the old one or the new one and nothing between.

    :raises OSError: it cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
