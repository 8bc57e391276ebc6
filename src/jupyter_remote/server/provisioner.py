"""How Jupyter starts, signals and ends a kernel whose parent is a keeper."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from ..keeper import wire
from ..run import EX_UNAVAILABLE, Mistake, die
from .keepers import Keeper, KeeperGone, Keepers, Refused

if TYPE_CHECKING:
    from .kernels import Kernel

#: What a keeper's sockets for clients of this machine are called, after ``front-``.
PORTS = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}

#: Seconds between two looks at what the keeper has told.
_PAUSE = 0.02


class Provisioner(KernelProvisionerBase):
    """A kernel, by its keeper."""

    keeper: Keeper | None = None
    cwd = ""
    #: whether there is a process, or the end of one that nobody has waited for
    _has_process = False

    @property
    def kernel(self) -> Kernel:
        """Whose process this is."""
        return cast("Kernel", self.parent)

    @property
    def keepers(self) -> Keepers:
        return self.kernel.kernels.keepers

    @property
    def has_process(self) -> bool:
        return self._has_process

    def take(self, keeper: Keeper) -> None:
        """This is the one; it has started what it is there for."""
        self.keeper = keeper
        self._has_process = True
        keeper.on_change = self.kernel.take_status

    # -- start --------------------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Where it will be found, and the command that starts it."""
        kernel = self.kernel
        # The sockets are in a directory that nobody else can enter: what encryption would give.
        kwargs.pop("transport_encryption", None)
        kernel.talk_through(self.keepers.runtime / str(self.kernel_id))
        kernel.write_connection_file(jupyter_session=(kwargs.get("env") or {}).get("JPY_SESSION_NAME", ""))
        self.connection_info = kernel.get_connection_info()
        command = kernel.format_kernel_cmd(extra_arguments=kwargs.pop("extra_arguments", []))
        # That file is for clients. The kernel's own is written by the keeper.
        ours = os.path.realpath(kernel.connection_file)
        command = [argument.replace(ours, "{kernel_file}") for argument in command]
        return await super().pre_launch(cmd=command, **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start it, by the keeper that is there, or by a new one.

        :raises Mistake: it cannot be started, with the reason.
        """
        self.cwd = str(kwargs.get("cwd") or Path.cwd())
        env = dict(kwargs["env"])
        env.pop("JPY_PARENT_PID", None)
        start = {"argv": cmd, "env": env, "cwd": self.cwd, "memo": self.kernel.memo()}
        try:
            self.take(await self._start_again(start) or await self._order(start))
        except Mistake:
            if self.keeper is None:
                self.kernel.cleanup_connection_file()
            else:
                await self.kernel.tell("dead")
            raise
        return self.connection_info

    async def _start_again(self, start: dict[str, Any]) -> Keeper | None:
        if self.keeper is None or self.keeper.is_gone:
            return None
        try:
            await self.keeper.ask("start", start=start)
            # From now on, what it told before is about the last one.
            await self.keeper.refresh()
        except KeeperGone:
            return None
        except Refused as refused:
            die(f"The kernel cannot be started: {refused}", code=EX_UNAVAILABLE)
        return self.keeper

    async def _order(self, start: dict[str, Any]) -> Keeper:
        # The journal of a keeper that was killed goes too, and the next one counts from the beginning.
        await self.kernel.kernels.saver.finish(str(self.kernel_id), gone=True)
        key = self.kernel.session.key.decode()
        told = self.keepers.instance
        return await self.keepers.order(
            str(self.kernel_id), start, key=key, journal_bytes=told.journal_bytes, memory_limit=told.memory_limit
        )

    # -- life and end -------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """The return code, 0 before any start; None while it runs. Asks nobody: the keeper tells by itself."""
        return 0 if self.keeper is None else self.keeper.returncode

    async def wait(self) -> int | None:
        """Wait for the end; the return code."""
        while (code := await self.poll()) is None:
            await asyncio.sleep(_PAUSE)
        self._has_process = False
        return code

    async def send_signal(self, signum: int) -> None:
        """To the kernel's process group. No error when it has ended."""
        if self.keeper is not None:
            with contextlib.suppress(KeeperGone, Refused):
                await self.keeper.ask("signal", number=int(signum))

    async def kill(self, restart: bool = False) -> None:
        """Kill it, and whatever it has started."""
        del restart
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """Ask it to end."""
        del restart
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        """End the keeper too, unless the kernel is started again."""
        if restart or self.keeper is None:
            return
        keeper, self.keeper = self.keeper, None
        # The journal goes with the keeper.
        await self.kernel.kernels.saver.finish(str(self.kernel_id), gone=keeper.is_gone)
        await keeper.end()
        if keeper.is_gone:
            self.keepers.remove(str(self.kernel_id))

    # -- what it tells ------------------------------------------------------------------------------

    def was_ended(self) -> bool:
        """Whether somebody has ended the keeper in order: it has gone, and cleaned up behind itself."""
        return (
            self.keeper is not None
            and self.keeper.is_gone
            and not (self.keepers.runtime / str(self.kernel_id) / wire.CONTROL).exists()
        )

    async def get_provisioner_info(self) -> dict[str, Any]:
        info = await super().get_provisioner_info()
        return info | {"pid": None if self.keeper is None else self.keeper.status.get("pid")}

    def resolve_path(self, path: str) -> str | None:
        """The path of a file that the kernel would call so, or None."""
        found = Path(self.cwd, Path(path).expanduser())
        return found.resolve().as_posix() if found.exists() else None
