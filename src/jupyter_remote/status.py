"""How things stand, from the settings and the system: the facts of ``jupyter-remote status``."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from . import __version__, accounts, apache, apply, password, paths, render, secondfactor, systemd, tls
from .apply import Finding
from .run import Mistake, ProcessFailed
from .settings import Settings


@dataclass
class Status:
    """Facts as a program reads them (``--json``); ``findings`` is what needs attention."""

    version: str
    address: str
    owner: str
    server: str
    since: str
    memory_bytes: int | None
    kernels: int | None
    kernels_memory_bytes: int | None
    apache: str
    certificate: str
    fingerprint: str
    password: str
    second_factor: str
    conda: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def collect(settings: Settings) -> Status:
    """Ask everything once. Without root some facts are "not visible"."""
    findings: list[Finding] = []
    try:
        accounts.owner(settings.user)
    except Mistake as mistake:
        findings.append(Finding(mistake.what, mistake.hint))
    server, since, memory = _server(findings)
    locked = password.is_locked()
    if locked:
        findings.append(Finding("No password is set, so nobody can log in with one.", "sudo jupyter-remote password"))
    certificate, fingerprint = _certificate(settings, findings)
    kernels, kernels_memory = _kernels(findings)
    web = _apache(settings, findings)
    if server == "running" and web == "running" and (problem := apply.unreachable(settings, seconds=1)):
        findings.append(Finding(f"Jupyter does not answer through Apache: {problem}", "sudo jupyter-remote apply"))
    return Status(
        version=__version__,
        address=render.address(settings, apply.public_name(settings)),
        owner=settings.user,
        server=server,
        since=since,
        memory_bytes=memory,
        kernels=kernels,
        kernels_memory_bytes=kernels_memory,
        apache=web,
        certificate=certificate,
        fingerprint=fingerprint,
        conda=_conda(findings),
        password={True: "not set", False: "set", None: "not visible (needs sudo)"}[locked],
        second_factor="on: a code after the password" if secondfactor.is_on() else "off",
        findings=findings,
    )


def _server(findings: list[Finding]) -> tuple[str, str, int | None]:
    if not systemd.running():
        return "no systemd here (jupyter-remote run)", "", None
    shown = systemd.properties(
        paths.SERVICE, "ActiveState", "SubState", "LoadState", "ActiveEnterTimestamp", "MemoryCurrent"
    )
    memory = _number(shown["MemoryCurrent"])
    state = shown["SubState"] if shown["ActiveState"] == "active" else shown["ActiveState"]
    if shown["LoadState"] == "masked":
        findings.append(Finding(f"{paths.SERVICE} is masked.", f"sudo systemctl unmask --now {paths.SERVICE}"))
    elif shown["ActiveState"] != "active":
        words = systemd.last_words(paths.SERVICE, 3)
        findings.append(Finding(f"The server is {state}. {words}".strip(), "sudo systemctl restart jupyter-remote"))
    return state, shown["ActiveEnterTimestamp"], memory


def _kernels(findings: list[Finding]) -> tuple[int | None, int | None]:
    """How many kernels and terminals run, and the bytes that they have together."""
    if not systemd.running():
        return None, None
    if not systemd.is_active(paths.KERNEL_SOCKET_UNIT):
        verb = "unmask --now" if systemd.is_masked(paths.KERNEL_SOCKET_UNIT) else "start"
        findings.append(Finding("No kernel can be started.", f"sudo systemctl {verb} {paths.KERNEL_SOCKET_UNIT}"))
    count = len(systemd.running_instances(paths.KERNELS))
    # A slice that is not there any more remembers what it had.
    shown = systemd.properties(paths.KERNELS_SLICE, "MemoryCurrent") if count else {"MemoryCurrent": ""}
    return count, _number(shown["MemoryCurrent"])


def _number(text: str) -> int | None:
    """A property that may be "[not set]", or the largest number there is, which means the same."""
    return int(text) if text.isdigit() and int(text) < 1 << 63 else None


def _conda(findings: list[Finding]) -> str:
    """How it stands with a conda that was asked for at the installation; empty when none was, or it is there."""
    if not paths.CONDA_WANTED.exists() or not systemd.running():
        return ""
    shown = systemd.properties(paths.CONDA_SERVICE, "ActiveState", "SubState")
    if shown["ActiveState"] == "activating" and shown["SubState"] != "auto-restart":
        return "is being installed"
    words = systemd.last_words(paths.CONDA_SERVICE, 3)
    findings.append(Finding(f"conda is not installed yet. {words}".strip(), "sudo jupyter-remote conda install"))
    return "not installed yet"


def _apache(settings: Settings, findings: list[Finding]) -> str:
    if not apache.installed():
        findings.append(
            Finding("Apache is not installed.", "sudo apt install apache2 — then: sudo jupyter-remote apply")
        )
        return "not installed"
    if not apache.is_enabled("conf", "jupyter-remote"):
        findings.append(Finding("Apache does not serve Jupyter yet.", "sudo jupyter-remote apply (it says why)"))
    if apache.running():
        return "running"
    verb = "unmask --now" if apache.masked() else "start"
    findings.append(Finding("Apache is not running.", f"sudo systemctl {verb} apache2"))
    return "masked" if apache.masked() else "stopped"


def _certificate(settings: Settings, findings: list[Finding]) -> tuple[str, str]:
    if settings.tls_mode == "none":
        return "none: https is another proxy's job", ""
    if os.geteuid() != 0:
        return f"{settings.tls_mode} (details need sudo)", ""
    try:
        text = (paths.TLS_DIR / "server.crt").read_text()
        until = tls.expiry(text)
    except (OSError, ProcessFailed):
        findings.append(Finding("There is no certificate yet.", "sudo jupyter-remote apply"))
        return "missing", ""
    return f"{settings.tls_mode}, until {until}", tls.fingerprint(text)


def as_text(status: Status) -> str:
    """For a terminal, 80 columns."""
    rows = [
        ("Address", status.address),
        ("Owner", status.owner),
        ("Server", f"{status.server}{f' since {status.since}' if status.since else ''}"),
        ("Memory", f"{status.memory_bytes / 2**20:.0f} MiB" if status.memory_bytes else ""),
        ("Kernels", _running(status)),
        ("Apache", status.apache),
        ("Certificate", status.certificate),
        ("SHA-256", status.fingerprint and _in_two_lines(status.fingerprint)),
        ("Password", status.password),
        ("2nd factor", status.second_factor),
        ("Conda", status.conda),
    ]
    lines = [f"{name:<12} {value}" for name, value in rows if value]
    if status.findings:
        lines.append("\nNeeds attention:")
        for finding in status.findings:
            lines.append(f"- {finding.what}\n    {finding.hint}")
    else:
        lines.append("\nAll is well.")
    return "\n".join(lines)


def _running(status: Status) -> str:
    if not status.kernels:
        return ""
    memory = f", {status.kernels_memory_bytes / 2**20:.0f} MiB" if status.kernels_memory_bytes else ""
    return f"{status.kernels} kernels and terminals{memory} (jupyter-remote kernels)"


def _in_two_lines(fingerprint: str) -> str:
    half = len(fingerprint) // 2 + 1
    return f"{fingerprint[:half]}\n{'':<13}{fingerprint[half:]}"
