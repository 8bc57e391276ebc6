"""How things stand, from the settings and the system: the facts of ``jupyter-remote status``."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import __version__, accounts, acme, apache, apply, password, paths, render, secondfactor, systemd, tls
from .run import Finding, Mistake, ProcessFailed
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
    #: whether programs on this machine trust what Apache shows; None when it shows nothing
    trusted: bool | None
    #: how a browser is told to trust this machine's own authority, and by what it is recognised
    trust: str
    authority_fingerprint: str
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
    certificate = _certificate(settings, findings)
    trust, authority = _own_authority(settings)
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
        certificate=certificate.what,
        fingerprint=certificate.fingerprint,
        trusted=certificate.trusted,
        trust=trust,
        authority_fingerprint=authority,
        conda=_conda(findings),
        password={True: "not set", False: "set", None: "not visible (needs sudo)"}[locked],
        second_factor="on: a code after the password" if secondfactor.is_on() else "off",
        findings=findings,
    )


def _server(findings: list[Finding]) -> tuple[str, str, int | None]:
    if not systemd.running():
        return "no systemd here (jupyter-remote run)", "", None
    shown = systemd.properties(
        paths.SERVICE,
        *("ActiveState", "SubState", "LoadState", "ActiveEnterTimestamp", "InactiveEnterTimestamp", "MemoryCurrent"),
    )
    memory = _number(shown["MemoryCurrent"])
    state = shown["SubState"] if shown["ActiveState"] == "active" else shown["ActiveState"]
    if shown["LoadState"] == "masked":
        findings.append(Finding(f"{paths.SERVICE} is masked.", f"sudo systemctl unmask --now {paths.SERVICE}"))
    elif systemd.sleeps(paths.SERVICE, paths.SOCKET):
        return "asleep, wakes at the next request", shown["InactiveEnterTimestamp"], None
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


@dataclass(frozen=True)
class _Certificate:
    what: str
    fingerprint: str = ""
    trusted: bool | None = None


def _certificate(settings: Settings, findings: list[Finding]) -> _Certificate:
    """What Apache shows to browsers, and what is wrong with it."""
    if settings.tls_mode == "none":
        return _Certificate("none: https is another proxy's job. Plain http is for this machine alone")
    name = apply.public_name(settings)
    shown = tls.served(name)
    theirs = _administrators_vhost() if shown else ""
    if settings.tls_mode != "self-signed" and theirs:
        findings.append(
            Finding(
                f"Jupyter is in {theirs}, whose certificate is used, "
                f"so tls.mode {settings.tls_mode} has nothing to do.",
                "As you want it? sudo jupyter-remote config unset tls.mode — "
                "or a vhost of our own beside it: sudo jupyter-remote config set apache.mode site",
            )
        )
    text = shown.certificate if shown else _on_disk(findings)
    if not text:
        return _Certificate(f"{settings.tls_mode} (details need sudo)" if os.geteuid() else "missing")
    ends, maker, fingerprint = tls.expiry(text), tls.issuer(text), tls.fingerprint(text)
    ours = maker.startswith(tls.OWN_AUTHORITY)
    if theirs:
        what = f"that of {theirs}, by {maker}, until {ends}"
    else:
        what = f"{settings.tls_mode}{'' if ours else f', by {maker}'}, until {ends}"
        if settings.tls_mode == "acme":
            what = "acme: this machine's own, until the first has come" if ours else what
            _acme(settings, ours, ends, findings)
        elif settings.tls_mode == "existing":
            _existing(settings, ends, findings)
    if shown and not ours:
        _validity(shown, settings, ends, findings)
        if not theirs and not tls.is_for(text, name):
            findings.append(
                Finding(
                    f"The certificate is not for {name}, so browsers warn.",
                    "Set the name that it is for: sudo jupyter-remote config set server_name NAME",
                )
            )
    return _Certificate(what, fingerprint, not shown.problem if shown else None)


def _administrators_vhost() -> str:
    """Whose https vhost Jupyter is in, when it has none of its own."""
    if not apache.installed() or apache.is_enabled("site", "jupyter-remote"):
        return ""
    try:
        files = apache.https_vhosts(apache.directives())
    except ProcessFailed:  # not root, who alone can read keys; or broken
        files = []
    return f"the https vhost of {files[0]}" if files else "another https vhost"


def _on_disk(findings: list[Finding]) -> str:
    """Apache does not run: what it would show."""
    if os.geteuid() != 0:
        return ""
    try:
        return (paths.TLS_DIR / "server.crt").read_text()
    except OSError:
        findings.append(Finding("There is no certificate yet.", "sudo jupyter-remote apply"))
        return ""


def _acme(settings: Settings, ours: bool, ends: str, findings: list[Finding]) -> None:
    serves = "This machine's own certificate serves" if ours else f"The old certificate serves until {ends}"
    if acme.certbots(settings):
        return  # it is used, and none is asked for
    try:
        if problem := acme.finding(settings):
            findings.append(Finding(f"{problem.what} {serves}.", problem.hint))
        elif ours:
            findings.append(
                Finding(
                    f"The authority's certificate has not come yet. {serves}.",
                    "Wait a minute; then: sudo jupyter-remote apply",
                )
            )
    except PermissionError:
        if ours:
            findings.append(
                Finding(f"The authority's certificate has not come yet. {serves}.", "sudo jupyter-remote status")
            )


def _existing(settings: Settings, ends: str, findings: list[Finding]) -> None:
    if os.geteuid() != 0:
        return
    try:
        tls.existing(Path(settings.tls_certificate), Path(settings.tls_key))
    except Mistake as mistake:
        findings.append(Finding(f"{mistake.what} The old certificate serves, until {ends}.", mistake.hint))


def _validity(shown: tls.Served, settings: Settings, ends: str, findings: list[Finding]) -> None:
    """What a browser would complain of, where its own trust is not the question."""
    if shown.code == acme.NOT_YET_VALID:
        findings.append(
            Finding("The certificate is not valid yet by this machine's clock, which may be wrong.", acme.CLOCK_HINT)
        )
    elif shown.code == acme.EXPIRED:
        how = {
            "acme": "See why no new one has come, above; the clock may be wrong: timedatectl",
            "existing": "Renew it; it is taken over by itself.",
        }
        findings.append(
            Finding(f"The certificate has expired on {ends}.", how.get(settings.tls_mode, "Renew it; or: timedatectl"))
        )


def _own_authority(settings: Settings) -> tuple[str, str]:
    if settings.tls_mode != "self-signed":
        return "", ""
    try:
        fingerprint = tls.fingerprint(paths.CA_CERTIFICATE.read_text())
    except (OSError, ProcessFailed):
        return "", ""
    return f"import {paths.CA_CERTIFICATE} into the browser (docs/https.md, man jupyter-remote)", fingerprint


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
        ("To trust it", status.trust),
        ("Its SHA-256", status.authority_fingerprint and _in_two_lines(status.authority_fingerprint)),
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
