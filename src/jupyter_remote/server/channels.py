"""``/api/kernels/ID/channels``: the browser's connection to a kernel, which the server gives away.

Jupyter's handler asks who it is, where the page is from, and answers the handshake. Then the connected
socket goes to the kernel's keeper, and from there on the server has nothing to do with it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado import web

from . import deflate
from .keepers import Keeper, hand_over
from .kernels import Kernel


class Channels(ZMQChannelsWebsocketConnection):
    """A websocket to a kernel: handed over; or Jupyter's own, to a kernel that has no keeper."""

    _keeper: Keeper | None = None
    _deflate: deflate.Agreed | None = None

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
        self._deflate = deflate.agree(self.websocket_handler, self._keeper)

    async def connect(self) -> None:  # type: ignore[override]
        """After the handshake."""
        if self._keeper is None:
            if (connected := super().connect()) is not None:
                await connected
            return
        handler, kernels = self.websocket_handler, cast("Kernel", self.kernel_manager).kernels
        # A page of ours counts (labextensions/): it says up to which number it has everything.
        told = handler.get_argument("after", "")
        after = int(told) if told.isascii() and told.isdigit() else None
        if after == 0:
            # It is new, and has what was in the notebook when it was loaded.
            after = kernels.saver.loaded(self.kernel_id)
        await hand_over(
            handler,
            self._keeper,
            login=kernels.keepers.login,
            session=self.session.session,
            protocol=handler.selected_subprotocol or "",
            after=after,
            deflate=self._deflate,
        )

    def disconnect(self) -> None:  # type: ignore[override]
        """tornado has nothing to do with the connection any more."""
        if self._keeper is None:
            super().disconnect()  # type: ignore[no-untyped-call]

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """A message of the browser: after the handover they come to the keeper."""
        if self._keeper is None:
            super().handle_incoming_message(incoming_msg)
