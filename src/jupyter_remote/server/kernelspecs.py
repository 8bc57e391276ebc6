"""The kernels that are offered: the owner's default environment as ``python3``, those of the owner's other
environments, of a gateway, and what else is installed.

Never the server's own environment: what a user installs from a notebook must not reach the server.
"""

from __future__ import annotations

import asyncio
import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from .. import addkernel, venv
from ..environments import Finder
from ..gateway import Gateway
from .background import in_background
from .environment import VERSION, DefaultEnvironment
from .environmentspecs import Offered, offered
from .instance import Instance
from .remotespecs import RemoteSpecs

if TYPE_CHECKING:
    from .app import JupyterRemote

DEFAULT = "python3"


class KernelSpecs(KernelSpecManager):
    """Kernelspecs of the owner and of the machine, with ours in front."""

    # Not the one that runs this server, even if ipykernel should be importable here.
    ensure_native_kernel = False

    environment: DefaultEnvironment
    told: Instance

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        app = cast("JupyterRemote", self.parent)
        self.environment = app.environment
        self.told = app.told
        own = Path(sys.prefix)
        if not venv.BRINGS_NOTHING:
            self.kernel_dirs = [directory for directory in self.kernel_dirs if not Path(directory).is_relative_to(own)]
        self._wheels = app.unit.wheels or venv.WHEELS
        self._finder = Finder(
            Path.home(),
            self.told.notebook_dir,
            (*self.told.environments, *filter(None, [glob.escape(self.told.default_environment)])),
            hidden=(own, self.environment.path),
        )
        told = self.told
        self._remote = None
        if told.gateway_url:
            gateway = Gateway(told.gateway_url, told.gateway_token_file, told.gateway_ca_file)
            self._remote = RemoteSpecs(gateway, app.unit.state / "gateway.json", self.log)
        self._adding: dict[Path, asyncio.Future[None]] = {}

    def find_kernel_specs(self) -> dict[str, str]:
        """Names, and the directories where their icons are."""
        found = {name: str(kernel.directory) for name, kernel in self._in_environments().items()}
        found |= {name: spec.resource_dir for name, spec in self._elsewhere().items()}
        return self._installed() | found

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The spec of that name.

        :raises NoSuchKernel: there is none.
        """
        kernel = self._in_environments().get(kernel_name)
        if kernel is not None:
            return KernelSpec(resource_dir=str(kernel.directory), **kernel.spec)
        if spec := self._elsewhere().get(kernel_name):
            return spec
        return self._get_installed(kernel_name, self._installed())

    def get_all_specs(self) -> dict[str, Any]:
        """All of them, after one look at the environments."""
        installed = self._installed()
        kernels = self._in_environments()
        specs = {}
        for name, directory in installed.items():
            try:
                spec = self._get_installed(name, installed).to_dict()
            except Exception:  # whatever somebody has written into a kernel.json
                self.log.warning("Error loading kernelspec %r", name, exc_info=True)
            else:
                specs[name] = {"resource_dir": directory, "spec": spec}
        for name, kernel in kernels.items():
            specs[name] = {"resource_dir": str(kernel.directory), "spec": dict(kernel.spec)}
        for name, remote in self._elsewhere().items():
            specs[name] = {"resource_dir": remote.resource_dir, "spec": remote.to_dict()}
        return specs

    async def ready(self, kernel_name: str) -> str:
        """Wait until a kernel of that name can be started.

        :returns: the name of the kernel to start; another one when *kernel_name* was an offer.
        :raises EnvironmentFailed: it cannot.
        :raises Mistake: no kernel can be installed into the environment that was offered, or the gateway starts none.
        :raises NoSuchKernel: it was an offer, and the environment is gone.
        """
        if kernel_name == DEFAULT and not self._is_hidden(DEFAULT) and self._chosen() is None:
            await self.environment.ready()
        if self._remote is not None and kernel_name in self._elsewhere():
            await self._remote.ready()
        offer = self._in_environments().get(kernel_name)
        if offer is None or not offer.is_offer:
            return kernel_name
        await self._add_kernel(offer)
        # Before the kernel is there: the page shows the name under which it knows the kernel then.
        cast("JupyterRemote", self.parent).watcher.announce()
        for name, kernel in self._in_environments(all_of_them=True).items():
            same = kernel.environment.prefix == offer.environment.prefix
            if same and not kernel.is_offer and kernel.spec["language"].lower() == "python":
                return name
        raise NoSuchKernel(kernel_name)

    async def _add_kernel(self, offer: Offered) -> None:
        """Install a kernel into an environment, once for all who want it at the same time."""
        prefix = offer.environment.prefix
        adding = self._adding.get(prefix)
        if adding is None:
            self.log.info("Installing a kernel into %s.", prefix)
            adding = self._adding[prefix] = in_background(
                lambda: addkernel.add(offer.environment, channel=self.told.conda_channel, wheels=self._wheels),
                f"kernel for {prefix}",
            )
            adding.add_done_callback(lambda _: self._adding.pop(prefix))
        await asyncio.shield(adding)

    def _elsewhere(self) -> dict[str, KernelSpec]:
        """Of the gateway."""
        found = self._remote.all() if self._remote is not None else {}
        return {name: spec for name, spec in found.items() if not self._is_hidden(name)}

    # -- of environments ----------------------------------------------------------------------------

    def _in_environments(self, *, all_of_them: bool = False) -> dict[str, Offered]:
        found = offered(self._finder.find(), self._finder.memory, with_offers=self.told.offer_environments)
        return {name: kernel for name, kernel in found.items() if all_of_them or not self._is_hidden(name)}

    # -- installed ----------------------------------------------------------------------------------

    def _installed(self) -> dict[str, str]:
        """The default one, the owner's and the machine's, and their directories."""
        found = super().find_kernel_specs()
        specs = {} if self._is_hidden(DEFAULT) else {DEFAULT: self._default().resource_dir}
        for name, directory in found.items():
            specs[_other_name(directory) if name == DEFAULT else name] = directory
        return specs

    def _get_installed(self, kernel_name: str, installed: dict[str, str]) -> KernelSpec:
        name = kernel_name.lower()
        if name == DEFAULT and not self._is_hidden(DEFAULT):
            return self._default()
        directory = installed.get(name)
        if directory is None:
            raise NoSuchKernel(kernel_name)
        spec = KernelSpec.from_resource_dir(directory)
        if name != Path(directory).name.lower():
            spec.display_name = f"{spec.display_name} ({Path(directory).parent})"
        return spec

    def _chosen(self) -> Offered | None:
        """The kernel of the environment that is set to be the default one, if it is there."""
        for kernel in self._in_environments(all_of_them=True).values() if self.told.default_environment else ():
            is_python = kernel.spec["language"].lower() == "python" and not kernel.is_offer
            if is_python and kernel.environment.prefix.resolve() == Path(self.told.default_environment).resolve():
                return kernel
        return None

    def _default(self) -> KernelSpec:
        if chosen := self._chosen():
            # The same environment has a kernel of its own name, too.
            spec = {**chosen.spec, "display_name": f"Python {chosen.environment.python}"}
            return KernelSpec(resource_dir=str(chosen.directory), **spec)
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
