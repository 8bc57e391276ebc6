"""What the doctor can find: a trouble is said once, with why it matters and what mends it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """A trouble that this machine has."""

    id: str
    what: str
    why: str
    #: what mends it, best as a command that can be copied
    hint: str
    #: something does not work; otherwise it works, and may not for long
    is_error: bool
    #: commands that mend it and can do no harm, each with its arguments; for ``--fix``
    commands: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Trouble:
    """A kind of trouble; called with the facts in braces it becomes one that was found.

    :param id: stable: scripts and the documentation name it.
    :param mend: commands without ``sudo``, one after the other with ``;``. They are run by ``--fix``, so none of
        them may surprise anybody.
    :param hint: what else mends it; without it, the commands.
    :param may_wait: a warning: everything works.
    """

    id: str
    what: str
    why: str
    hint: str = ""
    mend: str = ""
    may_wait: bool = False

    def __call__(self, **facts: object) -> Found:
        commands = [
            shlex.split(one.format_map({key: shlex.quote(str(facts[key])) for key in facts}))
            for one in self.mend.split(";")
            if one.strip()
        ]
        typed = " && ".join(f"sudo {shlex.join(one)}" for one in commands)
        return Found(
            self.id,
            self.what.format_map(facts),
            self.why.format_map(facts),
            self.hint.format_map(facts) or typed,
            not self.may_wait,
            tuple(map(tuple, commands)),
        )
