"""The server, put together: what systemd gave, what server.json says, and Jupyter."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import site
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_event_loop
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.httpserver import HTTPServer
from tornado.ioloop import PeriodicCallback

from .. import extensions
from ..run import ASLEEP, EX_ASLEEP
from . import (
    compressed,
    config,
    control,
    exporters,
    instance,
    login,
    logins,
    opening,
    pages,
    runs,
    secondfactor,
    sessions,
    statuspage,
    upstream,
)
from .door import LOCAL_PROXIES, Door
from .environment import VERSION, DefaultEnvironment
from .identity import Owner, read_hash
from .keepers import Keepers
from .kernels import Kernels
from .notify import Notifier
from .saver import Contents, Saver
from .secret import cookie_key, login_of
from .sessions import Sessions
from .sleep import Sleep
from .unit import Unit, take
from .uploads import LargeFiles
from .watcher import Watcher

#: Seconds that requests which are being answered get when the server stops.
PATIENCE = 1.5


class JupyterRemote(ServerApp):
    """Jupyter's server with our door, our login, our kernels, and an end in order."""

    told: instance.Instance
    unit: Unit
    environment: DefaultEnvironment
    watcher: Watcher
    keepers: Keepers
    #: of kernels and of terminals
    all_keepers: list[Keepers]
    saver: Saver

    def __init__(self, told: instance.Instance, given: Unit, **kwargs: Any) -> None:
        self.told = told
        self.unit = given
        self._notifier = Notifier(given.notify_socket, given.watchdog)
        self._end: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._burying: asyncio.Task[None] | None = None
        self._resting: asyncio.Task[None] | None = None
        self._compressed: compressed.Compressed | None = None
        self._compressing: asyncio.Task[None] | None = None
        #: this is the end because nobody uses the server
        self.falls_asleep = False
        self._hanging_up: set[asyncio.Task[None]] = set()
        self.password_hash = read_hash(given.credentials)
        self.second_factor = secondfactor.read(given.credentials)
        # Who was let in without it, or with another one, logs in again.
        bound = self.password_hash + (f" {self.second_factor.name}" if self.second_factor else "")
        key = cookie_key(given.state / "cookie-secret", bound)
        self._pins = config.pinned(told, given, key)
        self._extensions = extensions.directory(given.state)
        remembered = sessions.database(given.state / "sessions.sqlite")
        super().__init__(
            config=config.decided(type(self).__name__, self._pins, told, remembered, self._extensions), **kwargs
        )
        self.no_browser_open_file = True
        self.environment = DefaultEnvironment(given.state / f"python{VERSION}", given.wheels, self.log)

    # -- start --------------------------------------------------------------------------------------

    @property
    def config_file_paths(self) -> list[str]:
        """Where Jupyter's configuration files are, the strongest first; the extensions use it too."""
        return [*super().config_file_paths, str(self._extensions / "etc/jupyter"), str(config.DEFAULTS)]

    def init_signal(self) -> None:
        """Not by Python's signal handlers: Jupyter's logs inside of one, which can raise, and the signal
        is lost. Until the loop runs there is nothing to end in order, and a signal just ends us."""

    def init_configurables(self) -> None:
        """Managers and the login; and the kernels that are there already.

        Before any request: a session whose kernel is not known is deleted when sessions are listed.
        """
        self._pin()
        self.keepers = Keepers(self.unit, self.told, login_of(self.cookie_secret), self.log)
        self.all_keepers = [self.keepers]
        super().init_configurables()
        self.saver = Saver(self.contents_manager, self.log)
        assert isinstance(self.session_manager, Sessions)
        assert isinstance(self.kernel_manager, Kernels)
        self.session_manager.on_change = self.kernel_manager.tell_saver
        self.kernel_manager.adopt(self.keepers.find())
        # Before sessions are listed: those of kernels that are gone are removed then.
        self._unburied = {name: self.notebook_of(name) for name in self.keepers.left_over()}

    def init_webapp(self) -> None:
        """The application, with what is ours set for the last time."""
        self._pin()
        super().init_webapp()
        # For all who serve pages; the saver itself has the original.
        self.web_app.settings["contents_manager"] = Contents(self.contents_manager, self.saver)
        ours = (url_path_join(self.base_url, runs.PATH), runs.RunningHandler, {"saver": self.saver})
        exports = (url_path_join(self.base_url, exporters.PATH), exporters.ExportersHandler)
        below = (
            (rf"{pages.SCRIPTS}(link\.js|passkeys\.js|status\.js)", login.Script),
            (login.PASSKEYS, login.PasskeysPage),
            (statuspage.PAGE, statuspage.StatusPage),
            (statuspage.FACTS, statuspage.StatusFacts),
        )
        more = [(re.escape(self.base_url) + pattern, handler) for pattern, handler in below]
        self.web_app.add_handlers(".*$", [ours, exports, *more])  # type: ignore[no-untyped-call]

    def load_server_extensions(self) -> None:
        """Extensions bring their pages; those open early."""
        super().load_server_extensions()
        opening.open_early(self.web_app.settings)
        for lab in self.extension_manager.extension_apps.get("jupyterlab", ()):
            self._compress(lab)

    def _compress(self, lab: Any) -> None:
        """Send extensions' files compressed, in place of JupyterLab's own handler, which has the same arguments."""
        places = [os.path.abspath(path) for path in (*lab.extra_labextensions_path, *lab.labextensions_path)]  # noqa: PTH100
        self._compressed = compressed.Compressed(self.unit.state / "compressed", places, self.log)
        where = url_path_join(re.escape(self.base_url), lab.labextensions_url, "(.*)")
        how = {"path": places, "no_cache_paths": [] if lab.cache_files else ["/"], **upstream.FOLLOW_LINKS}
        upstream.add_first(self.web_app, where, compressed.Extensions, {"compressed": self._compressed, **how})

    def notebook_of(self, kernel_id: str) -> str | None:
        """The path of the notebook that a kernel runs; None when it has none."""
        assert isinstance(self.session_manager, Sessions)
        return self.session_manager.notebook_of(kernel_id)

    def _pin(self) -> None:
        for name, value in self._pins.items():
            setattr(self, name, value)

    def init_httpserver(self) -> None:
        """Our door in front of the application, on the sockets that systemd holds."""
        self.door = Door(
            self.told, self.web_app.find_handler, self.owner.is_logged_in, self.owner.has_to_wait, self.log
        )
        self._http_server = HTTPServer(
            self.door,
            xheaders=True,
            trusted_downstream=LOCAL_PROXIES,
            max_body_size=self.max_body_size,
            max_buffer_size=self.max_buffer_size,
        )
        self.io_loop.add_callback(self._open)

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self.http_server.add_sockets(self.unit.sockets)
        self._notifier.ready(f"Serving {self.told.address}")
        self.environment.start()
        assert self.kernel_spec_manager is not None
        assert self.event_logger is not None
        self.watcher = Watcher(self.kernel_spec_manager.get_all_specs, self.door.has_websockets, self.event_logger)
        self._watching = loop.create_task(self.watcher.run())
        self._burying = loop.create_task(self._bury())
        self._compressing = loop.create_task(self._compressed.run()) if self._compressed else None
        self._resting = loop.create_task(Sleep(self, self.told.idle_stop).run())
        passes = self.owner.logins
        passes.on_end = self._hang_up
        # Those that have ended while no server ran.
        connected: set[str] = set().union(*(keepers.labels() for keepers in self.all_keepers))
        if ended := connected - passes.ids:
            self._hang_up(ended)
        self._looking = PeriodicCallback(passes.look, logins.LOOK * 1000)
        self._looking.start()
        self._renewing = PeriodicCallback(self.door.renew, 60_000)
        self._renewing.start()
        self._listening = loop.create_task(self._take_calls())

    @property
    def owner(self) -> Owner:
        """Who may come in."""
        assert isinstance(self.identity_provider, Owner)
        return self.identity_provider

    def _hang_up(self, passes: set[str]) -> None:
        """Close the connections of browsers and programs that may not come in any more."""
        self.log.info("Disconnected: %s.", ", ".join(sorted(passes)))
        self.door.hang_up(lambda request: self.owner.pass_of(request) is None)
        for keepers in self.all_keepers:
            task = asyncio.get_running_loop().create_task(keepers.hang_up(passes))
            self._hanging_up.add(task)
            task.add_done_callback(self._hanging_up.discard)

    async def _take_calls(self) -> None:
        try:
            self._control = await control.listen(self.unit.runtime, self.door, self.owner)
        except OSError as error:
            # A stop of Apache takes longer then; nothing else needs it.
            self.log.error("Nobody can have this server's websockets closed: %s.", error)

    async def _bury(self) -> None:
        """Save what kernels have said that are gone with their keepers, and remove what is left of them."""
        for name, notebook in self._unburied.items():
            self.saver.status(name, self.keepers.journal(name), notebook, {"execution_state": "dead"})
            await self.saver.finish(name, gone=True)
            self.keepers.remove(name)

    def running_server_info(self, kernel_count: bool = True) -> str:
        """One line for the log."""
        del kernel_count
        return f"Serving {self.told.notebook_dir} at {self.told.address}"

    # -- end ----------------------------------------------------------------------------------------

    def at_work(self) -> str:
        """What the server does by itself, in words; empty when that is nothing, or could be done by the next one."""
        if self._burying is not None and not self._burying.done():
            return "what kernels have said is saved that are gone"
        if self.saver.is_at_work():
            return "a notebook is to be written"
        if self.environment.is_being_made:
            return "the default environment is being made"
        if self._hanging_up:
            return "somebody is disconnected"
        return "" if self.owner.logins.all_are_written else "a login could not be written to the disk"

    def fall_asleep(self) -> None:
        """Begin the planned stop, since nobody uses the server."""
        self.falls_asleep = True
        self.log.info("Nobody uses the server: it ends, and starts with the next request.")
        self.stop()

    def stop(self, from_signal: bool = False) -> None:
        """Begin the planned stop, if it has not begun. Must be called in the event loop."""
        del from_signal
        if self._end is None:
            self._end = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        self._notifier.stopping(ASLEEP if self.falls_asleep else "Answering the last requests")
        for task in (self._watching, self._resting, self._compressing):
            if task is not None:
                task.cancel()
        left = await self.door.close(self.http_server, PATIENCE)
        if left:
            self.log.warning("Stopped with %d requests unanswered after %s s.", left, PATIENCE)
        if self._burying is not None:
            self._burying.cancel()
        if isinstance(self.contents_manager, LargeFiles):
            self.contents_manager.end_uploads()
        await self.saver.stop(PATIENCE)
        self.owner.remember_attempts()
        # Kernels (or not), terminals, extensions; then the loop ends.
        super().stop()

    @property
    def leaves_what_can_stay(self) -> bool:
        """Whether this is a stop of the server only, and kernels and terminals need not end with it."""
        return self._end is not None and (self.keepers.outlive_us or self.unit.keep_kernels)

    async def cleanup_kernels(self) -> None:
        """End the kernels. A stop that is only the server's leaves them, where they can stay."""
        assert isinstance(self.kernel_manager, Kernels)
        if self.leaves_what_can_stay:
            await self.kernel_manager.leave()
        else:
            await super().cleanup_kernels()


def make(server_json: Path) -> JupyterRemote:
    """The server, ready to be started.

    :raises Mistake: server.json, or what systemd gave, is not usable.
    """
    told = instance.load(server_json)
    given = take()
    # Connection files and sockets of kernels. Kernels and terminals see it too: `jupyter console
    # --existing` finds a running kernel by it.
    os.environ["JUPYTER_RUNTIME_DIR"] = str(given.runtime)
    # Behind our own packages: an extension adds, and replaces nothing.
    site.addsitedir(str(extensions.packages(extensions.directory(given.state))))
    upstream.import_lab()
    ensure_event_loop()
    app = JupyterRemote.instance(told, given)
    app.initialize([])
    return app


def serve(server_json: Path) -> int:
    """Serve until a signal comes; returns the exit code after a planned stop.

    :raises Mistake: what :func:`make` raises.
    """
    app = make(server_json)
    # What has been made so far stays: it need not be looked through for garbage again.
    gc.freeze()
    gc.enable()
    app.start()
    return EX_ASLEEP if app.falls_asleep else 0
