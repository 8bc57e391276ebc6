"""``jupyter-remote kernels …``: what runs, and an end to it, whether the server is up or not.

It talks to keepers, over their control sockets (:mod:`.keeper.wire`), and reads the server's sessions to
tell the notebooks. For the owner; called by root it becomes the owner first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from . import accounts, completion, configure, paths
from .keeper import wire
from .run import EX_DATAERR, EX_NOPERM, EX_UNAVAILABLE, EX_USAGE, die, say

#: Seconds that a keeper gets to answer. It does nothing that takes longer.
_PATIENCE = 5.0
#: The number of the control channel among the sockets of the front.
_CONTROL = 4
#: struct ucred: pid, uid, gid
_PEER = struct.Struct("=iII")
#: What keepers keep; each has a directory of that name, in the plural.
_KINDS = ("kernel", "terminal")
#: The state of one whose keeper is of a version that we do not understand.
_OTHER_VERSION = "other version"
#: What :func:`named` says of them.
WHICH = ("kernel", "What runs: jupyter-remote kernels")
#: Seconds over which the processor's work is measured, at least.
GLANCE = 0.3
#: Characters of an id that are shown, at least; more where two begin alike.
_SHORT = 8


@dataclass(frozen=True)
class Kept:
    """A kernel or terminal that runs.

    ``started`` is in seconds since 1970, ``unseen`` counts messages that no browser has got yet. Sizes are in
    bytes, ``cpu`` in percent of one core (:func:`measured` finds it out); None where the system does not say.
    """

    id: str
    kind: str
    notebook: str
    environment: str
    state: str
    memory: int | None = None
    memory_limit: int | None = None
    started: float | None = None
    unseen: int | None = None
    connections: int | None = None
    pid: int | None = None
    unit: str = ""
    cpu: float | None = None


class Silent(Exception):
    """A keeper that cannot be talked to; the text says why. ``keeper`` is its process, if there is one."""

    def __init__(self, why: str, keeper: int | None = None) -> None:
        super().__init__(why)
        self.keeper = keeper


# --- talking to keepers ----------------------------------------------------------------------------


def ask(control: Path, *, to_the_end: bool = False, **line: Any) -> dict[str, Any]:
    """Have one operation done and return the answer.

    :param control: the keeper's socket.
    :param to_the_end: return when the keeper has gone, after its answer.
    :raises Silent: nobody is there, it hangs, or it refuses.
    """
    keeper = None
    with contextlib.closing(wire.Lines(socket.socket(socket.AF_UNIX))) as lines:
        lines.connection.settimeout(_PATIENCE)
        try:
            lines.connection.connect(os.fspath(control))
            peer = lines.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            keeper = _PEER.unpack(peer)[0]
            lines.send(line)
            while True:
                for answer, files in lines.receive():
                    for file in files:
                        os.close(file)
                    if "error" in answer:
                        raise Silent(str(answer["error"]), keeper)
                    if to_the_end:
                        with contextlib.suppress(EOFError, ConnectionError):
                            while True:
                                list(lines.receive())
                    return answer
        except TimeoutError:
            raise Silent(f"no answer for {_PATIENCE:.0f} s", keeper) from None
        except (OSError, EOFError, ValueError) as error:
            raise Silent(getattr(error, "strerror", "") or str(error) or "it has ended", keeper) from None


def find(runtime: Path, sessions: Path) -> list[Kept]:
    """All that run, the oldest first.

    :param runtime: the owner's runtime directory.
    :param sessions: the server's database of notebooks and their kernels; it need not be there.
    """
    notebooks = _notebooks(sessions)
    found = []
    for control in _controls(runtime):
        name, kind = control.parent.name, control.parent.parent.name.removesuffix("s")
        try:
            status = ask(control, op="status")
        except Silent as silent:
            # Without a process it is what a keeper left behind that was killed: the server removes it.
            if silent.keeper is not None:
                found.append(Kept(name, kind, notebooks.get(name, ""), "", "hangs"))
            continue
        if status.get("wire") in wire.UNDERSTOOD:
            found.append(_kept(status, notebooks))
        else:
            found.append(Kept(name, kind, notebooks.get(name, ""), "", _OTHER_VERSION))
    return sorted(found, key=lambda one: (one.started or 0, one.id))


def measured(found: Sequence[Kept], before: Mapping[str, float], seconds: float) -> list[Kept]:
    """The same with what they took of the processor.

    :param before: what :func:`spent` said that long ago.
    """
    now = spent(found)
    cores = {
        name: round(100 * max(now[name] - before[name], 0) / seconds, 1)
        for name in now.keys() & before.keys()
        if seconds > 0
    }
    return [replace(one, cpu=cores.get(one.id)) for one in found]


def spent(found: Iterable[Kept]) -> dict[str, float]:
    """What each has had of the processor until now, in seconds of a core, by its id."""
    return {one.id: seconds for one in found if (seconds := _cpu_seconds(one)) is not None}


def _cpu_seconds(one: Kept) -> float | None:
    """How long all processes of its unit have had a core; None where nobody counts."""
    if not one.unit or one.pid is None:
        return None
    try:
        lines = Path(f"/proc/{one.pid}/cgroup").read_text().splitlines()
        name = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
        counts = dict(line.split() for line in Path(f"/sys/fs/cgroup{name}/cpu.stat").read_text().splitlines())
        return int(counts["usage_usec"]) / 1e6
    except (OSError, KeyError, ValueError):
        return None


def disconnect(runtime: Path, labels: list[str]) -> None:
    """Close the browsers' connections that have one of these labels, whether the server is up or not.

    A keeper that is too old to tell them apart closes all that it has: pages connect again.
    """
    for control in _controls(runtime):
        with contextlib.suppress(Silent):
            if "labels" in ask(control, op="status"):
                ask(control, op="hang_up", labels=labels)
            else:
                ask(control, op="watch", login="nobody")


def interrupt(runtime: Path, one: Kept) -> None:
    """Interrupt a kernel as its kernelspec wants it: by a signal, or by a message.

    :raises Silent: it cannot be done, or nobody answers.
    """
    if one.state == _OTHER_VERSION:
        raise Silent("it was started by another version of jupyter-remote")
    directory = _directory(runtime, one)
    memo = ask(directory / wire.CONTROL, op="status").get("memo") or {}
    if (memo.get("spec") or {}).get("interrupt_mode") != "message":
        ask(directory / wire.CONTROL, op="signal", number=int(signal.SIGINT))
        return
    import zmq
    from jupyter_client.session import Session

    with zmq.Context() as context, context.socket(zmq.DEALER) as control:
        control.linger = 0
        control.connect(f"ipc://{directory / wire.FRONT}-{_CONTROL}")
        Session(key=str(memo.get("key", "")).encode()).send(control, "interrupt_request", content={})
        if not control.poll(int(_PATIENCE * 1000)):
            raise Silent(f"the kernel has not answered for {_PATIENCE:.0f} s")


def stop(runtime: Path, one: Kept) -> None:
    """End it. What a kernel has said and nobody has seen is left to the server, which writes it to the notebook.

    :raises Silent: it cannot be done, or nobody answers.
    """
    ask(_directory(runtime, one) / wire.CONTROL, op="end", keep=one.kind == "kernel", to_the_end=True)


def _directory(runtime: Path, one: Kept) -> Path:
    return runtime / f"{one.kind}s" / one.id


def _controls(runtime: Path) -> list[Path]:
    return sorted(control for kind in _KINDS for control in runtime.glob(f"{kind}s/*/{wire.CONTROL}"))


def _kept(status: dict[str, Any], notebooks: dict[str, str]) -> Kept:
    memo = status.get("memo") or {}
    memory = status.get("memory") or {}
    kind, name = str(status["kind"]), str(status["id"])
    spec = memo.get("spec") or {}
    ended = status.get("pid") is None
    sequence, delivered = status.get("sequence"), status.get("delivered")
    pid, started = status.get("pid"), status.get("started")
    return Kept(
        id=name,
        kind=kind,
        notebook=notebooks.get(name, "") if kind == "kernel" else "",
        environment=kind if kind != "kernel" else str(spec.get("display_name") or memo.get("kernel_name") or ""),
        state="ended" if ended else str(status.get("execution_state") or ""),
        memory=memory.get("current"),
        memory_limit=memory.get("limit"),
        started=started if isinstance(started, int | float) else None,
        unseen=max(sequence - delivered, 0) if sequence is not None and delivered is not None else None,
        connections=status.get("connections"),
        pid=pid if isinstance(pid, int) else None,
        unit=str(status.get("unit") or ""),
    )


def _notebooks(sessions: Path) -> dict[str, str]:
    """Which notebook, or console, each kernel belongs to: ids and paths below the notebook directory."""
    if not sessions.is_file():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(f"{sessions.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)) as base:
            return {str(kernel): str(path) for kernel, path in base.execute("SELECT kernel_id, path FROM session")}
    except sqlite3.Error:
        # Being made in this moment, or of another version: a list without notebooks is better than none.
        return {}


# --- the command -----------------------------------------------------------------------------------


def add_parser(commands: Any) -> None:
    """Add the command to those of ``jupyter-remote``."""
    text = "what runs: kernels and terminals, their notebooks and memory (owner or root)"
    kernels = commands.add_parser("kernels", help=text, description=text)
    kernels.add_argument("--json", action="store_true", help="for programs")
    kernels.set_defaults(command=_list)
    actions = kernels.add_subparsers(metavar="ACTION")

    interrupting = actions.add_parser("interrupt", help="what the square button does: stop the cell that runs")
    ids = interrupting.add_argument("ids", nargs="+", metavar="ID", help="as it is listed, or the beginning of it")
    completion.completed(ids, completion.kernel_ids)
    interrupting.set_defaults(command=_interrupt)

    stopping = actions.add_parser("stop", help="end kernels or terminals, with all that they know")
    ids = stopping.add_argument("ids", nargs="*", metavar="ID", help="as it is listed, or the beginning of it")
    completion.completed(ids, completion.kernel_ids)
    stopping.add_argument("--all", action="store_true", help="everything that runs")
    stopping.set_defaults(command=_stop)


def as_owner() -> paths.Place:
    """The owner's place; from here on we are the owner.

    :raises Mistake: somebody else calls.
    """
    owner = accounts.owner(configure.current().user)
    if not accounts.may_act_as(owner):
        die(
            f"Only {owner.name}, whose Jupyter this is, and root can do this.",
            hint=shlex.join(["sudo", "jupyter-remote", *sys.argv[1:]]),
            code=EX_NOPERM,
        )
    if os.geteuid() == 0:
        # What lies in the owner's directories could lead root anywhere.
        accounts.become(owner)
    return paths.Place(owner.name)


def _all(place: paths.Place) -> list[Kept]:
    return find(place.runtime, place.sessions)


def _list(arguments: argparse.Namespace) -> int:
    found = _all(as_owner())
    if arguments.json and (before := spent(found)):
        begun = time.monotonic()
        time.sleep(GLANCE)
        found = measured(found, before, time.monotonic() - begun)
    print(json.dumps([vars(one) for one in found], indent=2) if arguments.json else as_text(found, time.time()))
    return 0


def _interrupt(arguments: argparse.Namespace) -> int:
    place = as_owner()
    return _each(named(arguments.ids, _all(place), *WHICH), "interrupted", lambda one: interrupt(place.runtime, one))


def _stop(arguments: argparse.Namespace) -> int:
    if arguments.all == bool(arguments.ids):
        die(
            "Which ones?",
            hint="jupyter-remote kernels lists them; then: jupyter-remote kernels stop ID… — or: stop --all",
            code=EX_USAGE,
        )
    place = as_owner()
    found = _all(place)
    wanted = found if arguments.all else named(arguments.ids, found, *WHICH)
    return _each(wanted, "stopped", lambda one: stop(place.runtime, one))


def _each(wanted: Iterable[Kept], done: str, operation: Callable[[Kept], object]) -> int:
    """Do the same with several; the exit code."""
    code = 0
    for one in wanted:
        try:
            operation(one)
            say(f"{shown(one.id)} {done}{f': {shown(one.notebook)}' if one.notebook else ''}")
        except Silent as silent:
            code = EX_UNAVAILABLE
            # With its keeper a kernel ends.
            force = f"\n  By force: kill -KILL {silent.keeper}" if silent.keeper else ""
            say(f"jupyter-remote: {shown(one.id)} is not {done}: {silent}.{force}")
    return code


class Identified(Protocol):
    """What has an id."""

    @property
    def id(self) -> str: ...


One = TypeVar("One", bound=Identified)


def named(
    texts: list[str], found: list[One], kind: str, hint: str, called: Callable[[One], tuple[str, ...]] = lambda _: ()
) -> list[One]:
    """Those that are meant by ids, beginnings of ids, or what else they are called.

    :param kind: what they are, for a message.
    :param hint: how to see what there is.
    :raises Mistake: there is none, or more than one.
    """
    wanted: list[One] = []
    for text in texts:
        exact = [one for one in found if text and text in (one.id, *called(one))]
        meant = exact or [one for one in found if text and one.id.startswith(text)]
        if len(meant) > 1:
            die(
                f"{text!a} is the beginning of {len(meant)} ids.",
                hint=f"Type more of it: {', '.join(shown(one.id) for one in meant)}",
                code=EX_DATAERR,
            )
        if not meant:
            die(f"There is no {kind} {text!a}.", hint=hint, code=EX_DATAERR)
        wanted += [one for one in meant if one not in wanted]
    return wanted


# --- for a terminal --------------------------------------------------------------------------------


def as_text(found: list[Kept], now: float) -> str:
    """A table, of 80 columns as long as names allow it.

    :param now: seconds since 1970.
    """
    if not found:
        return "No kernel runs."
    rows = [("ID", "STATE", "AGE", "MEMORY", "UNSEEN", "ENVIRONMENT", "NOTEBOOK")]
    length = _unique_length([one.id for one in found])
    for one in found:
        memory = size(one.memory) if one.memory else ""
        limit = f" of {size(one.memory_limit)}" if memory and one.memory_limit else ""
        rows.append(
            (
                shown(one.id[:length]),
                one.state,
                age(now - one.started) if one.started else "",
                memory + limit,
                str(one.unseen or ""),
                one.environment,
                one.notebook,
            )
        )
    others = sum(one.state == _OTHER_VERSION for one in found)
    more = (
        f"\n\n{others} of them: started by another version of jupyter-remote, and not to be reached by this one.\n"
        "They can be used when that version is installed again. To end one: jupyter-remote kernels stop ID"
    )
    return table(rows) + (more if others else "")


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of a heading and of what is below it, in columns."""
    printed = [[shown(word) for word in row] for row in rows]
    widths = [max(len(row[column]) for row in printed) for column in range(len(printed[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in printed
    )


def _unique_length(ids: list[str]) -> int:
    length = _SHORT
    while len({name[:length] for name in ids}) < len(ids):
        length += 1
    return length


def shown(text: str) -> str:
    """*text* without a terminal's control sequences, which a file's name may carry."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def age(seconds: float) -> str:
    """How long something has been there, in two units at most: ``3d 4h``, ``12min``."""
    left = max(int(seconds), 0)
    if left < 60:
        return f"{left}s"
    if left < 3600:
        return f"{left // 60}min"
    if left < 86400:
        return f"{left // 3600}h {left % 3600 // 60}min"
    return f"{left // 86400}d {left % 86400 // 3600}h"


def size(count: int) -> str:
    """Bytes as they are written in the settings, ``512M``, ``1.5G``."""
    value = float(count)
    for unit in ("", "K", "M"):
        if value < 1000:
            return f"{value:.0f}{unit}"
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + "G"
