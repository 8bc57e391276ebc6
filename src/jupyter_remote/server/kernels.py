"""Kernels. Their parents are keepers, so that they outlive the server; here is what Jupyter knows of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from tornado import web
from tornado.ioloop import IOLoop

from ..keeper import wire
from ..run import Mistake
from . import upstream
from .environment import EnvironmentFailed
from .keepers import OTHER_VERSION, Keeper, KeeperGone, Keepers, Refused
from .kernelspecs import KernelSpecs
from .provisioner import PORTS, Provisioner
from .saver import Saver

if TYPE_CHECKING:
    from .app import JupyterRemote

#: What a start was asked with, beside the environment, that the next start needs again.
_KEPT_ARGUMENTS = ("cwd", "extra_arguments")


class Kernel(ServerKernelManager):
    """One kernel, talked to through files in the runtime directory, which nobody else can enter.

    On the stock default, ports, every user of the machine can read what a kernel prints.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # After the configuration has been loaded: not its business.
        self.transport = "ipc"
        self.ip = f"{Path(self.connection_file).with_suffix('')}-ipc"
        #: found at the server's start: its spec is of an earlier time
        self._adopted = False
        # Upstream sets these a moment after it has begun to list the kernel; who asks meanwhile got an error 500.
        self.execution_state, self.reason, self.last_activity = "starting", "", datetime.now(UTC)

    def __del__(self) -> None:
        # The connection file is the kernel's, and stays as long as it. The original removes it here.
        self._close_control_socket()

    @property
    def kernels(self) -> Kernels:
        """All of them."""
        return cast("Kernels", self.parent)

    @property
    def keeper(self) -> Keeper | None:
        """Whoever keeps it; None for a kernel whose spec names another way to start it."""
        return self.provisioner.keeper if isinstance(self.provisioner, Provisioner) else None

    # -- what the server's next life has to know ----------------------------------------------------

    def memo(self) -> dict[str, Any]:
        """What :meth:`adopt` needs."""
        assert self.kernel_spec is not None
        given: dict[str, Any] = dict(self._launch_args or {})
        env: dict[str, str] | None = given.get("env")
        return {
            "kernel_name": self.kernel_name,
            "key": self.session.key.decode(),
            "spec": self.kernel_spec.to_dict(),
            "resource_dir": self.kernel_spec.resource_dir,
            "arguments": {name: given[name] for name in _KEPT_ARGUMENTS if name in given},
            # The rest is the server's own, which may be another one then.
            "env": None
            if env is None
            else {name: value for name, value in env.items() if os.environ.get(name) != value},
        }

    def adopt(self, keeper: Keeper) -> None:
        """Be the manager of a kernel that runs already, or has ended while no server ran.

        :raises KeyError, TypeError, ValueError: the memo is not ours.
        """
        memo = keeper.status["memo"]
        self.kernel_id = keeper.id
        self._adopted = True
        # As it was when the kernel was started: it may be gone, and an interrupt needs it.
        self._kernel_spec = KernelSpec(resource_dir=memo["resource_dir"], **memo["spec"])
        self.session.key = memo["key"].encode()
        self.talk_through(self.kernels.keepers.runtime / keeper.id)
        upstream.has_connection_file(self, Path(self.connection_file).exists())
        self.write_connection_file()
        arguments = dict(memo["arguments"])
        if memo["env"] is not None:
            arguments["env"] = {**os.environ, **memo["env"]}
        upstream.has_been_started(self, arguments)
        provisioner = Provisioner(kernel_id=keeper.id, kernel_spec=self._kernel_spec, parent=self)
        provisioner.connection_info = self.get_connection_info()
        provisioner.cwd = str(arguments.get("cwd") or "")
        self.provisioner = provisioner
        provisioner.take(keeper)
        self.start_restarter()

    def talk_through(self, directory: Path) -> None:
        """The keeper's sockets are in this directory."""
        self.ip = str(directory / wire.FRONT)
        for name, number in PORTS.items():
            setattr(self, name, number)
        self.session.signature_scheme = "hmac-sha256"

    def take_status(self) -> None:
        """The keeper has told something."""
        keeper = self.keeper
        if keeper is None or self.kernel_id not in self.kernels:
            return
        if keeper.returncode is None and (state := keeper.status.get("execution_state")):
            self.execution_state = state
        self.last_activity = datetime.fromtimestamp(keeper.status["activity"], UTC)
        self.kernels.take_status(self.kernel_id, self.last_activity, keeper.connections)
        self.kernels.tell_saver(str(self.kernel_id))
        assert isinstance(self.provisioner, Provisioner)
        if self.provisioner.was_ended() and not self.shutting_down:
            self.kernels.forget(self)

    async def tell(self, state: str) -> None:
        """Tell all who listen to the kernel which state it is in."""
        self.execution_state = state
        if self.keeper is not None:
            try:
                await self.keeper.ask("say", execution_state=state)
            except (KeeperGone, Refused):
                return  # nobody listens

    # -- where we differ ----------------------------------------------------------------------------

    async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
        """Prepare the start: by a keeper, unless the spec says by whom."""
        if self._adopted:
            self._renew_spec()
        assert self.kernel_spec is not None
        if self.provisioner is None and "kernel_provisioner" not in self.kernel_spec.metadata:
            self.provisioner = Provisioner(
                kernel_id=self.kernel_id or kw["kernel_id"], kernel_spec=self.kernel_spec, parent=self
            )
        return await super()._async_pre_start_kernel(**kw)

    def _renew_spec(self) -> None:
        """As it is now, if it is still there."""
        try:
            spec = self.kernel_spec_manager.get_kernel_spec(self.kernel_name)
        except NoSuchKernel:
            return
        self._kernel_spec = spec
        if self.provisioner is not None:
            self.provisioner.kernel_spec = spec

    async def _async_post_start_kernel(self, **kw: Any) -> None:
        """After the start: watch over it. The original connects a socket here that a shutdown would need."""
        self.start_restarter()
        assert self.provisioner is not None
        await self.provisioner.post_launch(**kw)

    def cleanup_ipc_files(self) -> None:
        """Remove sockets, of a kernel that is our child. A keeper's are its own."""
        if not isinstance(self.provisioner, Provisioner):
            super().cleanup_ipc_files()


class NotStarted(web.HTTPError):
    """A kernel that cannot be started, with the reason for the person who wanted it."""

    def __init__(self, reason: Exception) -> None:
        self._reason = " ".join(str(reason).split())
        super().__init__(500, self._reason)

    def __str__(self) -> str:
        # Shown as it is where a notebook is opened.
        return self._reason


class Kernels(AsyncMappingKernelManager):
    """Starts a kernel when its environment is there, and takes over those that run."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.keepers: Keepers = cast("JupyterRemote", self.parent).keepers
        self._ends: set[asyncio.Task[None]] = set()
        if self.allowed_message_types or not self.allow_tracebacks:
            self.log.warning("allowed_message_types and allow_tracebacks have no effect: keepers do not know them.")

    @property
    def saver(self) -> Saver:
        """Writes what nobody has seen into notebooks."""
        return cast("JupyterRemote", self.parent).saver

    # -- start --------------------------------------------------------------------------------------

    async def start_kernel(self, **kwargs: Any) -> str:  # type: ignore[override]
        """Start a kernel, or return the one that has this id already.

        :raises NotStarted: the environment that it needs cannot be made or gets no kernel, or nobody starts it.
        """
        kernel_id = kwargs.get("kernel_id")
        try:
            if kernel_id is None or kernel_id not in self:
                specs = self.kernel_spec_manager
                assert isinstance(specs, KernelSpecs)
                # An offer becomes the kernel that was offered: that is what the session has, and the notebook.
                kwargs["kernel_name"] = await specs.ready(kwargs.get("kernel_name") or self.default_kernel_name)
            return str(await super().start_kernel(**kwargs))
        except (EnvironmentFailed, Mistake) as failed:
            raise NotStarted(failed) from failed

    def adopt(self, found: Iterable[Keeper]) -> None:
        """Take over kernels that an earlier server has started, with all that it knew of them."""
        for keeper in found:
            try:
                kernel = self.kernel_manager_factory(
                    connection_file=str(Path(self.connection_dir, f"kernel-{keeper.id}.json")),
                    parent=self,
                    log=self.log,
                    kernel_name=keeper.status["memo"]["kernel_name"],
                    kernel_spec_manager=self.kernel_spec_manager,
                )
                assert isinstance(kernel, Kernel)
                kernel.adopt(keeper)
            except Exception:  # one of an unknown time must not keep the others from us
                self.log.exception("Kernel %s runs, but cannot be taken over.", keeper.id)
                self.keepers.leave_alone(keeper, OTHER_VERSION)
                continue
            upstream.add_kernel(self, keeper.id, kernel)
            self.log.info("Kernel %s (%s) runs on.", keeper.id, kernel.kernel_name)
        if len(self):
            self.initialize_culler()  # type: ignore[no-untyped-call]

    # -- those that run and that nobody can be connected to -------------------------------------------

    # They are listed with the others, so that pages which are connected still, and the sessions, stay.

    def list_kernels(self) -> list[dict[str, Any]]:
        """All that run."""
        return [*super().list_kernels(), *map(self.kernel_model, self.keepers.unreachable)]  # type: ignore[no-untyped-call]

    def kernel_model(self, kernel_id: str) -> dict[str, Any]:
        """What is said of one of them."""
        if (keeper := self.keepers.unreachable.get(kernel_id)) is None:
            return super().kernel_model(kernel_id)  # type: ignore[no-untyped-call]
        return {
            "id": kernel_id,
            "name": keeper.status["memo"]["kernel_name"],
            "last_activity": datetime.fromtimestamp(keeper.status["activity"], UTC).isoformat(),
            "execution_state": "unknown",
            "connections": 0,
            "reason": keeper.trouble,
        }

    def _check_kernel_id(self, kernel_id: str) -> None:
        """
        :raises HTTPError: there is none, or none that we can do anything with; with the reason.
        """
        if keeper := self.keepers.unreachable.get(kernel_id):
            raise web.HTTPError(501, keeper.trouble)
        super()._check_kernel_id(kernel_id)  # type: ignore[no-untyped-call]

    async def shutdown_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """End a kernel.

        :raises HTTPError: there is none, or it does not end.
        """
        if (keeper := self.keepers.unreachable.get(kernel_id)) is None:
            await super().shutdown_kernel(kernel_id, *args, **kwargs)  # type: ignore[no-untyped-call]
            return
        await keeper.end()
        if not keeper.is_gone:
            raise web.HTTPError(500, f"Kernel {kernel_id} does not end.")

    # -- what is known of them ----------------------------------------------------------------------

    def start_watching_activity(self, kernel_id: str) -> None:
        """Begin to know its state; the keeper tells it. The original listens to all that the kernel prints."""
        kernel = self.get_kernel(kernel_id)
        assert isinstance(kernel, Kernel)
        if kernel.keeper is None:
            super().start_watching_activity(kernel_id)  # type: ignore[no-untyped-call]
            return
        kernel.reason = ""
        kernel.take_status()
        self.add_restart_callback(kernel_id, lambda: self._do(kernel.tell("restarting")), "restart")

    def take_status(self, kernel_id: str, activity: datetime, connections: int) -> None:
        """What the list of kernels says."""
        self.last_kernel_activity = max(self.last_kernel_activity, activity)
        upstream.set_connections(self, kernel_id, connections)

    def tell_saver(self, kernel_id: str) -> None:
        """What may have to be written to its notebook has changed, or the notebook."""
        kernel = self.get_kernel(kernel_id) if kernel_id in self else None
        if isinstance(kernel, Kernel) and kernel.keeper is not None and not kernel.keeper.is_gone:
            notebook = cast("JupyterRemote", self.parent).notebook_of(kernel_id)
            self.saver.status(kernel_id, self.keepers.journal(kernel_id), notebook, kernel.keeper.status)

    # -- end ----------------------------------------------------------------------------------------

    def _handle_kernel_died(self, kernel_id: str) -> None:
        """It has ended again and again: Jupyter gives it up."""
        kernel = self.get_kernel(kernel_id)
        super()._handle_kernel_died(kernel_id)  # type: ignore[no-untyped-call]
        assert isinstance(kernel, Kernel)
        self.forget(kernel)

    def forget(self, kernel: Kernel) -> None:
        """It is not there any more, and nobody has asked us to end it."""
        kernel.stop_restarter()
        upstream.forget_kernel(self, str(kernel.kernel_id), kernel)
        kernel.cleanup_connection_file()
        self.log.info("Kernel %s has gone.", kernel.kernel_id)

        async def bury() -> None:
            await kernel.tell("dead")
            assert kernel.provisioner is not None
            await kernel.provisioner.cleanup()

        self._do(bury())

    def _do(self, work: Any) -> None:
        task = IOLoop.current().asyncio_loop.create_task(work)  # type: ignore[attr-defined]
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def leave(self) -> None:
        """End those that cannot outlive us, and leave the others alone."""
        mine = [
            kernel_id
            for kernel_id in self.list_kernel_ids()
            if not isinstance(kernel := self.get_kernel(kernel_id), Kernel) or kernel.keeper is None
        ]
        for kernel_id in mine:
            await self.shutdown_kernel(kernel_id)
        self.log.info("Left %d kernels running.", len(self.list_kernel_ids()))
