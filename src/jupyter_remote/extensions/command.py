"""The command line: ``jupyter-remote extensions …``. For the owner; called by root it becomes the owner first."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import accounts, kernels, paths, systemd, venv
from ..run import EX_DATAERR, EX_UNAVAILABLE, ProcessFailed, die, run, say
from . import VERSION, ask_for, directory, find, left_behind, normal, not_needed, others, packages

#: Seconds in which pip has downloaded what it wants.
_PATIENCE = 1800
#: Seconds in which a server has started.
_START = 60.0

#: What the server's packages ask for and do without (requirements/left-out.txt says why). With an extension they would
#: come back, and a server that finds the second of them takes twice as long to start.
LEFT_OUT = ("ipykernel", "rfc3987-syntax")


def add_parser(commands: Any) -> None:
    """Add the command to those of ``jupyter-remote``."""
    text = "what is added to JupyterLab and its server, without sudo (owner or root)"
    extensions = commands.add_parser("extensions", help=text, description=text)
    extensions.add_argument("--json", action="store_true", help="for programs")
    extensions.set_defaults(command=_list)
    actions = extensions.add_subparsers(metavar="ACTION")
    installing = actions.add_parser("install", help="install with pip, and restart the server; kernels go on")
    installing.add_argument("names", nargs="+", metavar="NAME", help="as pip takes it: jupyterlab-git, a wheel, …")
    installing.set_defaults(command=_install)
    removing = actions.add_parser("remove", help="take extensions out again")
    removing.add_argument("names", nargs="+", metavar="NAME", help="as it is listed")
    removing.set_defaults(command=_remove)
    upgrading = actions.add_parser("upgrade", help="take the newest version of each, also after a release upgrade")
    upgrading.set_defaults(command=_upgrade)


def _list(arguments: argparse.Namespace) -> int:
    place = kernels.as_owner()
    found = find(directory(place.state))
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif found:
        rows = [("NAME", "VERSION", "IN THE BROWSER", "IN THE SERVER")]
        rows += [(one.name, one.version, _yes(one.in_browser), _yes(one.in_server)) for one in found]
        print(kernels.table(rows))
    else:
        print("None was added. To add one: jupyter-remote extensions install NAME")
    if old := left_behind(place.state):
        say(f"Of another Python, and not in use: {', '.join(one.name for one in old)}.")
        say("  jupyter-remote extensions upgrade")
    return 0


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _install(arguments: argparse.Namespace) -> int:
    place = kernels.as_owner()
    names = [_meant(name) for name in arguments.names]
    asked_before = [one.name for one in find(directory(place.state))]
    _with_pip(place, "install", *names)
    ask_for(directory(place.state), [*asked_before, *names])
    return _use()


def _meant(name: str) -> str:
    """A file as the caller's shell means it; anything else as it is."""
    is_file = "://" not in name and ("/" in name or name.endswith(".whl"))
    return str(Path(name).resolve()) if is_file else name


def _upgrade(_: argparse.Namespace) -> int:
    place = kernels.as_owner()
    names = [one.name for one in [*find(directory(place.state)), *left_behind(place.state)]]
    if not names:
        die("There is no extension to upgrade.", hint="jupyter-remote extensions install NAME", code=EX_DATAERR)
    _with_pip(place, "install", "--upgrade", *names)
    for other in others(place.state):
        run("rm", "-rf", "--one-file-system", other)
    return _use()


def _remove(arguments: argparse.Namespace) -> int:
    place = kernels.as_owner()
    have = {normal(one.name): one.name for one in find(directory(place.state))}
    for name in arguments.names:
        if normal(name) not in have:
            die(f"There is no extension {name!a}.", hint="Those there are: jupyter-remote extensions", code=EX_DATAERR)
    names = [have[normal(name)] for name in arguments.names]
    _with_pip(place, "uninstall", "--yes", *names, *not_needed(directory(place.state), names))
    return _use()


# --- pip -------------------------------------------------------------------------------------------


def _with_pip(place: paths.Place, *words: str) -> None:
    """Have pip do something in the environment, which is made when it is not there.

    :raises Mistake: it cannot be done; pip has said why.
    """
    environment = directory(place.state)
    home = accounts.owner(place.user).home
    # A mirror in the owner's pip.conf is one here too.
    env = {"HOME": str(home), "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    python = environment / "bin/python"
    sees_the_servers = packages(environment) / "jupyter-remote.pth"
    if not os.access(python, os.X_OK) or not sees_the_servers.exists():
        venv.make(Path(sys.base_prefix) / f"bin/python{VERSION}", environment, venv.WHEELS, clear=True)
        for name in LEFT_OUT:
            stand_in = packages(environment) / f"{name.replace('-', '_')}-9999.dist-info"
            stand_in.mkdir()
            (stand_in / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9999\n")
        # None of what the server has is installed a second time. Last: it says that all of this is there.
        (packages(environment) / sees_the_servers.name).write_text(f"{sysconfig.get_path('purelib')}\n")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        if "install" in words:
            # Another JupyterLab beside the server's would be half of each.
            constraints.writelines(f"{name}=={version}\n" for name, version in _of_server())
            constraints.flush()
            words = (words[0], "--constraint", constraints.name, *words[1:])
        try:
            run(python, "-I", "-m", "pip", "--no-input", *words, env=env, cwd=home, capture=False, timeout=_PATIENCE)
        except ProcessFailed:
            die(
                "pip could not do it; it says why above. The server is as it was.",
                hint="Does it want another version of Jupyter? jupyter-remote brings its own: look for another release",
                code=EX_UNAVAILABLE,
            )
    if "install" in words:
        _check(environment, env)


def _of_server() -> Iterator[tuple[str, str]]:
    """What the server has, in which version: this command is run by its Python."""
    here = [sysconfig.get_path("purelib")]
    for one in metadata.distributions(path=here):
        if one.metadata["Name"] not in ("jupyter-remote", "pip", "setuptools"):
            yield one.metadata["Name"], one.version


def _check(environment: Path, env: dict[str, str]) -> None:
    """See whether what is to run in the server can be imported.

    :raises Mistake: one cannot.
    """
    for file in sorted((environment / "etc/jupyter/jupyter_server_config.d").glob("*.json")):
        try:
            wanted = json.loads(file.read_text())["ServerApp"]["jpserver_extensions"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        for module, on in wanted.items():
            done = run(environment / "bin/python", "-I", "-c", f"import {module}", check=False, env=env, timeout=120)
            if on and done.returncode:
                last = (done.stderr.strip().splitlines() or ["it ends"])[-1]
                die(
                    f"{module} cannot be imported, so it would not run in the server: {last}",
                    hint="Take it out again: jupyter-remote extensions remove NAME",
                    code=EX_UNAVAILABLE,
                )


def _use() -> int:
    """Let the server take it up."""
    if not systemd.running():
        say("The server takes it up when it is started again.")
        return 0
    if not systemd.is_active(paths.SERVICE):
        return 0  # it sleeps, or is off
    # The owner may not ask systemd, but may end a process of their own; systemd starts it again at once.
    before = systemd.properties(paths.SERVICE, "MainPID")["MainPID"]
    if before.isdigit() and int(before) > 0:
        os.kill(int(before), signal.SIGTERM)
    end = time.monotonic() + _START
    while not _runs_anew(before):
        if time.monotonic() > end:
            die(
                "The server has not started again.",
                hint="jupyter-remote logs — and to be without it: jupyter-remote extensions remove NAME",
                code=EX_UNAVAILABLE,
            )
        time.sleep(0.1)
    say("The server has started again; kernels go on. Reload the page.")
    return 0


def _runs_anew(before: str) -> bool:
    shown = systemd.properties(paths.SERVICE, "MainPID", "ActiveState")
    return shown["ActiveState"] == "active" and shown["MainPID"] != before
