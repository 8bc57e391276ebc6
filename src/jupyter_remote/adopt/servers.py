"""Jupyters that a person has started by hand, and the kernels that they have."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import accounts, checks, systemd
from ..accounts import Account
from ..run import EX_UNAVAILABLE, ProcessFailed, die, run

#: Where Jupyter says what runs, below the home; and, before 2018, in the directory of the session.
_RUNTIME = (".local/share/jupyter/runtime", "/run/user/{uid}/jupyter")
#: Variables that make a Jupyter what it is, and its kernels.
_VARIABLES = re.compile(r"PATH|LANG|LC_\w+|VIRTUAL_ENV|(JUPYTER|CONDA|IPYTHON)\w*|LD_LIBRARY_PATH|PYTHON\w*")
#: Seconds that a server gets to end its kernels and itself.
_PATIENCE = 30.0


@dataclass(frozen=True)
class OldKernel:
    """A kernel of such a server. ``name`` is the notebook's where the server says it, else the id's beginning."""

    pid: int
    connection_file: str
    name: str


@dataclass(frozen=True)
class Pane:
    """Where in tmux it runs: tmux's socket, and the session."""

    socket: str
    session: str


@dataclass(frozen=True)
class OldServer:
    """One that runs. ``argv``, ``cwd`` and ``env`` are what it takes to start it again.

    ``unit`` is the systemd unit that runs it, empty for most, and ``starts_at_boot`` whether that is enabled. ``host``
    is where it listens, ``is_notebook`` says that it is a NotebookApp, and ``others`` are the programs that run in it
    besides kernels: its terminals.
    """

    pid: int
    port: int
    base_url: str
    directory: str
    version: str
    has_password: bool
    argv: list[str] = field(default_factory=list)
    cwd: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    unit: str = ""
    starts_at_boot: bool = False
    host: str = ""
    is_notebook: bool = False
    tmux: Pane | None = None
    others: list[str] = field(default_factory=list)
    kernels: list[OldKernel] = field(default_factory=list)

    @property
    def program(self) -> str:
        """``notebook``, ``lab``, or ``server``, by what was called."""
        words = " ".join(self.argv[:4])
        return next((name for name in ("lab", "notebook", "nbclassic") if re.search(rf"\b{name}\b", words)), "server")

    @property
    def python(self) -> str:
        """The interpreter that runs it; empty when that is not to be seen."""
        first = self.argv[0] if self.argv else ""
        return first if re.fullmatch(r"/.*/python[0-9.]*", first) else ""


def find(owner: Account) -> list[OldServer]:
    """All that run as this person; ours is none of them."""
    with accounts.acting_as(owner):
        processes = dict(_processes(owner))
        said = list(_said(owner))
        found = []
        for facts in said:
            process = processes.get(facts.pid)
            if process and re.search(r"jupyter|notebook", " ".join(process.argv)) and not process.is_ours:
                found.append(_completed(facts, process, processes))
    # What the file says is the person's word; who listens is the system's.
    found = [one for one in found if one.pid in checks.listeners(one.port)]
    return [_placed(owner, one, processes) for one in found]


def _placed(owner: Account, server: OldServer, processes: dict[int, _Process]) -> OldServer:
    """The same with what started it: tmux, or a unit whose main process is this person's (cron's is not)."""
    process = processes[server.pid]
    unit, at_boot = process.unit, False
    if unit:
        shown = systemd.properties(unit, "MainPID", "UnitFileState")
        main = shown["MainPID"]
        if not main.isdigit() or int(main) not in processes or shown["UnitFileState"] in ("transient", "generated"):
            unit = ""
        at_boot = shown["UnitFileState"] == "enabled"
    return replace(server, unit=unit, starts_at_boot=at_boot, tmux=_pane(owner, process, processes))


# --- what they say of themselves ---------------------------------------------------------------------


def _said(owner: Account) -> Iterator[OldServer]:
    """By the files that a Jupyter leaves beside its kernels' while it runs. Some are of servers that were killed."""
    for place in _RUNTIME:
        directory = owner.home / place.format(uid=owner.uid)
        for pattern in ("nbserver-*.json", "jpserver-*.json"):
            for file in sorted(directory.glob(pattern)):
                try:
                    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                    yield OldServer(
                        pid=int(known["pid"]),
                        port=int(known["port"]),
                        base_url=str(known.get("base_url") or "/"),
                        directory=str(known.get("root_dir") or known.get("notebook_dir") or ""),
                        version=str(known.get("version") or ""),
                        has_password=bool(known.get("password")),
                        host=str(known.get("hostname") or ""),
                        is_notebook=file.name.startswith("nbserver"),
                    )
                except (OSError, ValueError, LookupError, TypeError):
                    continue


# --- processes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Process:
    """As /proc shows it (proc_pid_stat(5))."""

    pid: int
    parent: int
    argv: list[str]
    cgroup: str

    @property
    def is_ours(self) -> bool:
        return "/jupyter-remote" in self.cgroup

    @property
    def unit(self) -> str:
        """The system's unit that it is in. A session of a person's, where tmux runs, is none."""
        last = self.cgroup.rpartition("/")[2]
        return last if self.cgroup.startswith("/system.slice/") and last.endswith(".service") else ""


def _processes(owner: Account) -> Iterator[tuple[int, _Process]]:
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.stat().st_uid != owner.uid:
                continue
            argv = [os.fsdecode(word) for word in (place / "cmdline").read_bytes().split(b"\0")[:-1]]
            parent = _parent(place)
            lines = (place / "cgroup").read_text().splitlines()
        except (OSError, ValueError, IndexError):
            continue
        cgroup = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
        yield int(place.name), _Process(int(place.name), parent, argv, cgroup)


def _parent(place: Path) -> int:
    # The name before it is in parentheses, and may hold anything.
    return int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def _completed(facts: OldServer, process: _Process, processes: dict[int, _Process]) -> OldServer:
    place = Path("/proc", str(process.pid))
    children = [one for one in processes.values() if one.parent == process.pid]
    try:
        environment, cwd = _environment(place), str((place / "cwd").readlink())
    except OSError:
        environment, cwd = {}, "/"
    return replace(
        facts,
        argv=process.argv,
        cwd=cwd,
        env={name: value for name, value in environment.items() if _is_kept(name)},
        kernels=[kernel for one in children if (kernel := _kernel(one))],
        others=[one.argv[0] for one in children if one.argv and not _kernel(one)],
    )


def _is_kept(name: str) -> bool:
    # A token in it would be to be seen by everybody: it starts again with words of a command line.
    return bool(_VARIABLES.fullmatch(name)) and "TOKEN" not in name and "PASSWORD" not in name


def _environment(place: Path) -> dict[str, str]:
    words = (place / "environ").read_bytes().decode(errors="surrogateescape").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def _kernel(process: _Process) -> OldKernel | None:
    # ipykernel's "-f FILE", R's "--args FILE", and whatever others say: the file is what they have in common.
    file = next((word for word in process.argv if re.search(r"/kernel-[^/]+\.json$", word)), "")
    if not file:
        return None
    try:
        name = Path(_environment(Path("/proc", str(process.pid))).get("JPY_SESSION_NAME", "")).name
    except OSError:
        name = ""
    return OldKernel(process.pid, file, name or Path(file).stem.removeprefix("kernel-")[:8])


def _pane(owner: Account, process: _Process, processes: dict[int, _Process]) -> Pane | None:
    above = set()
    while process.parent in processes and process.pid not in above:
        above.add(process.pid)
        process = processes[process.parent]
    above.add(process.pid)
    if not any("tmux" in Path(word).name for word in process.argv[:1]):
        return None
    place = Path(f"/tmp/tmux-{owner.uid}")
    for socket in sorted(place.glob("*")) if place.is_dir() and place.stat().st_uid == owner.uid else ():
        words = ("tmux", "-S", socket, "list-panes", "-a", "-F", "#{pane_pid} #{session_name}")
        listed = run(*accounts.words_as(owner, reset_env=True), *words, check=False).stdout
        for line in listed.splitlines():
            pid, _, session = line.partition(" ")
            if pid.isdigit() and int(pid) in above:
                return Pane(str(socket), session)
    return None


# --- asking, ending, starting ------------------------------------------------------------------------


def ask_as_owner(owner: Account, question: str, *words: str) -> Any:
    """The answer of :mod:`.asowner`, run as that person.

    :raises Mistake: there is none.
    """
    program = (sys.executable, "-P", "-m", "jupyter_remote.adopt.asowner", question, *words)
    become = accounts.words_as(owner, reset_env=True)
    done = run(*become, *program, check=False, cwd=owner.home, timeout=60 + 4 * len(words))
    try:
        return json.loads(done.stdout)
    except ValueError:
        die(f"What {owner.name} has set up cannot be read: {done.stderr.strip()[-500:]}", code=EX_UNAVAILABLE)


def busy(owner: Account, kernels: list[OldKernel]) -> list[OldKernel]:
    """Those that are at work."""
    if not kernels:
        return []
    files = ask_as_owner(owner, "busy", *(kernel.connection_file for kernel in kernels))
    return [kernel for kernel in kernels if kernel.connection_file in files]


def stop(owner: Account, server: OldServer) -> None:
    """End a server; it ends its kernels.

    :raises Mistake: it does not end.
    """
    if server.unit:
        run("systemctl", "disable", "--now", server.unit, check=False)
    else:
        # Not by root: a number may be another's process by now.
        run(*accounts.words_as(owner), "kill", "-TERM", str(server.pid), check=False)
    pids = [server.pid, *(kernel.pid for kernel in server.kernels)]
    if not _wait(lambda: not any(Path("/proc", str(pid)).exists() for pid in pids)):
        die(
            f"The old Jupyter does not end (pid {server.pid}).",
            hint=f"Look at it; by force: sudo kill -KILL {' '.join(map(str, pids))} — then: sudo jupyter-remote adopt",
            code=EX_UNAVAILABLE,
        )
    if again := [one for one in find(owner) if one.port == server.port]:
        die(
            f"Something has started the old Jupyter again (pid {again[0].pid}).",
            hint="Is it a unit of the person's own? systemctl --user disable --now NAME — then: "
            "sudo jupyter-remote adopt",
            code=EX_UNAVAILABLE,
        )


def is_above_us(server: OldServer) -> bool:
    """Whether this very command runs in a terminal of that server, and would end with it."""
    pid = os.getpid()
    while pid > 1:
        if pid == server.pid:
            return True
        try:
            pid = _parent(Path(f"/proc/{pid}"))
        except (OSError, ValueError, IndexError):
            return False
    return False


def start(owner: Account, server: OldServer) -> str:
    """Start a server as it ran before.

    :returns: where it runs now, in words.
    :raises Mistake: it does not answer at its port.
    """
    where = "in the background"
    if server.unit:
        run("systemctl", *(("enable", "--now") if server.starts_at_boot else ("start",)), server.unit)
        where = f"as {server.unit}"
    else:
        again = ("env", f"--chdir={server.cwd}", *(f"{name}={value}" for name, value in server.env.items()))
        become = accounts.words_as(owner, reset_env=True)
        pane = server.tmux
        if pane:
            new = ("tmux", "-S", pane.socket, "new-window", "-d", "-t", f"={pane.session}:")
            if run(*become, *new, *again, *server.argv, check=False).returncode:
                session = ("tmux", "-S", pane.socket, "new-session", "-d", "-s", pane.session)
                run(*become, *session, *again, *server.argv)
            where = f"in the tmux session {pane.session}"
        else:
            silent = ("setsid", "--fork", "sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh")
            run(*become, *silent, *again, *server.argv)
    if not _wait(lambda: any(one.port == server.port for one in find(owner))):
        die(
            "The old Jupyter has not started.",
            hint=f"Start it by hand, as {owner.name}: {' '.join(server.argv)}",
            code=EX_UNAVAILABLE,
        )
    return where


def _wait(until: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def config_files(owner: Account) -> list[Path]:
    """Jupyter's configuration files for this person that are there, the weakest first.

    As jupyter_core and traitlets look for them: the person's own after the machine's, JSON after Python.
    """
    directories = (Path("/usr/local/etc/jupyter"), Path("/etc/jupyter"), owner.home / ".jupyter")
    names = ("jupyter_config", "jupyter_notebook_config", "jupyter_server_config", "jupyter_lab_config")
    with accounts.acting_as(owner):
        candidates = (d / f"{n}{suffix}" for d in directories for n in names for suffix in (".py", ".json"))
        return [file for file in candidates if file.is_file()]


def crontab_lines(owner: Account) -> list[str]:
    """Lines of the person's crontab that start a Jupyter."""
    try:
        listed = run("crontab", "-l", "-u", owner.name, check=False).stdout
    except ProcessFailed:
        return []
    return [line for line in listed.splitlines() if re.search(r"^[^#]*\bjupyter[ -](notebook|lab|server)\b", line)]
