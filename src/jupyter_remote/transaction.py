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
        """Put a file in place. One that is there keeps its owner.

        :returns: whether it is different from before.
        :raises OSError: it cannot be written (no space, read-only); nothing has changed then.
        """
        try:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                before, old = file.read(), os.fstat(file.fileno())
        except FileNotFoundError:
            replace(path, text, mode)
            self._undo.append(lambda: path.unlink(missing_ok=True))
            return True
        old_mode = old.st_mode & 0o777
        if before == text and old_mode == mode:
            return False
        owner = old.st_uid, old.st_gid
        replace(path, text, mode, owner)
        self._undo.append(lambda: replace(path, before, old_mode, owner))
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


def replace(path: Path, text: str, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write a file so that a reader, or a crash, finds the old one or the new one and nothing between.

    :param owner: user and group that it is to belong to, when root writes; else it is the caller's.
    :raises OSError: it cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            if owner is not None and os.geteuid() == 0:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync(directory: Path) -> None:
    """Have the names in a directory on the disk before anything that follows.

    :raises OSError: the disk does not take them.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
