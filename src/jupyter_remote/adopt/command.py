"""The command line of ``adopt``."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from .. import accounts, apply, configfile, configure, settings
from ..kernels import shown
from ..run import EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE, die, say

if TYPE_CHECKING:
    from .plan import Plan
    from .servers import OldKernel

#: Seconds between two looks at kernels that are waited for.
_LOOK = 5.0
_WIDTH = 80


def add_parser(commands: Any) -> None:
    """Add the command to those of ``jupyter-remote``."""
    adopt = commands.add_parser(
        "adopt",
        help="take over a Jupyter that was set up by hand behind Apache",
        description="Finds a Jupyter that somebody has set up by hand, says what it would do, and does it when you "
        "say yes: the same password, the same address, the same notebooks. --undo puts everything back.",
    )
    how = adopt.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="only say what would be done")
    how.add_argument("--undo", action="store_true", help="put everything back as it was")
    how.add_argument("--yes", action="store_true", help="do not ask")
    how.add_argument("--json", action="store_true", help="for programs: say what would be done, and do nothing")
    kernels = adopt.add_mutually_exclusive_group()
    kernels.add_argument("--wait", action="store_true", help="wait until none of its kernels is at work")
    kernels.add_argument("--stop-kernels", action="store_true", help="end kernels that are at work, too")
    adopt.add_argument("--user", metavar="NAME", help="whose it is (default: the owner of this Jupyter)")
    adopt.set_defaults(command=_adopt)


def _adopt(arguments: argparse.Namespace) -> int:
    # Here: each command imports this module.
    from . import plan as planning
    from . import servers, work

    apply.require_root()
    if arguments.undo:
        return _undo()
    current = configure.current()
    owner = accounts.owner(arguments.user or current.user)
    plan = planning.make(current, owner)
    if plan.is_empty:
        die(
            f"There is no Jupyter of {owner.name}'s to take over: none runs, and neither Apache's files nor "
            f"{owner.home}/.jupyter know of one.",
            hint="Is it somebody else's? sudo jupyter-remote adopt --user NAME",
            code=EX_UNAVAILABLE,
        )
    if arguments.json:
        print(json.dumps(_as_json(plan), indent=2, default=str))
        return 0
    print(as_text(plan))
    if arguments.dry_run:
        return 0
    if plan.server and servers.is_above_us(plan.server):
        die(
            "This terminal is one of the old Jupyter's, and would end with it half-way.",
            hint="Come by ssh — or: sudo systemd-run jupyter-remote adopt --yes",
            code=EX_TEMPFAIL,
        )
    _agree(plan, arguments)
    with apply.lock():
        again = planning.make(configure.current(), owner)
        if again.changes() != plan.changes():
            die("Something has changed meanwhile; nothing was done.", hint="Look again: sudo jupyter-remote adopt")
        if not arguments.stop_kernels and (at_work := _at_work(again)):
            # A notebook that was opened while somebody was asked, or while others were waited for.
            _refuse(at_work)
        outcome = work.do(again)
    for finding in outcome.findings:
        say(f"Needs attention: {finding}")
    say(f"Done. Your Jupyter: {planning.new_address(configure.current())}")
    say("To have everything as it was before: sudo jupyter-remote adopt --undo")
    return EX_UNAVAILABLE if outcome.findings else 0


def _undo() -> int:
    from . import record, work

    with apply.lock():
        kept = record.last()
        if kept is None:
            die("Nothing was taken over, so there is nothing to undo.", code=EX_UNAVAILABLE)
        left = work.undo(kept)
        earlier = record.last()
    for finding in left:
        say(f"Needs attention: {finding}")
    what = "Everything else" if left else "Everything"
    say(f"{what} is as it was on {time.strftime('%F %T', time.localtime(kept.when))}.")
    if earlier:
        say("Another one was taken over before that. To undo that too: sudo jupyter-remote adopt --undo")
    say("jupyter-remote is still installed. Not wanted any more? sudo apt purge jupyter-remote")
    return EX_UNAVAILABLE if left else 0


# --- before it is done -------------------------------------------------------------------------------


def _agree(plan: Plan, arguments: argparse.Namespace) -> None:
    """Return when it may be done.

    :raises Mistake: it may not.
    """
    at_work = _at_work(plan)
    if at_work:
        say(f"At work: {_names(at_work)}.")
    if not arguments.yes:
        if not sys.stdin.isatty():
            die("Nobody is here to say yes.", hint="sudo jupyter-remote adopt --yes", code=EX_USAGE)
        typed = input("Go on? [y/N] ").strip().lower()
        if typed not in ("y", "yes"):
            die("Nothing was done.", code=EX_USAGE)
        if at_work and not arguments.wait and not arguments.stop_kernels:
            typed = input("Wait until nothing is at work [w], or end it now [e]? ").strip().lower()
            arguments.wait, arguments.stop_kernels = typed in ("w", "wait"), typed in ("e", "end")
    if at_work and not (arguments.wait or arguments.stop_kernels):
        _refuse(at_work)
    while arguments.wait and (at_work := _at_work(plan)):
        say(f"Waiting for {_names(at_work)} …")
        time.sleep(_LOOK)


def _refuse(at_work: list[OldKernel]) -> NoReturn:
    die(
        f"At work: {_names(at_work)}. Nothing was done.",
        hint="Wait for it: sudo jupyter-remote adopt --wait — or end it: sudo jupyter-remote adopt --stop-kernels",
        code=EX_TEMPFAIL,
    )


def _names(kernels: list[OldKernel]) -> str:
    return shown(", ".join(kernel.name for kernel in kernels))


def _at_work(plan: Plan) -> list[OldKernel]:
    """Kernels that are at work now, those among them that have come since the plan was made."""
    from . import servers

    if not plan.server:
        return []
    now = [one for one in servers.find(plan.owner) if one.pid == plan.server.pid]
    return servers.busy(plan.owner, [kernel for one in now for kernel in one.kernels])


# --- what it says ------------------------------------------------------------------------------------


def _as_json(plan: Plan) -> dict[str, Any]:
    server = asdict(plan.server) if plan.server else None
    if server:
        # It may hold a token.
        del server["env"]
    return {
        "owner": plan.owner.name,
        "port": plan.port,
        "server": server,
        "config_files": list(map(str, plan.config_files)),
        "apache": [asdict(block) for block in plan.blocks],
        "settings": plan.values,
        "password": bool(plan.hash),
        "notes": plan.notes,
    }


def as_text(plan: Plan) -> str:
    """The plan for a terminal, 80 columns."""
    from .plan import new_address

    current = configure.current()
    _, changed = configure.change(plan.values)
    address = new_address(settings.parse(changed))
    lines = ["Found"]
    if plan.server:
        where = f", in the tmux session {plan.server.tmux.session}" if plan.server.tmux else ""
        where = f", as {plan.server.unit}" if plan.server.unit else where
        what = f"{plan.server.program} {plan.server.version}".strip()
        lines += _item(f"a Jupyter of {plan.owner.name}'s ({what}), at port {plan.port}{where}")
    else:
        lines += _item(f"no Jupyter that runs; one of {plan.owner.name}'s is set up for port {plan.port}")
    lines += [line for file in plan.config_files for line in _item(f"its settings in {file}")]
    lines += [line for block in plan.blocks for line in _item(f"visitors are led to it by {block}")]
    lines.append("Will")
    for name, value in plan.values.items():
        lines += _item(
            f"set {name} to {configfile.as_text(value)} (now {configfile.as_text(current.get(name)) or 'empty'})"
        )
    if plan.hash:
        lines += _item("take its password over, in place of the one that this Jupyter has")
    for file in plan.files:
        taken = ", ".join(block.lines for block in plan.blocks if block.file == file)
        lines += _item(f"take lines {taken} out of {file}; they are kept for --undo")
    if plan.server:
        kernels = ", ".join(kernel.name for kernel in plan.server.kernels)
        lost = (
            f", and its kernels ({kernels}): what they have in memory is lost. Save what is open in the browser first"
        )
        lines += _item(f"end the old Jupyter{lost if kernels else ''}")
    lines += _item(f"serve {address}")
    if plan.notes:
        lines.append("To know")
        lines += [line for note in plan.notes for line in _item(note)]
    return "\n".join(lines)


def _item(text: str) -> list[str]:
    # What root reads and agrees to holds names and words of the person's.
    return textwrap.wrap(
        shown(text),
        _WIDTH,
        initial_indent="  - ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
