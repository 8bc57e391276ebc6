"""The order in which the doctor looks at things, and what comes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType

from ..run import Mistake, ProcessFailed
from . import service, system, visit, web, work
from .findings import Found, Trouble
from .patient import Patient

Check = Callable[[Patient], Iterator[Found]]


@dataclass(frozen=True)
class Stage:
    """Checks that belong together. *needs* says that it makes no sense when a stage before has found an error."""

    title: str
    checks: tuple[Check, ...]
    needs: bool = False


STAGES = (
    Stage("Machine", (system.disks, system.memory, system.clock, system.journal, system.updates)),
    Stage("Settings", (service.people, service.files)),
    Stage("Service", (service.units, service.sockets, service.others)),
    Stage("Apache", (web.program, web.configuration)),
    Stage("In use", (service.applied,), needs=True),
    Stage("Network", (web.doors, web.name, web.redirect, web.certificate), needs=True),
    Stage("A visit", (visit.page, visit.everything), needs=True),
    Stage(
        "Your files",
        (work.notebooks, work.configuration, work.home, work.kernels, work.default, work.remote, work.conda),
    ),
)

CHECK_FAILED = Trouble(
    "check-failed",
    "{check} could not be looked at: {reason}",
    "Something may be wrong that is not named here.",
    "If that goes on, report it with this text",
    may_wait=True,
)


@dataclass
class Report:
    """What was found, by stage.

    *skipped* are the titles of those that made no sense, *unseen* says what no check can look at.
    """

    stages: dict[str, list[Found]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    @property
    def found(self) -> list[Found]:
        return [one for found in self.stages.values() for one in found]

    @property
    def healthy(self) -> bool:
        """Whether everything works; there may be warnings."""
        return not any(one.is_error for one in self.found)


def examine(patient: Patient, progress: Callable[[str], None] = lambda title: None) -> Report:
    """Look at everything.

    :param progress: called with the title of each stage as it begins.
    """
    report = Report(unseen=list(web.unseen(patient)))
    for stage in STAGES:
        if stage.needs and not report.healthy:
            report.skipped.append(stage.title)
            continue
        progress(stage.title)
        report.stages[stage.title] = found = []
        for check in stage.checks:
            found += _looked(check, patient)
            if stage.needs and any(one.is_error for one in found):
                break
    return report


def _looked(check: Check, patient: Patient) -> list[Found]:
    found: list[Found] = []
    try:
        # One by one: what was found before it failed is kept.
        for one in check(patient):
            found.append(one)
    except (OSError, Mistake, ProcessFailed, subprocess.TimeoutExpired, ValueError) as error:
        found.append(CHECK_FAILED(check=check.__doc__ or check.__name__, reason=error))
    return found


def troubles() -> list[Trouble]:
    """All that can be found, in the order of the modules."""
    modules: tuple[ModuleType, ...] = (system, service, web, visit, work)
    return [value for module in modules for value in vars(module).values() if isinstance(value, Trouble)] + [
        CHECK_FAILED
    ]
