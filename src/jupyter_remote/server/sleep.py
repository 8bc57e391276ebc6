"""A server that nobody uses ends. Its socket stays, and systemd starts it again with the next request.

Kernels and terminals have keepers, which have the connections of pages too: all of that goes on. What only the server
can do keeps it here, or a keeper wakes it: it connects to the socket when its kernel works or ends, when the last
page has gone and may not have saved what it had, or when a login ends (:mod:`~jupyter_remote.keeper.waker`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from jupyter_client.manager import KernelManager
from jupyter_server.services.events.handlers import SubscribeWebsocket

from . import upstream
from .keepers import Hangs, Keeper, KeeperGone, Refused
from .kernels import Kernel, Kernels

if TYPE_CHECKING:
    from .app import JupyterRemote
    from .terminals import Terminals

#: Seconds between two looks: at most, and as a part of the time that must have passed.
LOOK, PART = 30.0, 1 / 4

#: Seconds for which somebody who is not logged in yet is waited for: a login has two steps, and a page.
LINGER = 300.0


class Sleep:
    """Ends the server when nobody has used it for *idle* seconds."""

    def __init__(self, app: JupyterRemote, idle: float) -> None:
        self._app, self._idle = app, idle
        self._began = time.monotonic()
        self._kept_up_by = ""

    async def run(self) -> None:
        """Look now and then, until it is over or this is cancelled."""
        address = self._app.unit.sockets[0].getsockname()
        if not self._idle or not self._app.keepers.outlive_us or not isinstance(address, str):
            return
        try:
            while True:
                await asyncio.sleep(min(LOOK, self._idle * PART))
                if not self.needed_for() and await self._take_leave(address):
                    self._app.fall_asleep()
                    return
        except Exception:
            self._app.log.exception("The server stays, whether somebody uses it or not.")

    def needed_for(self) -> str:
        """Why the server must be there, in words; empty when it need not."""
        app = self._app
        door = app.door
        now = time.monotonic()
        if now - max(self._began, door.used()) < self._idle:
            return "somebody uses it"
        if now - door.knocked < min(LINGER, self._idle):
            return "somebody may be logging in"
        # A page in view asks for something every few seconds. One that is hidden holds the connection for events, and
        # does not open it again before somebody looks at it.
        if door.has_websockets(but=SubscribeWebsocket):
            return "a page is connected"
        if any(not isinstance(kernel, Kernel) or kernel.keeper is None for kernel in self._kernels()):
            return "a kernel would end with it"
        if any(kernel.autorestart and keeper.returncode is not None for kernel, keeper in self._kept()):
            return "a kernel is to be started again"
        activity = max((float(keeper.status["activity"]) for _, keeper in self._kept()), default=0.0)
        if 0 <= time.time() - activity < self._idle:
            return "a kernel works"
        terminals = self._terminals()
        if (app.told.cull_idle and any(self._kernels())) or (
            terminals is not None and terminals.cull_inactive_timeout and terminals.terminals
        ):
            return "what does nothing is to be ended some day"
        return app.at_work()

    def _keepers(self) -> list[Keeper]:
        """Of kernels and of terminals."""
        terminals = self._terminals()
        shells = [] if terminals is None else [terminal.keeper for terminal in terminals.terminals.values()]
        return [*(keeper for _, keeper in self._kept()), *(keeper for keeper in shells if not keeper.trouble)]

    def _terminals(self) -> Terminals | None:
        """None when the owner wants none."""
        return cast("Terminals | None", self._app.web_app.settings.get("terminal_manager"))

    def _kept(self) -> list[tuple[Kernel, Keeper]]:
        """Kernels that have a keeper."""
        kernels = [kernel for kernel in self._kernels() if isinstance(kernel, Kernel)]
        return [(kernel, kernel.keeper) for kernel in kernels if kernel.keeper is not None]

    def _kernels(self) -> Iterable[KernelManager]:
        return upstream.all_kernels(cast("Kernels", self._app.kernel_manager))

    async def _take_leave(self, address: str) -> bool:
        """Tell the keepers; False when something has happened meanwhile, or one of them could not wake us."""
        told: list[Keeper] = []
        until = self._next_end()
        try:
            for keeper in self._keepers():
                told.append(keeper)
                await keeper.sleep(address, until)
            why = self.needed_for()
            if not why and not told and (file := next(filter(None, map(first_file, self._app.unit.tmp)), "")):
                why = f"{file} would go with it"
        except (KeeperGone, Refused) as reason:
            why = str(reason) or "a kernel or a terminal has ended"
            if not isinstance(reason, Hangs):
                # It has not begun to wait for anything. (An older one has one watcher more each time it is asked for.)
                told.pop()
        if not why:
            return True
        if why != self._kept_up_by:
            # An older keeper says it at each look.
            self._app.log.info("Nobody uses the server, but it stays: %s.", why)
        self._kept_up_by = why
        for keeper in told:
            with contextlib.suppress(KeeperGone, Refused):
                await keeper.watch(self._app.keepers.login)
        return False

    def _next_end(self) -> float | None:
        """When a page or a program that is connected may have to be disconnected; None for never."""
        keepers = self._app.all_keepers
        end = self._app.owner.logins.next_end
        return end if end < math.inf and any(each.labels() or each.unreachable for each in keepers) else None


def first_file(directory: Path) -> str:
    """The path of something in a directory for files that nobody keeps; empty when nothing there would be missed.

    Directories and sockets would not, of programs that have ended; nor cells that ipykernel has given to its debugger.
    """
    unseen = [os.fspath(directory)]
    while unseen:
        try:
            with os.scandir(unseen.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        unseen += [] if entry.name.startswith("ipykernel_") else [entry.path]
                    elif not stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                        return entry.path
        except FileNotFoundError:
            continue
        except OSError as error:
            return str(error.filename)
    return ""
