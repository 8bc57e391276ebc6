"""Ends dpkg at a chosen step of what it does in a box; steps.c says what a step is."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lab import host
from lab.box import NONINTERACTIVE, Box

from jupyter_remote.run import run

_LIBRARY = "/root/steps.so"


def prepare(box: Box) -> None:
    """Before the first :func:`stop`."""
    host.require("gcc", "/usr/include/stdio.h")
    with tempfile.TemporaryDirectory() as work:
        made = Path(work, "steps.so")
        run("gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, Path(__file__).with_suffix(".c"), "-ldl")
        box.write(_LIBRARY, made.read_bytes())
    box.write("/run/steps", "")


def seen(box: Box) -> list[str]:
    """The steps that were begun since :func:`prepare`, each once."""
    return box.read("/run/steps").splitlines()


def stop(box: Box, command: str, at: str) -> bool:
    """Run *command*, and kill it and what it has started at a step.

    :param at: ``script 7``, the seventh of :func:`seen`, or ``dpkg 7``, its seventh file.
    :returns: whether it came to that.
    """
    box.write("/run/stop-at", at)
    done = box.attempt(f"LD_PRELOAD={_LIBRARY} exec {command}", env=NONINTERACTIVE)
    box.sh("rm /run/stop-at")
    whose, number = at.split()
    return done.returncode != 0 and (whose == "dpkg" or len(seen(box)) == int(number))
