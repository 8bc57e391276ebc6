"""systemd, as far as we ask it for anything."""

from __future__ import annotations

from . import machine, paths
from .run import ASLEEP, EX_ASLEEP, ProcessFailed, run


def running() -> bool:
    """Whether systemd runs this machine, and Jupyter on it; when it does not, nothing below may be called for our
    units."""
    return machine.has_systemd() and not is_slim()


def is_slim() -> bool:
    """Whether this is the slim package (docs/slim.md), which has neither units nor files for Apache."""
    return not (paths.PACKAGED_UNITS / "jupyter-remote.service").exists()


def properties(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit as ``systemctl show`` prints them; empty texts for an unknown unit."""
    shown = run("systemctl", "show", unit, f"--property={','.join(names)}", check=False).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return {name: found.get(name, "") for name in names}


def is_active(unit: str) -> bool:
    """Whether the unit is up."""
    return properties(unit, "ActiveState")["ActiveState"] in ("active", "reloading")


def sleeps(service: str, socket: str) -> bool:
    """Whether a service has ended for want of use, or is about to, and its socket starts it again."""
    shown = properties(service, "ActiveState", "ExecMainStatus", "StatusText")
    ended = shown["ActiveState"] == "inactive" and shown["ExecMainStatus"] == str(EX_ASLEEP)
    ends = shown["ActiveState"] == "deactivating" and shown["StatusText"] == ASLEEP
    return (ended or ends) and is_active(socket)


def serves(service: str, socket: str) -> bool:
    """Whether a service answers whoever comes: it runs, or sleeps."""
    return is_active(service) or sleeps(service, socket)


def is_masked(unit: str) -> bool:
    """Whether an administrator has made it impossible to start the unit."""
    return properties(unit, "LoadState")["LoadState"] == "masked"


def is_disabled(unit: str) -> bool:
    """Whether an administrator has said that the unit does not start at boot."""
    return properties(unit, "UnitFileState")["UnitFileState"] == "disabled"


def running_instances(pattern: str) -> list[str]:
    """The units of a pattern that are up."""
    words = ("list-units", "--plain", "--no-legend", "--no-pager", "--state=active", pattern)
    return [line.split()[0] for line in run("systemctl", *words, check=False).stdout.splitlines() if line.strip()]


def daemon_reload() -> None:
    """Let systemd read changed unit files."""
    run("systemctl", "daemon-reload")


def restart(*units: str) -> None:
    """Restart, and return when the units are ready.

    :raises ProcessFailed: one did not come up; the output says which.
    """
    run("systemctl", "restart", *units)


def start(*units: str) -> None:
    """Start what is not running; returns when the units are ready.

    :raises ProcessFailed: one did not come up.
    """
    run("systemctl", "start", *units)


def start_in_background(unit: str) -> None:
    """Start a unit and do not wait until it is done.

    :raises ProcessFailed: there is no such unit.
    """
    run("systemctl", "start", "--no-block", unit)


def enable(unit: str) -> None:
    """Have a unit start at boot."""
    run("systemctl", "--quiet", "enable", unit)


def disable(unit: str) -> None:
    """Have a unit start at boot no more; also where systemd does not run."""
    run("systemctl", "--quiet", "disable", unit, check=False)


def stop(*units: str) -> None:
    """Stop units; those that are not there are none of our business."""
    run("systemctl", "stop", *units, check=False)


def reload(unit: str) -> None:
    """Let a unit read its configuration again.

    :raises ProcessFailed: it refused.
    """
    run("systemctl", "reload", unit)


def last_words(unit: str, lines: int = 5) -> str:
    """What a unit logged last, for an error message."""
    try:
        return run("journalctl", "-u", unit, "-n", str(lines), "-o", "cat", "--no-pager").stdout.strip()
    except ProcessFailed:
        return ""
