"""``/api/kernels/ID/channels``: the browser's connection to a kernel, which the server gives away.

Jupyter's handler asks who it is, where the page is from, and answers the handshake. Then the connected
socket goes to the kernel's keeper, and from there on the server has nothing to do with it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from typing import Any, cast

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado import web
from tornado.iostream import StreamClosedError

from . import upstream
from .keepers import Keeper, KeeperGone, Refused
from .kernels import Kernel

#: RFC 6455: the server meets something that it did not expect.
_INTERNAL_ERROR = 1011


class Channels(ZMQChannelsWebsocketConnection):
    """A websocket to a kernel: handed over; or Jupyter's own, to a kernel that has no keeper."""

    _keeper: Keeper | None = None

    async def prepare(self) -> None:
        """Before the handshake.

        :raises HTTPError: there is nobody to be connected to, for now.
        """
        kernel = cast("Kernel", self.kernel_manager)
        ready = kernel.ready
        try:
            await (ready if isinstance(ready, asyncio.Future) else asyncio.wrap_future(ready))
        except Exception as error:
            raise web.HTTPError(500, str(error)) from error
        self._keeper = kernel.keeper
        if self._keeper is None:
            await super().prepare()  # type: ignore[no-untyped-call]
            return
        if self._keeper.is_gone:
            raise web.HTTPError(503, "The kernel is about to be started again")
        # Whatever the owner has configured: the keeper knows no compression.
        self.websocket_handler.get_compression_options = lambda: None  # type: ignore[method-assign]

    async def connect(self) -> None:  # type: ignore[override]
        """After the handshake."""
        if self._keeper is None:
            if (connected := super().connect()) is not None:
                await connected
            return
        handler = self.websocket_handler
        # Of the server's own pings, in milliseconds; 0 is never.
        pause = handler.ping_interval or 0
        protocol = handler.selected_subprotocol or ""
        max_message = handler.max_message_size
        upstream.end_pings(handler)
        try:
            file, early = await upstream.take_over(handler)
        except StreamClosedError:
            return
        # For a word of our own, if it is not taken.
        with socket.socket(fileno=os.dup(file)) as connection:
            try:
                await self._keeper.ask(
                    "websocket",
                    file=file,
                    session=self.session.session,
                    protocol=protocol,
                    login=cast("Kernel", self.kernel_manager).kernels.keepers.login,
                    max_message=max_message,
                    ping=pause / 1000,
                    early=base64.b64encode(early).decode(),
                )
            except (KeeperGone, Refused) as error:
                self.log.error("A websocket was not taken by the keeper of %s: %r", self.kernel_id, error)
                _refuse(connection, "The kernel cannot be reached")

    def disconnect(self) -> None:  # type: ignore[override]
        """tornado has nothing to do with the connection any more."""
        if self._keeper is None:
            super().disconnect()  # type: ignore[no-untyped-call]

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """A message of the browser: after the handover they come to the keeper."""
        if self._keeper is None:
            super().handle_incoming_message(incoming_msg)


def _refuse(connection: socket.socket, why: str) -> None:
    """Close a websocket with a reason, without waiting."""
    text = struct.pack("!H", _INTERNAL_ERROR) + why.encode()
    try:
        connection.setblocking(False)
        connection.send(bytes((0x88, len(text))) + text)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the browser has gone
