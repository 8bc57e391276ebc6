"""``jupyter-remote conda …``: for the owner; called by root it becomes the owner first."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from .. import accounts, configure, paths, render
from ..accounts import Account
from ..environments import Environment, Finder
from ..run import EX_DATAERR, EX_NOPERM, die, say
from ..settings import Settings

#: What is handed on from root to the owner: how to talk, and how to reach a network.
_HANDED_ON = ("TERM", "COLUMNS", "LINES", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "CONDA_CHANNEL_ALIAS")


def add_parser(commands: Any) -> None:
    """Add the command to those of ``jupyter-remote``."""
    conda = commands.add_parser("conda", help="the owner's conda: install one, see what environments are kernels")
    actions = conda.add_subparsers(metavar="ACTION", required=True)

    from . import bootstrap

    head, _, table = (bootstrap.__doc__ or "").partition("exit codes:")
    install = actions.add_parser(
        "install",
        help="a conda in the owner's home, and a first environment",
        description=head,
        epilog=f"exit codes:{table}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bootstrap.add_options(install, bootstrap.Wish(distribution="", channel=""))
    install.set_defaults(command=_install)

    listing = actions.add_parser("list", help="the owner's environments, and which of them are kernels")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)

    adding = actions.add_parser("add-kernel", help="install a kernel into an environment that has none")
    adding.add_argument("environment", metavar="ENV", help="a name as `jupyter-remote conda list` shows it, or a path")
    adding.set_defaults(command=_add_kernel)


def _install(arguments: argparse.Namespace) -> int:
    from . import bootstrap

    settings, owner = _as_owner()
    arguments.distribution = arguments.distribution or settings.conda_distribution
    arguments.channel = arguments.channel or settings.conda_channel
    if arguments.prefix is None and settings.conda_prefix:
        arguments.prefix = _in_home(settings.conda_prefix, owner)
    if arguments.installer_url is None and settings.conda_installer_url:
        arguments.installer_url = settings.conda_installer_url
        arguments.sha256 = arguments.sha256 or settings.conda_installer_sha256 or None
    return bootstrap.carry_out(bootstrap.wish(arguments))


def _in_home(text: str, owner: Account) -> Path:
    return owner.home / text[1:].lstrip("/") if text.startswith("~") else Path(text)


def _as_owner() -> tuple[Settings, Account]:
    """The settings and the owner, whom we are from here on.

    :raises Mistake: somebody else calls.
    """
    settings = configure.current()
    owner = accounts.owner(settings.user)
    if os.geteuid() == owner.uid:
        return settings, owner
    if os.geteuid() != 0:
        die(
            f"Only {owner.name}, whose Jupyter this is, and root can do this.",
            hint="sudo jupyter-remote conda …",
            code=EX_NOPERM,
        )
    say(f"As {owner.name}:")
    accounts.become(owner)
    os.chdir(owner.home)
    os.execve(sys.executable, [sys.executable, "-I", "-m", "jupyter_remote.cli", *sys.argv[1:]], _environment(owner))


def _environment(owner: Account) -> dict[str, str]:
    handed_on = {
        name: value for name, value in os.environ.items() if name in _HANDED_ON or name.lower().endswith("_proxy")
    }
    return {
        **handed_on,
        "HOME": str(owner.home),
        "USER": owner.name,
        "LOGNAME": owner.name,
        "SHELL": owner.shell,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }


def _list(arguments: argparse.Namespace) -> int:
    settings, owner = _as_owner()
    found = _finder(settings, owner).find()
    if arguments.json:
        rows = [
            {
                "kind": one.kind,
                "name": one.name,
                "path": str(one.prefix),
                "python": one.python,
                "kernels": [directory.name for directory in one.kernels],
            }
            for one in found
        ]
        print(json.dumps(rows, indent=2))
    elif not found:
        print("There is no environment yet.\n  Make one:  jupyter-remote conda install")
    else:
        for line in _table(found):
            print(line)
    return 0


def _table(found: list[Environment]) -> list[str]:
    """A line for each environment; below them how those without a kernel get one."""
    names = [f"{one.kind}: {one.name}" for one in found]
    width = max(map(len, names))
    lines = [
        f"{name:<{width}}  {f'Python {one.python}' if one.python else '':<12}"
        f"  {', '.join(directory.name for directory in one.kernels) or 'no kernel'}"
        for name, one in zip(names, found, strict=True)
    ]
    if without := next((one for one in found if one.python and not one.kernels), None):
        lines.append(f"\nA kernel for one that has none:  jupyter-remote conda add-kernel {shlex.quote(without.name)}")
    return lines


def _add_kernel(arguments: argparse.Namespace) -> int:
    from .. import addkernel
    from ..venv import WHEELS

    settings, owner = _as_owner()
    environment = _meant(arguments.environment, _finder(settings, owner).find())
    if environment.kernels:
        say(f"{environment.kind}: {environment.name} has a kernel already: {environment.kernels[0]}")
        return 0
    say(f"Installing a kernel into {environment.prefix} …")
    addkernel.add(environment, channel=settings.conda_channel, wheels=WHEELS)
    say(f"{environment.kind}: {environment.name} is a kernel now; it is in the launcher.")
    return 0


def _meant(text: str, found: list[Environment]) -> Environment:
    """The environment that a person means by a name, ``kind: name`` as it is listed, or a path.

    :raises Mistake: none, or more than one.
    """
    path = Path(text).expanduser().resolve()
    meant = [
        one for one in found if text in (one.name, f"{one.kind}: {one.name}") or path == one.prefix.resolve()
    ]  # fmt: skip
    if len(meant) == 1:
        return meant[0]
    if meant:
        die(
            f"{text!a} is the name of {len(meant)} environments.",
            hint=f"Name one by its path: {', '.join(str(one.prefix) for one in meant)}",
            code=EX_DATAERR,
        )
    names = [one.name for one in found]
    near = difflib.get_close_matches(text, names, 1)
    listed = f"There are: {', '.join(names)}." if names else "There is none yet: jupyter-remote conda install"
    die(
        f"There is no environment {text!a}.",
        hint=f"Did you mean {near[0]}?" if near else listed,
        code=EX_DATAERR,
    )


def _finder(settings: Settings, owner: Account) -> Finder:
    return Finder(
        owner.home,
        render.notebook_dir(settings, owner),
        settings.kernels_environments,
        # The server's own, and the default one: both are not theirs to choose.
        hidden=[Path(sys.prefix), *paths.Place(owner.name).state.glob("python3*")],
    )
