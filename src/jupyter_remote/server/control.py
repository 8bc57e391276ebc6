"""Has the server's own websockets closed, as keepers' are: a socket that speaks as theirs do (:mod:`..keeper.wire`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado import httputil

from ..keeper import wire

if TYPE_CHECKING:
    from .door import Door
    from .identity import Owner


async def listen(directory: Path, door: Door, owner: Owner) -> asyncio.Server:
    """Take calls from now on.

    :param directory: where the keepers have theirs, which is the owner's alone.
    :raises OSError: the socket cannot be made.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(answer(line)).encode() + b"\n")
                await writer.drain()

    def answer(line: bytes) -> dict[str, Any]:
        asked = json.loads(line)
        operation = asked.get("op") if isinstance(asked, dict) else None
        if operation == "status":
            labels = sorted({label(websocket.request) for websocket in door.talking()})
            return {"ok": True, "wire": wire.WIRE, "kind": "server", "id": "", "labels": labels}
        if operation == "hang_up" and isinstance(labels := asked.get("labels"), list):
            door.cut(lambda request: label(request) in labels)
            return {"ok": True}
        return {"error": f"no operation {operation!a}"}

    def label(request: httputil.HTTPServerRequest) -> str:
        return owner.pass_of(request) or ""

    return await asyncio.start_unix_server(talk, directory / wire.CONTROL)
