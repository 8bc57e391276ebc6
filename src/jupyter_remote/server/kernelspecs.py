"""The kernels that are offered: the owner's default environment as ``python3``, and what else is installed.

Never the server's own environment: what a user installs from a notebook must not reach the server.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from .environment import VERSION, DefaultEnvironment

if TYPE_CHECKING:
    from .app import JupyterRemote

DEFAULT = "python3"


class KernelSpecs(KernelSpecManager):
    """Kernelspecs of the owner and of the machine, with ours in front."""

    # Not the one that runs this server, even if ipykernel should be importable here.
    ensure_native_kernel = False

    environment: DefaultEnvironment

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment = cast("JupyterRemote", self.parent).environment
        own = Path(sys.prefix)
        self.kernel_dirs = [directory for directory in self.kernel_dirs if not Path(directory).is_relative_to(own)]

    def find_kernel_specs(self) -> dict[str, str]:
        """Names, and the directories where their icons are."""
        found = super().find_kernel_specs()
        specs = {} if self._is_hidden(DEFAULT) else {DEFAULT: str(self._icons())}
        for name, directory in found.items():
            specs[_other_name(directory) if name == DEFAULT else name] = directory
        return specs

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The spec of that name.

        :raises NoSuchKernel: there is none.
        """
        name = kernel_name.lower()
        if name == DEFAULT and not self._is_hidden(DEFAULT):
            return self._default()
        directory = self.find_kernel_specs().get(name)
        if directory is None:
            raise NoSuchKernel(kernel_name)
        spec = KernelSpec.from_resource_dir(directory)
        if name != Path(directory).name.lower():
            spec.display_name = f"{spec.display_name} ({Path(directory).parent})"
        return spec

    async def ready(self, kernel_name: str) -> None:
        """Wait until a kernel of that name can be started.

        :raises EnvironmentFailed: it cannot.
        """
        if kernel_name == DEFAULT and not self._is_hidden(DEFAULT):
            await self.environment.ready()

    def _default(self) -> KernelSpec:
        path = self.environment.path
        return KernelSpec(
            resource_dir=str(self._icons()),
            argv=[
                str(self.environment.python),
                # As ipykernel's own spec has it: the debugger cannot see into frozen modules.
                "-Xfrozen_modules=off",
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
            ],
            # What activating it in a shell would do; `!pip` is then this environment's.
            env={"PATH": f"{path / 'bin'}:${{PATH}}", "VIRTUAL_ENV": str(path)},
            display_name=f"Python {VERSION}",
            language="python",
            interrupt_mode="signal",
            metadata={"debugger": True},
        )

    def _icons(self) -> Path:
        return self.environment.path / "share/jupyter/kernels/python3"

    def _is_hidden(self, name: str) -> bool:
        """The owner's own configuration may list what is to be offered."""
        return bool(self.allowed_kernelspecs) and name not in self.allowed_kernelspecs


def _other_name(directory: str) -> str:
    """A name for a ``python3`` that is not ours: the owner's, or the machine's."""
    return "python3-user" if Path(directory).is_relative_to(Path.home()) else "python3-system"
