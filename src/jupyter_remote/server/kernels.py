"""Kernels: for now children of the server, on sockets that only the owner can open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from tornado import web

from ..run import Mistake
from .environment import EnvironmentFailed
from .kernelspecs import KernelSpecs


class Kernel(ServerKernelManager):
    """One kernel, talked to through files in the runtime directory, which nobody else can enter.

    On the stock default, ports, every user of the machine can read what a kernel prints.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # After the configuration has been loaded: not its business.
        self.transport = "ipc"
        self.ip = f"{Path(self.connection_file).with_suffix('')}-ipc"


class NotStarted(web.HTTPError):
    """A kernel that cannot be started, with the reason for the person who wanted it."""

    def __init__(self, reason: Exception) -> None:
        self._reason = " ".join(str(reason).split())
        super().__init__(500, self._reason)

    def __str__(self) -> str:
        # Shown as it is where a notebook is opened.
        return self._reason


class Kernels(AsyncMappingKernelManager):
    """Starts a kernel when its environment is there."""

    async def start_kernel(self, **kwargs: Any) -> str:  # type: ignore[override]
        """Start a kernel, or return the one that has this id already.

        :raises NotStarted: the environment that it needs cannot be made, or gets no kernel.
        """
        kernel_id = kwargs.get("kernel_id")
        if kernel_id is None or kernel_id not in self:
            specs = self.kernel_spec_manager
            assert isinstance(specs, KernelSpecs)
            try:
                # An offer becomes the kernel that was offered: that is what the session has, and the notebook.
                kwargs["kernel_name"] = await specs.ready(kwargs.get("kernel_name") or self.default_kernel_name)
            except (EnvironmentFailed, Mistake) as failed:
                raise NotStarted(failed) from failed
        return str(await super().start_kernel(**kwargs))
