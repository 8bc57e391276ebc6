"""Which notebook has which kernel: Jupyter's own database, kept in a file, so that it outlives the server."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.services.sessions.sessionmanager import SessionManager

if TYPE_CHECKING:
    from .kernels import Kernels


class Sessions(SessionManager):
    """Jupyter's, but a write does not wait for the disk: a machine that falls over has no kernels afterwards."""

    #: called with the id of a kernel whose notebook is another one now
    on_change: Callable[[str], None] | None = None

    def notebook_of(self, kernel_id: str) -> str | None:
        """The path of the notebook that a kernel runs, for the contents manager; None when it has none."""
        rows = "SELECT path FROM session WHERE kernel_id = ? AND type = 'notebook'"
        # The original makes the table when it is first asked for a cursor.
        found = self.cursor.connection.execute(rows, (kernel_id,)).fetchone()
        return found[0] if found else None

    async def kernel_culled(self, kernel_id: str) -> bool:
        """Whether its kernel is gone, and a session with it. One that cannot be reached is not gone."""
        kernels = cast("Kernels", self.kernel_manager)
        return kernel_id not in kernels and kernel_id not in kernels.keepers.unreachable

    async def save_session(self, session_id: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A new session; returns its model."""
        model: dict[str, Any] = await super().save_session(session_id, *args, **kwargs)  # type: ignore[no-untyped-call]
        self._tell(model)
        return model

    async def update_session(self, session_id: str, **kwargs: Any) -> None:
        """A session has another path, name or kernel."""
        await super().update_session(session_id, **kwargs)  # type: ignore[no-untyped-call]
        self._tell(await self.get_session(session_id=session_id))  # type: ignore[no-untyped-call]

    def _tell(self, session: dict[str, Any] | None) -> None:
        if self.on_change is not None and session and session.get("kernel"):
            self.on_change(session["kernel"]["id"])

    @property
    def connection(self) -> sqlite3.Connection:
        """The database."""
        is_new = self._connection is None
        connection: sqlite3.Connection = super().connection
        if is_new:
            connection.execute("PRAGMA synchronous = OFF")
        return connection


def database(path: Path) -> Path:
    """The file, which nobody else can read. One that is damaged is made anew: it is worth less than a start."""
    with contextlib.suppress(FileNotFoundError):
        if not _is_whole(path):
            for left_over in (path, path.with_name(f"{path.name}-journal")):
                left_over.unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return path


def _is_whole(path: Path) -> bool:
    """
    :raises FileNotFoundError: it is not there.
    """
    if path.stat().st_size == 0:
        return True
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            answer = connection.execute("PRAGMA quick_check").fetchone()
            columns = {row[1] for row in connection.execute("PRAGMA table_info(session)")}
    except sqlite3.DatabaseError:
        return False
    return answer == ("ok",) and columns in (set(), SessionManager._columns)
