"""How things stand, from the settings and the system: the facts of ``jupyter-remote status``."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import (
    __version__,
    accounts,
    acme,
    apache,
    apply,
    extensions,
    kernels,
    machine,
    password,
    paths,
    people,
    render,
    secondfactor,
    systemd,
    tls,
)
from .accounts import Account
from .doctor import system
from .doctor.patient import Patient
from .kernels import Kept
from .passes import Passes
from .refusals import Refusals
from .run import Finding, Mistake, ProcessFailed
from .settings import Settings

#: Hours for which refused logins are counted.
LATELY = 24


@dataclass(frozen=True)
class Disk:
    """A file system that notebooks or our own state are on; bytes."""

    place: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Login:
    """A browser that came in, or somebody who did not; ``when`` is in seconds since 1970.

    ``how`` is in words: what let them in, or why they were refused.
    """

    when: float
    address: str
    how: str
    browser: str = ""


@dataclass(frozen=True)
class Other:
    """The Jupyter of a further person of this machine."""

    name: str
    address: str
    server: str


@dataclass
class Status:
    """Facts as a program reads them (``--json``); ``findings`` is what needs attention, ``notes`` what may wait.

    What only the owner and root may see is None for others.
    """

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
    #: kernels and terminals, the oldest first
    running: list[Kept] | None = None
    #: how many are logged in
    browsers: int | None = None
    last_login: Login | None = None
    refused_logins: int | None = None
    last_refused: Login | None = None
    disks: list[Disk] = field(default_factory=list)
    machine_memory_bytes: int = 0
    machine_free_bytes: int = 0
    #: for the owner's: those of further people
    others: list[Other] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def collect(settings: Settings, *, knock: bool = True) -> Status:
    """Ask everything once. Without root some facts are "not visible".

    :param knock: ask the server, too, whether it answers.
    """
    findings: list[Finding] = []
    owner = None
    try:
        owner = accounts.owner(settings.user)
    except Mistake as mistake:
        findings.append(Finding(mistake.what, mistake.hint))
    before = _processor(settings, owner)
    begun = time.monotonic()
    server, since, memory = _server(findings)
    locked = password.is_locked()
    if locked:
        findings.append(Finding("No password is set, so nobody can log in with one.", "sudo jupyter-remote password"))
    certificate = _certificate(settings, findings)
    trust, authority = _own_authority(settings)
    count, kernels_memory = _kernels(findings)
    web = _apache(settings, findings)
    if knock and server == "running" and web == "running" and (problem := apply.unreachable(settings, seconds=1)):
        findings.append(Finding(f"Jupyter does not answer through Apache: {problem}", "sudo jupyter-remote apply"))
    ram = machine.memory()
    status = Status(
        version=__version__,
        address=apply.address(settings),
        owner=settings.user,
        server=server,
        since=since,
        memory_bytes=memory,
        kernels=count,
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
        machine_memory_bytes=ram.total,
        machine_free_bytes=ram.free,
        others=_others(findings),
        findings=findings,
    )
    _machine(settings, owner, status)
    if owner and accounts.may_act_as(owner):
        _owners(settings, owner, status, before, begun)
    return status


#: Kernels that run, and what each has had of the processor until then, by its id.
_Running = tuple[list[Kept], dict[str, float]]


def _processor(settings: Settings, owner: Account | None) -> _Running:
    if not owner or not accounts.may_act_as(owner):
        return [], {}
    place = paths.Place(settings.user)
    with accounts.acting_as(owner):
        running = kernels.find(place.runtime, place.sessions)
        return running, kernels.spent(running)


def _owners(settings: Settings, owner: Account, status: Status, running: _Running, begun: float) -> None:
    """What lies in the owner's directories."""
    found, before = running
    place = paths.Place(settings.user)
    with accounts.acting_as(owner):
        if before and (left := begun + kernels.GLANCE - time.monotonic()) > 0:
            time.sleep(left)
        # Not asked once more: one that hangs costs seconds each time.
        status.running = kernels.measured(found, before, time.monotonic() - begun)
        browsers = Passes(place.logins).all()
        refused = Refusals(place.refused_logins).since(time.time() - LATELY * 3600)
        old = [one.name for one in extensions.left_behind(place.state)]
    if old:
        what = f"Extensions of another version of Python are not in use: {', '.join(map(kernels.shown, old))}."
        status.notes.append(Finding(what, "jupyter-remote extensions upgrade"))
    status.browsers = len(browsers)
    if browsers:
        last = browsers[-1]
        status.last_login = Login(last.created, last.address, last.how, last.browser)
    status.refused_logins = len(refused)
    if refused:
        status.last_refused = Login(refused[-1].when, refused[-1].address, refused[-1].why)


def _machine(settings: Settings, owner: Account | None, status: Status) -> None:
    """Disks and memory, and what the doctor says of them."""
    places = [*([render.notebook_dir(settings, owner)] if owner else []), paths.STATE_DIR]
    status.disks = [Disk(str(one.place), one.free, one.total) for one in machine.file_systems(places)]
    patient = Patient(settings)
    for check in (system.disks, system.memory, system.clock):
        for found in check(patient):
            (status.findings if found.is_error else status.notes).append(Finding(found.what, found.hint))


def _server(findings: list[Finding]) -> tuple[str, str, int | None]:
    if not systemd.running():
        return "no unit of systemd's (jupyter-remote run)", "", None
    shown = systemd.properties(
        paths.SERVICE,
        *("ActiveState", "SubState", "LoadState", "ActiveEnterTimestamp", "InactiveEnterTimestamp", "MemoryCurrent"),
    )
    memory = _number(shown["MemoryCurrent"])
    state = _state(shown)
    if shown["LoadState"] == "masked":
        findings.append(Finding(f"{paths.SERVICE} is masked.", f"sudo systemctl unmask --now {paths.SERVICE}"))
    elif systemd.sleeps(paths.SERVICE, paths.SOCKET):
        return "asleep, wakes at the next request", shown["InactiveEnterTimestamp"], None
    elif shown["ActiveState"] != "active":
        words = systemd.last_words(paths.SERVICE, 3)
        findings.append(Finding(f"The server is {state}. {words}".strip(), f"sudo systemctl restart {paths.SERVICE}"))
    return state, shown["ActiveEnterTimestamp"], memory


def _state(shown: dict[str, str]) -> str:
    """How a unit is, in one word of systemd's."""
    return shown["SubState"] if shown["ActiveState"] == "active" else shown["ActiveState"]


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


def _others(findings: list[Finding]) -> list[Other]:
    found = []
    for name in () if paths.PERSON else people.names():
        service = paths.service_of(name)
        state = "unknown"
        if systemd.running():
            shown = systemd.properties(service, "ActiveState", "SubState")
            state = _state(shown)
            if systemd.sleeps(service, paths.socket_of(name)):
                state = "asleep"
            elif state != "running":
                hint = f"sudo jupyter-remote {people.OPTION} {name} status"
                findings.append(Finding(f"The server of {name} is {state}.", hint))
        try:
            address = apply.address(people.settings_of(name))
        except Mistake as mistake:
            findings.append(Finding(f"The settings of {name}: {mistake.what}", mistake.hint))
            address = ""
        found.append(Other(name, address, state))
    return found


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
