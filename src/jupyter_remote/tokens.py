"""``jupyter-remote token …``: tokens for programs, such as VS Code or a script of one's own.

For the owner; called by root it becomes the owner first.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from typing import Any

from . import accounts, apply, configure, kernels, paths, render, sessions
from .passes import TOKEN, Pass, Passes, digest_of, new_secret
from .run import EX_DATAERR, EX_UNAVAILABLE, EX_USAGE, Mistake, die, say

#: How long a token is good for when nobody says, and at most, in days.
_DAYS, _MOST_DAYS = 90, 36500

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,39}")
_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def add_parser(commands: Any) -> None:
    """Add the command to those of ``jupyter-remote``."""
    text = "tokens for programs: VS Code, scripts (owner or root)"
    token = commands.add_parser("token", help=text, description=text)
    actions = token.add_subparsers(metavar="ACTION", required=True)
    creating = actions.add_parser("create", help="make a token and print it: it is not to be seen again")
    creating.add_argument("name", metavar="NAME", help="what it is for, such as the program or the laptop")
    creating.add_argument(
        "--expires", default=f"{_DAYS}d", metavar="TIME", help="12h, 90d, 8w or never (default: %(default)s)"
    )
    creating.add_argument("--json", action="store_true", help="for programs")
    creating.set_defaults(command=_create)
    listing = actions.add_parser("list", help="names of tokens, when they end, and when they were used last")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)
    revoking = actions.add_parser("revoke", help="make tokens worthless and close what they have open")
    revoking.add_argument("names", nargs="*", metavar="NAME", help="or the id, as it is listed")
    revoking.add_argument("--all", action="store_true", help="all of them")
    revoking.set_defaults(command=_revoke)


def count() -> int:
    """How many there are, as far as the caller may know."""
    try:
        return len(Passes(paths.Place(accounts.owner(configure.current().user).name).tokens).all())
    except (Mistake, OSError):
        return 0


def _create(arguments: argparse.Namespace) -> int:
    if not _NAME.fullmatch(arguments.name):
        die(
            f"A token cannot be called {arguments.name!a}.",
            hint="40 characters at most, of letters, digits and . _ @ + -",
            code=EX_DATAERR,
        )
    seconds = _seconds(arguments.expires)
    current = configure.current()
    address = render.address(current, apply.public_name(current))
    place = kernels.as_owner()
    passes = Passes(place.tokens)
    now = time.time()
    for one in passes.all(now=0):
        if one.name == arguments.name and now < one.ends():
            die(
                f"There is a token {arguments.name} already.",
                hint=f"Choose another name, or first: jupyter-remote token revoke {arguments.name}",
                code=EX_DATAERR,
            )
        if one.name == arguments.name:
            passes.remove(one.digest)
    secret = new_secret(TOKEN)
    new = Pass(digest_of(secret), now, name=arguments.name, expires=now + seconds if seconds else None)
    try:
        passes.add(new)
    except FileNotFoundError:
        die(
            "The server has never run, so there is no place for a token yet.",
            hint="sudo jupyter-remote apply",
            code=EX_UNAVAILABLE,
        )
    until = time.strftime("until %Y-%m-%d %H:%M", time.localtime(new.expires)) if seconds else "until it is revoked"
    if arguments.json:
        print(json.dumps({**_as_json(new), "token": secret, "address": address}))
    else:
        print(secret)
        say(f"Good {until}; it is not to be seen again. Whoever has it can do what you can do.")
        say(f"The address for VS Code and scripts: {address}")
    return 0


def _seconds(text: str) -> int:
    if text == "never":
        return 0
    match = re.fullmatch(r"([0-9]{1,6})([hdw])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _MOST_DAYS * 86400:
        die(f"{text!a} is no time.", hint="A time such as 12h, 90d or 8w, or never.", code=EX_DATAERR)
    return seconds


def _list(arguments: argparse.Namespace) -> int:
    # Those that have expired too: they are the answer to why something has stopped.
    passes = Passes(kernels.as_owner().tokens)
    found = passes.all(now=0)
    if arguments.json:
        print(json.dumps([_as_json(one) for one in found], indent=2))
        return 0
    if not found:
        print("There are no tokens.")
        return 0
    now = time.time()
    rows = [("NAME", "ID", "MADE", "ENDS", "LAST USED", "FROM")]
    for one in found:
        ends = "never" if one.expires is None else f"in {kernels.age(one.expires - now)}"
        rows.append(
            (
                one.name,
                one.id[:8],
                sessions.ago(now - one.created),
                ends if one.expires is None or now < one.expires else "has ended",
                sessions.ago(now - one.seen) if one.last_address else "never",
                one.last_address,
            )
        )
    print(kernels.table(rows))
    return 0


def _as_json(one: Pass) -> dict[str, Any]:
    return {
        "name": one.name,
        "id": one.id,
        "created": one.created,
        "expires": one.expires,
        "used": one.seen if one.last_address else None,
        "last_address": one.last_address,
    }


def _revoke(arguments: argparse.Namespace) -> int:
    if arguments.all == bool(arguments.names):
        die(
            "Which ones?",
            hint="jupyter-remote token list shows them; then: jupyter-remote token revoke NAME… — or: revoke --all",
            code=EX_USAGE,
        )
    place = kernels.as_owner()
    passes = Passes(place.tokens)
    found = passes.all(now=0)
    hint = "Those that there are: jupyter-remote token list"
    wanted = found if arguments.all else kernels.named(arguments.names, found, "token", hint, lambda one: (one.name,))
    sessions.throw_out(place, passes, wanted)
    for one in wanted:
        say(f"{one.name} revoked.")
    if not wanted:
        say("There are no tokens.")
    return 0
