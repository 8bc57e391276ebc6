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

    :param at: ``script 7``, the seventh of :func:`seen`; ``script config.toml``, what ends so; or ``dpkg 7``, its
        seventh file.
    :returns: whether it came to that.
    """
    box.write("/run/stop-at", at)
    done = box.attempt(f"LD_PRELOAD={_LIBRARY} exec {command}", env=NONINTERACTIVE)
    box.sh("rm /run/stop-at")
    whose, name = at.split(" ", 1)
    done_before = seen(box)
    came = whose == "dpkg" or (len(done_before) == int(name) if name.isdigit() else done_before[-1].endswith(name))
    return done.returncode != 0 and came


def halt(box: Box, command: str, at: str) -> None:
    """Begin *command*, and return when it has come to a step, before which it stays."""
    box.write("/run/stop-at", at)
    box.write("/run/wait-there", "")
    words = "--quiet --setenv=DEBIAN_FRONTEND=noninteractive --unit=halted"
    box.sh(f"systemd-run {words} --setenv=LD_PRELOAD={_LIBRARY} {command}")
    box.sh("until [ -d /run/wait-there ]; do systemctl is-active --quiet halted || exit; sleep 0.1; done")
    box.sh("systemctl is-active halted")
