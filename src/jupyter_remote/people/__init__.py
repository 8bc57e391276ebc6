"""Further people of this machine, each with a Jupyter of their own: ``jupyter-remote add-user``.

Theirs is the owner's once more, with other names (:mod:`~jupyter_remote.paths`): a server and kernels that run as them,
a password, settings. What is the whole machine's, its name and its certificate, is the owner's to set. One process of
ours is about one Jupyter; it is told about whose when it is started.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from .. import accounts, paths, settings
from ..run import EX_NOUSER, EX_USAGE, Mistake, ProcessFailed, die, run, say
from ..settings import Settings

#: The option that says about whose Jupyter a command is.
OPTION = "--for"

#: Commands that are about the machine, whoever calls them.
_OF_THE_MACHINE = frozenset(
    ("add-user", "remove-user", "users", "adopt", "configure", "modules", "renew", "suggest-owner", "take-credential")
)
#: These are, when nobody says otherwise.
_OF_ALL = frozenset(("apply", "unconfigure"))


def names() -> list[str]:
    """The further people who have a Jupyter here."""
    try:
        return sorted(entry.name for entry in os.scandir(paths.PEOPLE_CONFIG) if entry.is_dir())
    except OSError:
        return []


def machine_settings() -> Settings | None:
    """What is set for the whole machine, for a process that is about a further person's Jupyter; else None.

    :raises Mistake: see :func:`jupyter_remote.settings.load`.
    """
    return settings.load(paths.MACHINE_CONFIG) if paths.PERSON else None


def settings_of(name: str) -> Settings:
    """The settings of a further person.

    :raises Mistake: theirs, or the machine's, cannot be read.
    """
    text = settings.read(paths.PEOPLE_CONFIG / name / paths.MACHINE_CONFIG.name)
    return settings.parse(text, f"{name}'s config.toml", machine=settings.load(paths.MACHINE_CONFIG), person=name)


def turn_to(argv: Sequence[str]) -> None:
    """Become a process that is about the Jupyter that a command line means, if this one is about another.

    It is the one that it names (``--for bob``); else the caller's own, also of one who came by sudo; else the owner's.

    :raises Mistake: it names somebody who has none.
    """
    named, command = _read(argv)
    person = _found(named, command) if named else _implied(command)
    if person == paths.PERSON:
        return
    if person and not named and os.geteuid() == 0:
        say(f"This is about {person}'s Jupyter. The owner's: {OPTION} and the owner's name, before the command.")
    environment = {name: value for name, value in os.environ.items() if name != paths.PERSON_VARIABLE}
    if person:
        environment[paths.PERSON_VARIABLE] = person
    os.execve(sys.executable, sys.orig_argv, environment)


def _read(argv: Sequence[str]) -> tuple[str, str]:
    """Whom a command line names, and its command; both may be empty."""
    named, words = "", iter(argv)
    for word in words:
        if word == OPTION:
            named = next(words, "")
        elif word.startswith(f"{OPTION}="):
            named = word.partition("=")[2]
        elif not word.startswith("-"):
            return named, word
    return named, ""


def _found(name: str, command: str) -> str:
    if command in _OF_THE_MACHINE:
        die(f"{command} is about the whole machine.", hint=f"Without {OPTION}.", code=EX_USAGE)
    if name in names():
        return name
    if name == settings.load(paths.MACHINE_CONFIG).user:
        return ""
    die(
        f"{name!a} has no Jupyter on this machine.",
        hint="Who has one: jupyter-remote users — to give them one: sudo jupyter-remote add-user NAME",
        code=EX_NOUSER,
    )


def _implied(command: str) -> str:
    if command in _OF_THE_MACHINE or command in _OF_ALL:
        return ""
    caller = os.environ.get("SUDO_USER", "") if os.geteuid() == 0 else accounts.name_of(os.geteuid())
    return caller if caller in names() else ""


def follow(*words: str) -> list[str]:
    """Run one of our own commands about each further person's Jupyter: after something was set for the machine.

    The caller does not hold the lock.

    :returns: what went wrong, with whose Jupyter.
    """
    troubles = []
    for name in () if paths.PERSON else names():
        try:
            said = for_person(name, *words)
        except ProcessFailed as failed:
            said = failed.output
        if lines := [line.removeprefix("jupyter-remote: ").strip() for line in said.splitlines()]:
            troubles.append(f"{name}: {' '.join(lines)}")
    return troubles


def for_person(name: str, *words: str) -> str:
    """Run one of our own commands about the Jupyter of a further person; what it had to say to a person.

    :raises ProcessFailed: it did not end well; with what it said.
    """
    program = "import sys; from jupyter_remote.cli import main; sys.exit(main())"
    # -P: no module of whatever directory somebody is in.
    command = (sys.executable, "-P", "-c", program, OPTION, name, *words)
    return run(*command, env={paths.PERSON_VARIABLE: name}).stderr


def check(wanted: Settings) -> None:
    """Ask whether nobody else's Jupyter is in the way of this one.

    :raises Mistake: it is.
    """
    if not paths.PERSON and wanted.user in names():
        die(
            f"{wanted.user} has a Jupyter already, beside the owner's.",
            hint=f"Choose another owner, or take that one away: sudo jupyter-remote remove-user {wanted.user}",
            code=EX_USAGE,
        )
    for name, base_url in _base_urls():
        if name != paths.PERSON and (_is_below(base_url, wanted.base_url) or _is_below(wanted.base_url, base_url)):
            die(
                f"{wanted.base_url} is in the way of {name or 'the owner'}'s Jupyter, at {base_url}.",
                hint="Two addresses of which neither is a part of the other: "
                f"sudo jupyter-remote {OPTION} NAME config set base_url /jupyter-NAME",
                code=EX_USAGE,
            )


def _is_below(path: str, other: str) -> bool:
    return f"{path}/".startswith(f"{other}/")


def _base_urls() -> list[tuple[str, str]]:
    """Where each Jupyter of this machine is; the owner's has an empty name. What cannot be read is nowhere."""
    found = []
    for name in ("", *names()):
        with contextlib.suppress(Mistake):
            theirs = settings_of(name) if name else settings.load(paths.MACHINE_CONFIG)
            found.append((name, theirs.base_url))
    return found
