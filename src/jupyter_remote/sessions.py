"""``jupyter-remote sessions …``: which browsers are logged in, and an end to it, whether the server is up or not.

For the owner; called by root it becomes the owner first.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from typing import Any

from . import completion, kernels, paths
from .passes import Pass, Passes
from .run import EX_USAGE, die, say

#: What :func:`kernels.named` says of them.
_WHICH = ("session", "Those that there are: jupyter-remote sessions")

#: Characters of an id that are shown.
_SHORT = 8


def add_parser(commands: Any) -> None:
    """Add the command to those of ``jupyter-remote``."""
    text = "which browsers are logged in, and an end to it (owner or root)"
    sessions = commands.add_parser("sessions", help=text, description=text)
    sessions.add_argument("--json", action="store_true", help="for programs")
    sessions.set_defaults(command=_list)
    actions = sessions.add_subparsers(metavar="ACTION")
    ending = actions.add_parser("end", help="log browsers out and close what they have open; kernels go on")
    ids = ending.add_argument("ids", nargs="*", metavar="ID", help="as it is listed, or the beginning of it")
    completion.completed(ids, completion.session_ids)
    ending.add_argument("--all", action="store_true", help="all of them")
    ending.add_argument("--keep", action="append", default=[], metavar="ID", help="with --all: but not this one")
    ending.set_defaults(command=_end)


def _list(arguments: argparse.Namespace) -> int:
    found = Passes(kernels.as_owner().logins).all()
    if arguments.json:
        print(json.dumps([_as_json(one) for one in found], indent=2))
        return 0
    if not found:
        print("No browser is logged in.")
        return 0
    now = time.time()
    rows = [("ID", "BROWSER", "ADDRESS", "LOGGED IN", "LAST SEEN", "HOW")]
    for one in found:
        there = one.address if one.last_address == one.address else f"{one.address}, now {one.last_address}"
        rows.append(
            (one.id[:_SHORT], one.browser, there, ago(now - one.created), ago(now - one.seen), one.how),
        )
    print(kernels.table(rows))
    return 0


def _as_json(one: Pass) -> dict[str, Any]:
    return {
        "id": one.id,
        "browser": one.browser,
        "address": one.address,
        "last_address": one.last_address,
        "created": one.created,
        "seen": one.seen,
        "ends": one.ends(),
        "how": one.how,
    }


def _end(arguments: argparse.Namespace) -> int:
    if arguments.all == bool(arguments.ids) or (arguments.keep and not arguments.all):
        die(
            "Which ones?",
            hint="jupyter-remote sessions lists them; then: jupyter-remote sessions end ID… — or: end --all",
            code=EX_USAGE,
        )
    place = kernels.as_owner()
    passes = Passes(place.logins)
    found = passes.all()
    if arguments.all:
        kept = kernels.named(arguments.keep, found, *_WHICH)
        wanted = [one for one in found if one not in kept]
    else:
        wanted = kernels.named(arguments.ids, found, *_WHICH)
    throw_out(place, passes, wanted)
    for one in wanted:
        say(f"{one.id[:_SHORT]} logged out: {one.browser} from {one.address}")
    if not wanted:
        say("No other browser is logged in." if arguments.keep else "No browser is logged in.")
    return 0


def throw_out(place: paths.Place, passes: Passes, gone: Iterable[Pass]) -> None:
    """Remove passes, and close the connections that were opened with them. The server sees it within a second."""
    ids = [one.id for one in gone if passes.remove(one.digest)]
    if ids:
        kernels.disconnect(place.runtime, ids)


def ago(seconds: float) -> str:
    """How long ago something was, ``2h 5min ago``."""
    return "just now" if seconds < 60 else f"{kernels.age(seconds)} ago"
