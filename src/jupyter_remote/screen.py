"""How things stand, on one screen of a terminal: what ``jupyter-remote status`` shows.

Into a file or a pipe it is plain text, one fact a line, however long.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .kernels import Kept, age, shown, size
from .run import EX_USAGE, die
from .sessions import ago
from .status import LATELY, Disk, Login, Status

#: Columns of the names of facts.
_NAMES = 12
#: Of a pipe or a file: no line is broken there.
_ENDLESS = 10_000
#: Kernels that are shown, at least.
_SOME = 2
#: Seconds between two looks of ``--watch``.
LOOK = 2.0

#: Colours of the words in which units and kernels say how they are.
_GOOD, _CARE, _BAD, _SOFT = "green", "yellow", "bold red", "dim"
_COLOURS = {"running": _GOOD, "idle": _GOOD, "busy": _CARE, "starting": _CARE, "hangs": _BAD, "dead": _BAD}


def show(status: Status) -> None:
    """Print it once."""
    console = _console()
    # What stands above it scrolls away; here nothing is left out.
    console.print(_whole(status, console.width, time.time()), soft_wrap=not console.is_terminal)


def watch(look: Callable[[], Status]) -> int:
    """Show it until somebody has seen enough; the exit code.

    :param look: finds it out anew.
    :raises Mistake: nobody sees it.
    """
    console = _console()
    if not console.is_terminal:
        die("--watch is for a terminal.", hint="For a program: jupyter-remote status --json", code=EX_USAGE)

    def seen() -> RenderableType:
        return _whole(look(), console.width, time.time(), console.height)

    with Live(seen(), console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(LOOK)
                live.update(seen(), refresh=True)
        except KeyboardInterrupt:
            return 0


def _console() -> Console:
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else _ENDLESS, highlight=False, emoji=False, markup=False)


def _whole(status: Status, width: int, now: float, height: int = 0) -> RenderableType:
    """
    :param height: lines that there are; 0 is any number.
    """
    facts = _facts(status, now)
    news = _news(status)
    # What a long line takes.
    used = sum(-(-max(cell_len(line), 1) // width) for text in (*facts, *news) for line in text.plain.split("\n"))
    most = max(height - used - 4, _SOME) if height else len(status.running or ())
    return Group(*facts, *_kernels(status.running or [], now, most), Text(), *news)


def _facts(status: Status, now: float) -> list[Text]:
    rows: list[tuple[str, Text | str]] = [
        ("Address", Text(status.address, style="bold")),
        ("Owner", status.owner),
        ("Server", _server(status)),
        ("Apache", _coloured(status.apache)),
        ("Certificate", status.certificate),
    ]
    if not status.trusted:
        # To be compared with what a browser shows.
        rows += [
            ("SHA-256", status.fingerprint and _in_two_lines(status.fingerprint)),
            ("To trust it", status.trust),
            ("Its SHA-256", status.authority_fingerprint and _in_two_lines(status.authority_fingerprint)),
        ]
    rows += [
        ("Password", status.password),
        ("2nd factor", status.second_factor),
        ("Logged in", _logins(status, now)),
        ("Refused", _refused(status, now)),
        ("Free", "; ".join([*_memory(status), *map(_disk, status.disks)])),
        ("Conda", status.conda),
        *((f"{one.name}'s", Text.assemble(f"{one.address}, ", _coloured(one.server))) for one in status.others),
        ("Kernels", _count(status)),
    ]
    return [_row(name, value) for name, value in rows if value]


def _row(name: str, value: Text | str) -> Text:
    return Text.assemble((f"{name:<{_NAMES}} ", _SOFT), value)


def _coloured(words: str) -> Text:
    first = words.split(",")[0].split(" ")[0]
    return Text(words, style=_COLOURS.get(first, "" if first == "asleep" else _BAD))


def _server(status: Status) -> Text:
    rest = [f" since {status.since}" if status.since else ""]
    rest += [f", {size(status.memory_bytes)}" if status.memory_bytes else ""]
    return Text.assemble(_coloured(status.server), *rest)


def _logins(status: Status, now: float) -> str:
    if status.browsers is None:
        return ""
    one = status.last_login
    if not one:
        return "no browser"
    many = f"{status.browsers} browser{'s' if status.browsers > 1 else ''}"
    return f"{many}, the last {_when(one, now)} with {shown(one.how) or 'the password'} ({shown(one.browser)})"


def _refused(status: Status, now: float) -> Text | str:
    if status.refused_logins is None:
        return ""
    if not status.last_refused:
        return f"no login in {LATELY} hours"
    one = status.last_refused
    many = f"{status.refused_logins} login{'s' if status.refused_logins > 1 else ''} in {LATELY} hours"
    return Text(f"{many}, the last {_when(one, now)}: {shown(one.how)}", style=_CARE)


def _when(one: Login, now: float) -> str:
    return f"{ago(now - one.when)} from {shown(one.address)}"


def _disk(disk: Disk) -> str:
    return f"disk {size(disk.free_bytes)} of {size(disk.total_bytes)} at {shown(disk.place)}"


def _memory(status: Status) -> list[str]:
    if not status.machine_memory_bytes:
        return []
    return [f"memory {size(status.machine_free_bytes)} of {size(status.machine_memory_bytes)}"]


def _count(status: Status) -> str:
    if not status.kernels:
        return "none"
    memory = f", {size(status.kernels_memory_bytes)}" if status.kernels_memory_bytes else ""
    return f"{status.kernels} kernels and terminals{memory} (jupyter-remote kernels)"


def _kernels(running: list[Kept], now: float, most: int) -> list[RenderableType]:
    """The table, of the last *most* ones that were started, and how many there are besides."""
    if not running:
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_SOFT)
    # The others keep their width; a long name is cut.
    for name in ("STATE", "AGE", "CPU", "MEMORY"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("CPU", "MEMORY") else "left")
    table.add_column("ENVIRONMENT", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("NOTEBOOK", no_wrap=True, overflow="ellipsis")
    for one in running[-most:]:
        table.add_row(
            Text(one.state, style=_COLOURS.get(one.state, "")),
            age(now - one.started) if one.started else "",
            f"{one.cpu:.0f}%" if one.cpu is not None else "",
            size(one.memory) if one.memory else "",
            shown(one.environment),
            shown(one.notebook),
        )
    rest = len(running) - most
    return [Text(), table, *([Text(f"and {rest} more: jupyter-remote kernels", style=_SOFT)] if rest > 0 else [])]


def _news(status: Status) -> list[Text]:
    lines: list[Text] = []
    for title, found, colour in (("Needs attention:", status.findings, _BAD), ("To note:", status.notes, _CARE)):
        if found:
            lines.append(Text(title, style=colour))
        for one in found:
            lines += [Text(f"- {one.what}"), Text(f"    {one.hint}")]
    return lines if status.findings else [*lines, Text("All is well.", style=_GOOD)]


def _in_two_lines(fingerprint: str) -> str:
    half = len(fingerprint) // 2 + 1
    return f"{fingerprint[:half]}\n{'':<{_NAMES + 1}}{fingerprint[half:]}"
