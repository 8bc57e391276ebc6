"""Terminals. Their shells' parents are keepers, so that they outlive the server; here is what Jupyter knows of them.

An extension of the server, in place of Jupyter's own, of which it is made.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server_terminals.api_handlers import TerminalRootHandler
from jupyter_server_terminals.app import TerminalsExtensionApp
from jupyter_server_terminals.handlers import TermSocket
from jupyter_server_terminals.terminalmanager import MODEL, TerminalManager
from tornado import web

from ..run import Mistake
from . import deflate, upstream
from .keepers import Keeper, Keepers, hand_over
from .kernels import NotStarted

if TYPE_CHECKING:
    from .app import JupyterRemote

#: Names that somebody may give to a terminal: they are names of directories too, and of sockets.
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter looks for what this module has."""
    return [{"module": __name__, "app": TerminalsExtension}]


class Terminal:
    """One terminal, in the words of Jupyter's manager."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    @property
    def last_activity(self) -> datetime:
        """When something was printed or typed. One that cannot tell is not ended for doing nothing."""
        return datetime.fromtimestamp(time.time() if self.keeper.trouble else self.keeper.status["activity"], UTC)

    @property
    def is_running(self) -> bool:
        """Whether the shell has not ended."""
        return self.keeper.returncode is None


class Terminals(TerminalManager):
    """Starts terminals, ends them, and takes over those that run."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        app = self._app
        self.keepers = Keepers(app.unit, app.told, app.keepers.login, app.log, "terminal")
        app.all_keepers.append(self.keepers)
        #: by name, in the order of their start; also those whose keeper is about to end, since it needs the name
        self.terminals: dict[str, Terminal] = {}  # type: ignore[assignment]
        self._naming = asyncio.Lock()

    @property
    def _app(self) -> JupyterRemote:
        return cast("JupyterRemote", self.parent)

    # -- start --------------------------------------------------------------------------------------

    async def create(self, **kwargs: Any) -> MODEL:  # type: ignore[override]
        """Start a terminal; or return the one that has this name already.

        :param kwargs: ``name`` and ``cwd``, and whatever else Jupyter's manager knows.
        :raises HTTPError: the name cannot be one, or nobody starts it.
        """
        async with self._naming:
            name = str(kwargs.get("name") or upstream.free_name(self))
            if not _NAME.fullmatch(name):
                raise web.HTTPError(400, "A terminal's name is of letters, digits and _, 40 at most.")
            if name not in self.terminals:
                options = {**self.term_settings, "shell_command": self.shell_command, **kwargs}
                start = {
                    "argv": options["shell_command"],
                    "env": self.make_term_env(**options),
                    "cwd": options.get("cwd") or self._app.root_dir,
                    "memo": {},
                }
                try:
                    self._add(await self.keepers.order(name, start))
                except Mistake as mistake:
                    raise NotStarted(mistake) from mistake
        upstream.begin_culling(self)
        return self.get(name)

    def adopt(self) -> None:
        """Take over terminals that an earlier server has started; of those that have gone nothing is of use."""
        found = [keeper for keeper in self.keepers.find() if keeper.kind == "terminal"]
        for name in self.keepers.left_over():
            self.keepers.remove(name)
        for keeper in sorted(found, key=lambda keeper: float(keeper.status["started"])):
            self._add(keeper)
            self.log.info("Terminal %s runs on.", keeper.id)
        # Also those that nobody can be connected to: they have their names, and can be ended.
        for keeper in self.keepers.unreachable.values():
            self._add(keeper)
        if self.terminals:
            upstream.begin_culling(self)

    def _add(self, keeper: Keeper) -> None:
        terminal = self.terminals[keeper.id] = Terminal(keeper)
        keeper.on_change = lambda: self._take_status(terminal)
        # It may have gone before we listened.
        self._take_status(terminal)

    def _take_status(self, terminal: Terminal) -> None:
        """The keeper has told something."""
        keeper = terminal.keeper
        settings = self._app.web_app.settings
        settings["terminal_last_activity"] = max(
            settings.get("terminal_last_activity", terminal.last_activity), terminal.last_activity
        )
        if keeper.is_gone and self.terminals.get(keeper.id) is terminal:
            del self.terminals[keeper.id]
            # If it was killed.
            self.keepers.remove(keeper.id)
            self.log.info("Terminal %s has gone.", keeper.id)

    # -- what there is ------------------------------------------------------------------------------

    def list(self) -> list[MODEL]:
        """What runs, the oldest first."""
        return [self.get_terminal_model(name) for name, terminal in self.terminals.items() if terminal.is_running]

    def _check_terminal(self, name: str) -> None:
        """
        :raises HTTPError: there is none, or its shell has ended.
        """
        super()._check_terminal(name)
        if not self.terminals[name].is_running:
            raise web.HTTPError(404, f"Terminal not found: {name}")

    # -- end ----------------------------------------------------------------------------------------

    async def terminate(self, name: str, force: bool = False) -> None:
        """End a terminal and all that was started in it.

        :raises HTTPError: there is none, or its keeper does not do it.
        """
        del force
        self._check_terminal(name)
        terminal = self.terminals[name]
        await terminal.keeper.end()
        if not terminal.keeper.is_gone:
            raise web.HTTPError(500, f"Terminal {name} does not end.")
        self._take_status(terminal)

    async def terminate_all(self) -> None:
        """End all of them."""
        names = [name for name, terminal in self.terminals.items() if terminal.is_running]
        await asyncio.gather(*map(self.terminate, names), return_exceptions=True)


class Root(TerminalRootHandler):
    """``/api/terminals``, where a start takes its time."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Start a terminal."""
        wanted = self.get_json_body() or {}
        if "cwd" in wanted:
            # As the file browser has it: below the directory of the notebooks.
            directory = Path(self.settings["server_root_dir"]).expanduser() / wanted.pop("cwd")
            if directory.is_dir():
                wanted["cwd"] = str(directory.resolve())
        self.finish(json.dumps(await cast("Terminals", self.terminal_manager).create(**wanted)))


class Socket(TermSocket):
    """``/terminals/websocket/NAME``: a browser's connection, which is given to the keeper."""

    _deflate: deflate.Agreed | None = None

    async def get(self, url_component: str) -> None:
        """The handshake."""
        if terminal := cast("Terminals", self.terminal_manager).terminals.get(url_component):
            self._deflate = deflate.agree(self, terminal.keeper)
        await super().get(url_component)

    async def open(self, url_component: str) -> None:  # type: ignore[override]
        """After the handshake."""
        terminals = cast("Terminals", self.terminal_manager)
        terminal = terminals.terminals.get(url_component)
        if terminal is None or terminal.keeper.trouble:
            self.close()
            return
        login = terminals.keepers.login
        await hand_over(self, terminal.keeper, login=login, session="", protocol="", deflate=self._deflate)


class TerminalsExtension(TerminalsExtensionApp):
    """Jupyter's extension, with our manager, and what goes with it."""

    @property
    def _app(self) -> JupyterRemote:
        return cast("JupyterRemote", self.serverapp)

    def initialize_configurables(self) -> None:
        """The manager, and the terminals that are there already."""
        # Whatever the owner has configured.
        self.terminal_manager_class = Terminals
        super().initialize_configurables()
        cast("Terminals", self.terminal_manager).adopt()
        self.terminals_available = True

    def initialize_handlers(self) -> None:
        """Addresses, with our handlers at two of them."""
        super().initialize_handlers()
        ours: dict[type, type] = {TermSocket: Socket, TerminalRootHandler: Root}
        self.handlers[:] = [(path, ours.get(handler, handler), *more) for path, handler, *more in self.handlers]

    async def cleanup_terminals(self) -> None:
        """End the terminals. A stop that is only the server's leaves them, where they can stay."""
        if not self._app.leaves_what_can_stay:
            await super().cleanup_terminals()
