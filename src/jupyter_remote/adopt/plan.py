"""What was found, and what is to be done about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import accounts, apache, apply, checks, environments, password, settings
from ..accounts import Account
from ..run import Mistake, die
from ..settings import Scalar, Settings
from . import blocks, servers
from .blocks import Block
from .servers import OldServer

#: Jupyter's own, where nobody has said another.
_PORT = 8888


@dataclass
class Plan:
    """What ``adopt`` would do. ``values`` are settings that change, ``hash`` the old password's, empty for none.

    ``notes`` are what somebody should know before they say yes.
    """

    owner: Account
    port: int
    server: OldServer | None = None
    config_files: list[Path] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    values: dict[str, Scalar] = field(default_factory=dict)
    hash: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take over."""
        return not (self.server or self.blocks or self.hash)

    @property
    def files(self) -> list[Path]:
        """Of Apache's, those that lines are taken out of."""
        return list(dict.fromkeys(block.file for block in self.blocks))

    def changes(self) -> tuple[object, ...]:
        """What must be the same when it is done as it was when somebody said yes."""
        return self.port, self.server and self.server.pid, self.blocks, self.values, self.hash


def make(current: Settings, owner: Account) -> Plan:
    """Look at everything; changes nothing.

    :raises Mistake: what the person has set up cannot be read.
    """
    running = servers.find(owner)
    files = servers.config_files(owner)
    said = servers.ask_as_owner(owner, "config", *map(str, files))
    if apache.installed() and (broken := apache.configtest()):
        die(
            f"Apache's configuration has an error, so nobody can say what it leads to: {broken}",
            hint="Mend it, check with: sudo apache2ctl configtest — then: sudo jupyter-remote adopt",
        )
    config = apache.directives() if apache.installed() else []
    # The one that Apache leads to, where there are several.
    leading = {one.port: blocks.find(config, one.port) for one in running}
    running.sort(key=lambda one: not leading[one.port])
    server = running[0] if running else None
    old = _Old(said["config"], notebook_first=bool(server and server.is_notebook))
    given = str(old.of("port"))
    port = server.port if server else int(given) if given.isdecimal() else _PORT
    # Who has set up nothing has no lines of Apache's either, whatever Jupyter they lead to; nor has somebody whose
    # port is another's.
    may_be_theirs = old.says_something and not (server or checks.listener(port))
    lines = leading.get(port) or (blocks.find(config, port) if may_be_theirs else [])
    plan = Plan(owner, port, server, files, lines)
    plan.notes += [f"It could not be read whole: {problem}" for problem in said["problems"]]
    plan.notes += [f"Another one runs at port {one.port}, and stays." for one in running[1:]]
    _take_password(plan, old)
    for name, value in _wanted(plan, old, current):
        try:
            clean = settings.clean(name, value)
        except Mistake as mistake:
            plan.notes.append(f"{name} stays {current.get(name)!r}: {mistake.what}")
            continue
        if clean != current.get(name):
            plan.values[name] = clean
    plan.notes += _to_know(plan, old, current)
    return plan


class _Old:
    """What configuration files say, whatever a class was called in which year."""

    #: The strongest first.
    _CLASSES = ("PasswordIdentityProvider", "IdentityProvider", "LabApp", "ServerApp", "NotebookApp", "JupyterApp")

    def __init__(self, config: Mapping[str, Mapping[str, Any]], *, notebook_first: bool) -> None:
        """
        :param notebook_first: it is a NotebookApp that runs, to which the others mean nothing.
        """
        self._config = config
        self._classes = ("NotebookApp", *self._CLASSES) if notebook_first else self._CLASSES

    @property
    def says_something(self) -> bool:
        """Whether somebody has set anything."""
        return any(self._config.get(section) for section in self._CLASSES)

    def of(self, *traits: str) -> Any:
        """The value of a trait by any of its names; None when no file says it."""
        for section in self._classes:
            for trait in traits:
                if value := self._config.get(section, {}).get(trait):
                    return value
        return None


def _take_password(plan: Plan, old: _Old) -> None:
    found = str(old.of("hashed_password", "password") or "")
    if not found:
        if plan.server or plan.blocks:
            has_one = plan.server is not None and plan.server.has_password
            what = "It has a password, but in no file that was found." if has_one else "It has no password."
            plan.notes.append(f"{what} The one that this Jupyter has stays (sudo jupyter-remote password).")
        return
    try:
        plan.hash = password.checked_hash(found)
    except Mistake:
        plan.notes.append("Its password cannot be taken over: what the file has is no hash that Jupyter understands.")
        return
    if password.is_same(plan.hash):
        plan.hash = ""
    elif not plan.hash.startswith("argon2"):
        plan.notes.append(
            f"Its password is kept as {plan.hash.partition(':')[0]}, which whoever gets the file can guess quickly. "
            "To keep it better, set it once more: sudo jupyter-remote password"
        )


def _wanted(plan: Plan, old: _Old, current: Settings) -> Iterator[tuple[str, Scalar]]:
    """Settings that the old one had in its way."""
    server, home = plan.server, plan.owner.home
    yield "user", plan.owner.name
    public = blocks.public_path(plan.blocks) or (server.base_url if server else old.of("base_url", "base_project_url"))
    if public:
        yield "base_url", str(public).rstrip("/") or "/"
    directory = (server.directory or server.cwd) if server else old.of("root_dir", "notebook_dir")
    if directory:
        yield "notebook_dir", _below_home(Path(str(directory)), home)
    if server and server.program in ("notebook", "nbclassic"):
        yield "interface", "notebook"
    if not plan.blocks and server and _is_local(_host(server, old)):
        # Reached by ssh -L, which goes on.
        yield "listen", plan.port
    if environment := _environment(plan, Path(str(directory or home)), current):
        yield "kernels.default", _below_home(environment, home)


def _environment(plan: Plan, notebook_dir: Path, current: Settings) -> Path | None:
    """Where its kernels run: notebooks name them only "python3", and want the packages that are there."""
    with accounts.acting_as(plan.owner):
        found = environments.Finder(plan.owner.home, notebook_dir, current.kernels_environments).find()
    usable = [one for one in found if one.python and one.kernels]
    if plan.server:
        prefix = Path(plan.server.python).parent.parent
        return next((one.prefix for one in usable if one.prefix == prefix), None)
    return next((one.prefix for one in usable if one.is_base), None)


def _below_home(path: Path, home: Path) -> str:
    if path == home:
        return "~"
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _host(server: OldServer, old: _Old) -> str:
    """Where it listens; a Jupyter that listens everywhere calls itself localhost."""
    typed = re.search(r"--(?:\w+\.)?ip[= ](\S*)", " ".join(server.argv))
    said = old.of("ip")
    return typed[1] if typed else str(said) if said is not None else server.host or "localhost"


def _is_local(ip: str) -> bool:
    return ip == "localhost" or ip.startswith("127.") or ip == "::1"


def _to_know(plan: Plan, old: _Old, current: Settings) -> Iterator[str]:
    server = plan.server
    if any(block.guarded for block in plan.blocks):
        yield "Apache asks there who comes (Require, AuthType). That goes with its lines; Jupyter's password stays."
    if server and not _is_local(_host(server, old)):
        yield f"It is open to the network at port {plan.port}. That ends: the address is the one above, by https alone."
    if old.of("certfile") and current.tls_mode == "self-signed":
        yield (
            f"It has a certificate, {old.of('certfile')}. To go on with it: sudo jupyter-remote config set "
            f"tls.certificate {old.of('certfile')} tls.key {old.of('keyfile') or 'FILE'} tls.mode existing"
        )
    if plan.values.get("interface") == "notebook":
        yield "JupyterLab is at …/lab; to begin with it: sudo jupyter-remote config set interface lab"
    if server and server.others:
        yield f"What runs in its terminals ends with it: {', '.join(sorted(set(server.others)))}."
    if server and not (plan.values.get("kernels.default") or current.kernels_default):
        yield "Its kernels' Python cannot be taken over: notebooks open in one made for you (setting kernels.default)."
    for line in servers.crontab_lines(plan.owner):
        yield f"A line in the crontab of {plan.owner.name} starts it again. Take it out (crontab -e): {line}"
    if server and server.tmux:
        yield f"The tmux session {server.tmux.session} stays, with its shell."
    if current.user and current.user != plan.owner.name:
        yield f"jupyter-remote is {current.user}'s now. Kernels of theirs would end."


def new_address(wanted: Settings) -> str:
    """Where Jupyter is then."""
    return apply.address(wanted)
