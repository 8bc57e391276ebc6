"""What Jupyter is told by us in a way that wins over the owner's own ``~/.jupyter``.

Everything else is the owner's to decide; defaults that suit a remote machine are in ``defaults/``, as
ordinary configuration files with the lowest precedence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_server import DEFAULT_JUPYTER_SERVER_PORT
from traitlets.config import Config

from .. import venv
from . import terminals, upstream
from .channels import Channels
from .environment import VERSION
from .identity import Owner
from .instance import Instance
from .kernels import Kernel, Kernels
from .kernelspecs import DEFAULT, KernelSpecs
from .sessions import Sessions
from .unit import Unit

#: Configuration files that everything else overrules.
DEFAULTS = Path(__file__).parent / "defaults"

#: What we add to the pages of JupyterLab and Notebook.
LABEXTENSIONS = Path(__file__).parent / "labextensions"

#: Extensions that every instance has, or has not, whatever files in ~/.jupyter say.
EXTENSIONS = {
    "jupyterlab": True,
    # Debian, whose Jupyter the slim package has, has none of today.
    "notebook": venv.has_notebook(),
    "notebook_shim": True,
    # Instead of Jupyter's own.
    terminals.__name__: True,
    "jupyter_server_terminals": False,
}


def pinned(instance: Instance, unit: Unit, cookie_key: bytes) -> dict[str, Any]:
    """ServerApp's traits that are ours, by name.

    They are passed as configuration, and set once more after the owner's files were read: some traits
    have older names that overwrite the newer ones when they are set.
    """
    listening = unit.sockets[0].getsockname()
    unix = isinstance(listening, str)
    return {
        # The door: whoever wants in comes through systemd's socket, past our own check of the name.
        "sock": listening if unix else "",
        "ip": "127.0.0.1" if unix else listening[0],
        "port": DEFAULT_JUPYTER_SERVER_PORT if unix else listening[1],
        "port_retries": 0,
        "certfile": "",
        "keyfile": "",
        "client_ca": "",
        "ssl_options": {},
        "allow_remote_access": True,
        "local_hostnames": [*instance.server_names, "localhost"],
        "trust_xheaders": True,
        "custom_display_url": instance.address,
        # The login, and what could be had without it.
        "identity_provider_class": Owner,
        "allow_unauthenticated_access": False,
        "cookie_secret": cookie_key,
        "authenticate_prometheus": True,
        "disable_check_xsrf": False,
        "allow_origin": "",
        "allow_origin_pat": "",
        "allow_credentials": False,
        "allow_root": False,
        "allow_external_kernels": False,
        "tornado_settings": {
            "static_handler_class": upstream.StaticFiles,
            "xsrf_cookie_kwargs": {
                "path": instance.base_url,
                "samesite": "Lax",
                "secure": instance.behind_tls,
            },
            # JupyterLab would ask at each page load whether it should be rebuilt: 1.5 s of CPU.
            "page_config_data": {"buildAvailable": False, "buildCheck": False},
        },
        # Where, and what.
        "base_url": instance.base_url,
        "root_dir": str(instance.notebook_dir),
        "default_url": "/lab" if instance.interface == "lab" else "/tree",
        "file_to_run": "",
        "open_browser": False,
        "autoreload": False,
        "kernel_manager_class": Kernels,
        "kernel_spec_manager_class": KernelSpecs,
        "kernel_websocket_connection_class": Channels,
        "session_manager_class": Sessions,
    }


def decided(app_class: str, pins: dict[str, Any], instance: Instance, sessions: Path, extensions: Path) -> Config:
    """The configuration that wins.

    :param app_class: the name of the application's class: its section beats ``ServerApp``'s.
    :param pins: what :func:`pinned` says.
    :param sessions: the file that remembers which notebook has which kernel.
    :param extensions: the environment of the owner's extensions, which need not be there.
    """
    made = Config(
        {
            app_class: pins | {"jpserver_extensions": EXTENSIONS},
            # Read under this name where extensions are collected and linked.
            "ServerApp": {"jpserver_extensions": EXTENSIONS, "open_browser": False},
            Kernels.__name__: {
                "kernel_manager_class": f"{Kernel.__module__}.{Kernel.__qualname__}",
                "default_kernel_name": DEFAULT,
                "cull_idle_timeout": instance.cull_idle,
                # "Has done nothing" is about the kernel: a tab that somebody forgot must not keep it.
                "cull_connected": True,
                "cull_busy": False,
                "cull_interval": max(5, min(300, instance.cull_idle // 4)),
            },
            Sessions.__name__: {"database_filepath": str(sessions)},
            # Of JupyterLab and of Notebook. An owner who has a list of extensions for one of them has that.
            "LabServerApp": {
                "extra_labextensions_path": [str(LABEXTENSIONS), str(extensions / "share/jupyter/labextensions")]
            },
            "LabApp": {
                # The server's environment is root's: nothing could be installed into it or built.
                "extension_manager": "readonly",
                "dev_mode": False,
                "core_mode": False,
                "watch": False,
                "splice_source": False,
            },
        }
    )
    environment = instance.default_environment or str(extensions.with_name(f"python{VERSION}"))
    if servers := _language_servers(extensions, environment):
        # Beside those of the owner's own files.
        made.LanguageServerManager.language_servers.update(servers)
    return made


def _language_servers(extensions: Path, environment: str) -> dict[str, Any]:
    """Those among the owner's extensions: jupyter_lsp would start them with the server's own Python, which does not
    see them.

    :param environment: where the owner's code will run, which is what it may import.
    """
    program = extensions / "bin/pylsp"
    if not program.exists():
        return {}
    # Nobody else pays for it with their server's start.
    from jupyter_lsp.schema import SPEC_VERSION
    from jupyter_lsp.specs.python_lsp_server import PythonLSPServer as Known

    # With its settings' schema: without that they are not in the Settings Editor.
    settings = {**Known.spec, "env": {**Known.spec["env"], "VIRTUAL_ENV": environment}}
    return {Known.key: {"version": SPEC_VERSION, "argv": [str(program)], "languages": Known.languages, **settings}}
