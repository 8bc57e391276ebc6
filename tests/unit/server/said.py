"""Journals of kernels that say what a test wants."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jupyter_remote.keeper.journal import ASKED, IOPUB, SHELL, Journal

SIZE = 1 << 20


class Kernel:
    """Writes a journal as a keeper does."""

    def __init__(self, directory: Path, size: int = SIZE) -> None:
        self.directory = directory
        self.journal = Journal(directory / "journal", size)
        #: seconds that its clock is behind
        self.late = 0.0
        self._count = itertools.count(1)
        self._numbers = itertools.count(1)

    def say(self, channel: int, kind: str, parent: str, content: dict[str, Any], metadata: object = None) -> int:
        """Any message; *parent* is the id of the request."""
        header = {"msg_id": f"k{next(self._numbers)}", "msg_type": kind, "session": "kernel", "date": self._now()}
        return self._append(channel, header, {"msg_id": parent}, metadata or {}, content)

    def ask(self, cell: str, code: str = "run()", session: str = "page", **metadata: Any) -> str:
        """A page asks to run a cell; returns the request's id."""
        identity = f"r{next(self._numbers)}"
        header = {"msg_id": identity, "msg_type": "execute_request", "session": session, "date": self._now()}
        self._append(ASKED, header, {}, {**metadata, "cellId": cell}, {"code": code, "silent": False})
        return identity

    def begin(self, request: str, code: str = "run()") -> int:
        """The kernel starts with a request."""
        count = next(self._count)
        self.say(IOPUB, "status", request, {"execution_state": "busy"})
        self.say(IOPUB, "execute_input", request, {"code": code, "execution_count": count})
        return count

    def print(self, request: str, text: str, name: str = "stdout") -> int:
        return self.say(IOPUB, "stream", request, {"name": name, "text": text})

    def show(self, request: str, text: str, display: str = "", update: bool = False) -> int:
        """A display, with an id to update it by."""
        content: dict[str, Any] = {"data": {"text/plain": text}, "metadata": {}}
        content["transient"] = {"display_id": display} if display else {}
        return self.say(IOPUB, "update_display_data" if update else "display_data", request, content)

    def end(self, request: str, count: int | None = None, status: str = "ok", **content: Any) -> int:
        """The kernel has finished with a request."""
        counted = {} if count is None else {"execution_count": count}
        self.say(SHELL, "execute_reply", request, {"status": status, **counted, **content}, {"started": "S"})
        return self.say(IOPUB, "status", request, {"execution_state": "idle"})

    def run(self, cell: str, *texts: str, code: str = "run()", session: str = "page") -> str:
        """All of it."""
        request = self.ask(cell, code, session)
        count = self.begin(request, code)
        for text in texts:
            self.print(request, text)
        self.end(request, count)
        return request

    def status(self, connections: int = 0, busy: bool = False, **sessions: int) -> dict[str, Any]:
        """The keeper's status."""
        return {
            "sequence": self.journal.number,
            "connections": connections or len(sessions),
            "execution_state": "busy" if busy else "idle",
            "sessions": sessions,
        }

    def _append(self, channel: int, *parts: object) -> int:
        return self.journal.append(channel, b"", [b"signature", *(json.dumps(part).encode() for part in parts)])

    def _now(self) -> str:
        return (datetime.now(UTC) - timedelta(seconds=self.late)).isoformat().replace("+00:00", "Z")
