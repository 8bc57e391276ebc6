"""The command line of the doctor."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import __version__, apply, configure
from ..run import EX_UNAVAILABLE, Mistake, ProcessFailed, run, say

if TYPE_CHECKING:
    from .examination import Report
    from .findings import Found

_WIDTH = 80


def add_parser(commands: Any) -> None:
    """Add the command to those of ``jupyter-remote``."""
    doctor = commands.add_parser(
        "doctor",
        help="find out why something does not work, and what mends it",
        description="Looks at everything between a browser and a kernel, logs in, runs a cell, and says what is wrong.",
    )
    doctor.add_argument("--fix", action="store_true", help="run what mends it, where that can do no harm")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.fix:
        apply.require_root()
    if os.geteuid() != 0:
        say("Only root sees everything: sudo jupyter-remote doctor")
    report = _examined(arguments)
    if arguments.fix and any(one.commands for one in report.found):
        _fix(report.found)
        report = _examined(arguments)
    if arguments.json:
        print(json.dumps(_as_json(report), indent=2))
    else:
        print(as_text(report))
    return 0 if report.healthy else EX_UNAVAILABLE


def _examined(arguments: argparse.Namespace) -> Report:
    # Here: each command imports this module.
    from .examination import examine
    from .patient import Patient

    # A broken config.toml ends here, with file, line and what to do: nothing else can be looked at without it.
    patient = Patient(configure.current())
    quiet = arguments.json or not sys.stderr.isatty()
    return examine(patient, (lambda title: None) if quiet else lambda title: say(f"{title} …"))


def _fix(found: list[Found]) -> None:
    done = set()
    for one in found:
        for command in one.commands:
            if command in done:
                continue
            done.add(command)
            say(f"Running: {shlex.join(command)}")
            try:
                run(*command)
            except (ProcessFailed, Mistake) as failed:
                say(f"  It did not work: {failed}")


def _as_json(report: Report) -> dict[str, Any]:
    found = [
        {**asdict(one), "severity": "error" if one.is_error else "warning", "fixable": bool(one.commands)}
        for one in report.found
    ]
    for one in found:
        del one["is_error"]
    return {
        "version": __version__,
        "healthy": report.healthy,
        "skipped": report.skipped,
        "unseen": report.unseen,
        "findings": found,
    }


def as_text(report: Report) -> str:
    """For a terminal, 80 columns."""
    lines = []
    for title, found in report.stages.items():
        errors = sum(one.is_error for one in found)
        words = "ok" if not found else f"{errors} wrong" if errors else f"{len(found)} to note"
        lines.append(f"{title:<12} {words}")
    lines += [f"{title:<12} not tried: mend what is wrong first" for title in report.skipped]
    for one in report.found:
        lines += ["", *_wrapped("✗ " if one.is_error else "! ", f"{one.what} [{one.id}]")]
        lines += _wrapped("  ", one.why)
        # Not wrapped: commands are copied.
        lines.append(f"  → {one.hint}")
    if not report.found:
        lines += ["", "All is well."]
    elif any(one.commands for one in report.found):
        lines += ["", "What can be mended without harm: sudo jupyter-remote doctor --fix"]
    for remark in report.unseen:
        lines += ["", *textwrap.wrap(remark, _WIDTH)]
    return "\n".join(lines)


def _wrapped(first: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent="  ", break_long_words=False)
