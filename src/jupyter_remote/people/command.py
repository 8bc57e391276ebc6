"""The command lines of ``add-user``, ``remove-user`` and ``users``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import Any

from .. import accounts, apply, configfile, configure, machine, password, paths, settings, systemd
from ..run import EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE, Mistake, ProcessFailed, die, say
from ..transaction import replace
from . import OPTION, for_person, names, settings_of


def add_parser(commands: Any) -> None:
    """Add the commands to those of ``jupyter-remote``."""
    adding = commands.add_parser(
        "add-user",
        help="a Jupyter of their own for another person of this machine",
        description="Gives another person of this machine a Jupyter of their own, at /jupyter-NAME: with their own "
        "password, files, kernels and settings. Nobody shares anything.",
    )
    adding.add_argument("name", metavar="NAME", help="the person's login name")
    adding.add_argument("--base-url", metavar="PATH", help="another address than /jupyter-NAME")
    how = adding.add_mutually_exclusive_group()
    how.add_argument("--stdin", action="store_true", help="read the password from standard input (one line)")
    how.add_argument("--hash", action="store_true", help="read a ready hash from standard input: argon2:… or sha1:…")
    how.add_argument("--lock", action="store_true", help="no password yet: login links only, until they set one")
    adding.set_defaults(command=_add)

    removing = commands.add_parser(
        "remove-user",
        help="take away what add-user has made",
        description="Takes the Jupyter of another person away. Their files, notebooks and environments stay.",
    )
    removing.add_argument("name", metavar="NAME", help="the person's login name")
    removing.add_argument("--stop-kernels", action="store_true", help="also when kernels run, which end then")
    removing.add_argument(
        "--purge", action="store_true", help="remove also what Jupyter keeps for them: logins, extensions, packages"
    )
    removing.set_defaults(command=_remove)

    listing = commands.add_parser("users", help="who has a Jupyter on this machine")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)


def _add(arguments: argparse.Namespace) -> int:
    apply.require_root()
    owner = configure.current()
    account = accounts.owner(arguments.name)
    name = str(settings.clean("user", account.name))
    if name == owner.user:
        die(f"{name} has a Jupyter: it is the owner's.", hint="jupyter-remote users", code=EX_USAGE)
    if name in names():
        die(f"{name} has a Jupyter already.", hint=f"To change it: sudo jupyter-remote {OPTION} {name} config set …")
    base_url = settings.clean("base_url", arguments.base_url or f"/jupyter-{name}")
    hashed = _hash(arguments)
    directory = paths.PEOPLE_CONFIG / name
    try:
        with apply.lock():
            # World-readable as the owner's, whatever root's umask is; the hash in it is root's alone.
            for made in (paths.PEOPLE_CONFIG, directory, paths.PEOPLE):
                made.mkdir(exist_ok=True)
                made.chmod(0o755)
            theirs = [key for key in settings.KEYS.values() if not key.is_machines]
            replace(directory / "config.toml", configfile.fresh({"base_url": base_url}, theirs))
            password.store(hashed, directory / "password-hash")
        for_person(name, "apply")
        if machine.has_systemd() and (problem := apply.unreachable(settings_of(name))):
            die(problem)
    except BaseException as failure:
        _take_away(name)
        if isinstance(failure, ProcessFailed | Mistake):
            said = str(failure) if isinstance(failure, Mistake) else failure.output.strip()
            what = f"{name} has no Jupyter; nothing has changed. {said.removeprefix('jupyter-remote: ')}"
            die(what, code=EX_UNAVAILABLE)
        raise
    say(f"The Jupyter of {name}: {apply.address(settings_of(name))}")
    if hashed == password.LOCKED:
        say(f"  No password is set. A link that logs in once: sudo jupyter-remote {OPTION} {name} url")
    say(f"  About it, for root: sudo jupyter-remote {OPTION} {name} status — and for {name}: jupyter-remote status")
    return 0


def _hash(arguments: argparse.Namespace) -> str:
    if arguments.lock:
        return password.LOCKED
    if arguments.hash:
        return password.checked_hash(sys.stdin.readline().strip())
    return password.hashed(sys.stdin.readline().rstrip("\r\n") if arguments.stdin else password.typed())


def _remove(arguments: argparse.Namespace) -> int:
    apply.require_root()
    name = arguments.name
    if name not in names():
        die(f"{name!a} has no Jupyter beside the owner's.", hint="Who has one: jupyter-remote users", code=EX_USAGE)
    running = systemd.running_instances(paths.kernels_of(name)) if machine.has_systemd() else []
    if running and not arguments.stop_kernels:
        die(
            f"Kernels or terminals of {name} run ({len(running)}), and would end with all that they know.",
            hint=f"To see them: sudo jupyter-remote {OPTION} {name} kernels — to go on: "
            f"sudo jupyter-remote remove-user --stop-kernels {name}",
            code=EX_TEMPFAIL,
        )
    _take_away(name)
    state = paths.Place(name).state
    if arguments.purge:
        shutil.rmtree(state, ignore_errors=True)
    say(f"{name} has no Jupyter any more. Files and notebooks are where they were.")
    if state.is_dir():
        say(f"  What it kept is in {state}; to remove that, too: sudo rm -r {state}")
    return 0


def _take_away(name: str) -> None:
    for_person(name, "unconfigure")
    for directory in (paths.PEOPLE / name, paths.PEOPLE_CONFIG / name, paths.RUN_DIR / name):
        shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(f"{paths.RUN_DIR}@{name}", ignore_errors=True)
    for parent in (paths.PEOPLE, paths.PEOPLE_CONFIG):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def _list(arguments: argparse.Namespace) -> int:
    owner = configure.current()
    people = [{"name": owner.user, "address": apply.address(owner), "owner": True}]
    people += [{"name": name, "address": apply.address(settings_of(name)), "owner": False} for name in names()]
    if arguments.json:
        print(json.dumps(people, indent=2))
        return 0
    for one in people:
        print(f"{one['name']:<16} {one['address']}{'   (owner)' if one['owner'] else ''}")
    return 0
