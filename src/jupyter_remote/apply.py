"""Settings -> a machine that follows them. The only thing that renders; run by the postinst, the CLI
and an administrator alike, as often as anybody likes.

Order: everything that can be asked is asked first; then files, together; then Apache's word on them;
then the units. What fails is taken back, and the old state runs again. What was put into *use* is
written down last (``applied.json``), so an apply that was killed half-way is finished by the next.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import hashlib
import http.client
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from . import accounts, acme, apache, checks, machine, paths, people, render, systemd, tls
from .accounts import Account
from .machine import Machine
from .run import EX_CANTCREAT, EX_NOPERM, EX_TEMPFAIL, EX_UNAVAILABLE, Finding, Mistake, ProcessFailed, die, say
from .settings import Settings
from .transaction import Transaction
from .transaction import replace as replace_file

_CONFFILES = (apache.CONF_AVAILABLE, Path("/etc/apache2/sites-available/jupyter-remote.conf"))


@dataclass
class Outcome:
    """What an apply did: the files that changed, what was restarted, what needs attention."""

    changed: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    #: from here on a failure means that the units have to be started again with the old state
    units_touched: bool = False


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One change of this machine at a time.

    :raises Mistake: not root, or another one is still at work after a minute.
    """
    require_root()
    paths.RUN_DIR.mkdir(exist_ok=True)
    # Whatever root's umask is: Apache must find its socket in it.
    paths.RUN_DIR.chmod(0o755)
    with os.fdopen(os.open(paths.LOCK, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        for attempt in range(600):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 10:
                    say("Waiting for another jupyter-remote command to end …")
                time.sleep(0.1)
        else:
            die(
                "Another jupyter-remote command is still at work.",
                hint="Try again in a minute.",
                code=EX_TEMPFAIL,
            )
        yield


def require_root() -> None:
    """:raises Mistake: this is not root."""
    if os.geteuid() != 0:
        import shlex
        import sys

        again = shlex.join(["sudo", "jupyter-remote", *sys.argv[1:]])
        die("Only root can do this.", hint=f"Run: {again}", code=EX_NOPERM)


def apply(settings: Settings, *, installing: bool = False) -> Outcome:
    """Make the machine follow *settings*. The caller holds :func:`lock`.

    :param installing: a package is being configured: trouble with Apache or with the start is a
        finding and not a failure, so that dpkg is never left half-way.
    :raises Mistake: the settings ask for something that is not there (nothing has changed then), or
        the new state does not come up (the old one is back then).
    """
    owner = check(settings)
    apache.drop_half_enabled()
    if not installing and (others := taken(settings)):
        die(others.what, hint=others.hint, code=EX_UNAVAILABLE)
    for directory in (paths.STATE_DIR, paths.SYSTEM_UNITS):
        checks.space_for(directory)
    here = surroundings(settings)
    files = render.render(settings, owner, here)
    pair = None if paths.PERSON else _certificate(settings, here)
    are_new = [path.name for path in paths.OWN_UNITS if not path.exists() and "@." not in path.name]

    before = _applied()
    outcome = Outcome()
    now: dict[str, str] = {}
    was_active = systemd.running() and systemd.serves(paths.SERVICE, paths.SOCKET)
    try:
        with Transaction() as transaction:
            for path, text in files.items():
                transaction.write(path, text)
                now[str(path)] = _digest(text)
            if pair:
                # Together: a new certificate must never meet the old key.
                transaction.write(paths.TLS_DIR / "server.key", pair.key, 0o600)
                transaction.write(paths.TLS_DIR / "server.crt", pair.certificate, 0o600)
                now["tls"] = _digest(pair.certificate + pair.key)
            now["password"] = _digest(_read(paths.PASSWORD_HASH))
            now["second factor"] = _digest(_read(paths.SECOND_FACTOR))
            if not paths.PERSON:
                now.update({str(path): _digest(_read(path)) for path in _CONFFILES})
                if here.asks_authority:
                    known = {*_read(paths.ACME_NAMES).split(), settings.server_name}
                    replace_file(paths.ACME_NAMES, "".join(f"{name}\n" for name in sorted(known)))
                now["modules"] = _modules_in_use(settings, here)
            outcome.changed = sorted(name for name in now if now[name] != before.get(name))
            if paths.PERSON:
                apache_done = _add_location(settings, outcome)
            else:
                apache_done = _apply_apache(settings, here, outcome, transaction)
            if systemd.running():
                for unit in are_new:
                    # Taken back before their files are: without those systemd does not know what was enabled.
                    transaction.on_rollback(lambda unit=unit: systemd.disable(unit))  # type: ignore[misc]
                    systemd.enable(unit)
                _apply_units(outcome, owner, installing)
    except OSError as error:
        _run_the_old(was_active, outcome)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            die(
                f"The disk is full: {error.filename or paths.STATE_DIR} cannot be written. Nothing changed.",
                hint="Free some space and run: sudo jupyter-remote apply",
                code=EX_CANTCREAT,
            )
        die(f"{error.filename}: {error.strerror}. Nothing was changed.", code=EX_CANTCREAT)
    except (Mistake, ProcessFailed):
        _run_the_old(was_active, outcome)
        raise
    if not apache_done:
        # To be tried again next time: not yet in use.
        for name in list(now):
            if name in ("tls", "modules", str(paths.APACHE_DEFINES), *map(str, _CONFFILES)):
                now[name] = ""
    replace_file(paths.APPLIED, json.dumps(now, indent=1) + "\n", 0o600)
    return outcome


def check(settings: Settings) -> Account:
    """Ask whether everything that the settings name is there; changes nothing.

    :returns: the owner.
    :raises Mistake: something is not there or cannot be used.
    """
    owner = accounts.owner(settings.user)
    people.check(settings)
    checks.notebook_dir(settings, owner)
    checks.interface(settings)
    checks.port_is_free(settings)
    if settings.tls_mode == "existing":
        tls.existing(Path(settings.tls_certificate), Path(settings.tls_key))
    return owner


def _certificate(settings: Settings, here: Machine) -> tls.Pair | None:
    """What our vhost serves; with an authority's it is what serves until the first one has come."""
    if settings.tls_mode == "none":
        return None
    if here.certificate_files:
        return tls.existing(*map(Path, here.certificate_files))
    own = paths.TLS_DIR / "self-signed"
    paths.TLS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    pair = tls.self_signed(own, render.server_names(settings, here), here.addresses)
    replace_file(paths.CA_CERTIFICATE, tls.ca_certificate(own))
    return pair


def surroundings(settings: Settings) -> Machine:
    """This machine, and where the certificate comes from: it depends on what else is on it."""
    here = replace(machine.this(), apache_group=_apache_group(), is_slim=systemd.is_slim())
    config = apache.directives() if apache.installed() and not apache.configtest() else []
    here = replace(here, few_workers=apache.has_debians_workers(config))
    if settings.tls_mode == "none":
        return here
    here = replace(here, site_names=tuple(apache.https_names(config)))
    own_site = wants_own_site(settings, config)
    files: tuple[Path, Path] | None = None
    if settings.tls_mode == "existing":
        files = Path(settings.tls_certificate), Path(settings.tls_key)
    elif settings.tls_mode == "acme" and own_site:
        files = acme.certbots(settings)
    asks = settings.tls_mode == "acme" and own_site and not files
    may_bind = own_site and settings.tls_hsts == "auto" and not apache.plain_sites(config)
    return replace(
        here,
        certificate_files=files and (str(files[0]), str(files[1])),
        certificate_links=tuple(sorted({str(file.parent) for file in files or () if file.is_symlink()})),
        asks_authority=asks,
        asks_anew=asks and acme.is_from_another(settings),
        listens_on_80=not config or apache.listens(80, config),
        hsts=may_bind and (asks or (files is not None and tls.is_trusted(files[0], settings.server_name or here.name))),
    )


def wants_own_site(settings: Settings, config: list[apache.Directive]) -> bool:
    """Whether Jupyter has an https vhost of its own, or is in the administrator's."""
    wanted = settings.apache_mode == "site" or (settings.apache_mode == "auto" and not apache.https_vhosts(config))
    return settings.tls_mode != "none" and wanted


def _apache_group() -> str:
    try:
        grp.getgrnam("www-data")
    except KeyError:
        return "root"
    return "www-data"


def public_name(settings: Settings) -> str:
    """What a browser should call this machine: as set, or as the last apply found it."""
    if settings.server_name:
        return settings.server_name
    try:
        return str(json.loads(paths.SERVER_JSON.read_text())["server_names"][0])
    except (OSError, ValueError, LookupError):
        return machine.this().name


def address(settings: Settings) -> str:
    """The address of the front page, with the name that browsers should use."""
    if systemd.is_slim() and settings.listen != "unix":
        return f"http://127.0.0.1:{settings.listen}{settings.base_url}"
    return render.address(settings, public_name(settings))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _applied() -> dict[str, str]:
    try:
        return json.loads(paths.APPLIED.read_text())
    except (OSError, ValueError):
        return {}


# --- Apache ----------------------------------------------------------------------------------------


def _apply_apache(settings: Settings, here: Machine, outcome: Outcome, transaction: Transaction) -> bool:
    """Enable what is needed, check, reload; True when Apache follows the settings."""

    def finding(what: str, hint: str) -> bool:
        outcome.findings.append(Finding(what, hint))
        return False

    again = "then: sudo jupyter-remote apply"
    if here.is_slim:
        where = "" if settings.listen != "unix" else "; first a port: sudo jupyter-remote config set listen 8888"
        say(
            "This is the slim package, which has no systemd units and no site for Apache: both were left alone. "
            f"To serve: sudo jupyter-remote run --keep-kernels{where}"
        )
        return False
    if apache.comes_soon():
        return False
    if not apache.installed():
        return finding(
            "Apache, or its configuration, is not there: nothing serves Jupyter to the network yet.",
            f"sudo apt install --reinstall apache2 — {again}",
        )
    broken = apache.configtest()
    if broken and not broken.is_ours:
        outcome.findings.append(_left_alone(broken, again))
        return False

    if not _enable_modules(settings, here, outcome, transaction):
        return False

    config = apache.directives() if not broken else []
    if others := taken(settings):
        # Never over somebody else's page: without our conf, Apache is as it was.
        _switch("conf", False, transaction)
        _switch("site", False, transaction)
        return finding(others.what, others.hint)

    own_site = wants_own_site(settings, config)
    for kind, wanted in (("conf", True), ("site", own_site)):
        if wanted and apache.was_switched_off(kind, "jupyter-remote"):
            finding(
                f"An administrator switched our Apache {kind} off; it stays off.",
                f"To have it again: sudo a2en{kind} jupyter-remote — {again}",
            )
        else:
            _switch(kind, wanted, transaction)

    if problem := apache.configtest():
        _not_accepted(problem)
    if apache.masked():
        return finding(
            "Apache is masked, so it cannot run.",
            f"sudo systemctl unmask apache2 && sudo systemctl start apache2 — {again}",
        )
    if not apache.running():
        return finding("Apache is stopped.", f"{_start_apache()} — {again}")
    ours = {"tls", "modules", str(paths.APACHE_DEFINES), *map(str, _CONFFILES), "apache"}
    # A reload puts a new certificate to use, and after a failure makes Apache ask again at once.
    failed = here.asks_authority and acme.job(settings.server_name).errors
    if failed or (here.asks_anew and str(paths.APACHE_DEFINES) in outcome.changed):
        # What is staged is of no use: half of something, or another authority's.
        acme.start_over(settings.server_name)
    ready = here.asks_authority and acme.is_ready(settings.server_name)
    if failed or ready or ours.intersection(outcome.changed):
        _reload_apache()
        if here.asks_authority and {"apache", "modules"}.intersection(outcome.changed):
            # The first time that a running Apache has mod_md it does nothing with it but look whether it could
            # (mod_md.c: dry_run); it asks for certificates from the next reload on.
            _reload_apache()
        outcome.restarted.append("apache2 (reloaded)")
    return True


def _left_alone(problem: apache.ConfigError, again: str) -> Finding:
    """
    :param again: what to do when it is mended.
    """
    return Finding(
        f"Apache's configuration has an error that is not ours, so Apache was left alone: {problem}",
        f"Mend it, check with: sudo apache2ctl configtest — {again}",
    )


def _not_accepted(problem: apache.ConfigError) -> NoReturn:
    die(
        f"Apache would not accept the new configuration ({problem}). The old one is back.",
        hint="If a file of ours was edited, compare: sudo dpkg --verify jupyter-remote",
    )


def _add_location(settings: Settings, outcome: Outcome) -> bool:
    """Have Apache know where a further person's Jupyter is; all else is as it is for the owner's."""
    again = f"then: sudo jupyter-remote {people.OPTION} {settings.user} apply"
    if not apache.installed() or not apache.is_enabled("conf", "jupyter-remote"):
        what = "Apache does not serve Jupyter, the owner's neither."
        outcome.findings.append(Finding(what, f"See why: sudo jupyter-remote apply — {again}"))
        return False
    if problem := apache.configtest():
        if problem.is_ours:
            _not_accepted(problem)
        outcome.findings.append(_left_alone(problem, again))
        return False
    if not apache.running():
        outcome.findings.append(Finding("Apache is stopped.", f"{_start_apache()} — {again}"))
        return False
    if str(paths.APACHE_DEFINES) in outcome.changed:
        _reload_apache()
        outcome.restarted.append("apache2 (reloaded)")
    return True


def _start_apache() -> str:
    # In a container there is no systemd.
    return "sudo systemctl start apache2" if systemd.running() else "sudo apachectl start"


def _reload_apache(*, directly: bool = False) -> None:
    """Returns when the new configuration is in use: a reload that is asked for during another is lost."""
    before = apache.workers()
    try:
        apache.reload(directly=directly)
    except ProcessFailed as failed:
        die(
            f"Apache could not load the new configuration; the old one is back. {failed.output.strip()}",
            hint="sudo systemctl status apache2",
            code=EX_UNAVAILABLE,
        )
    end = time.monotonic() + 10
    while not apache.workers() - before and time.monotonic() < end:
        time.sleep(0.05)


def modules_to_enable(settings: Settings) -> list[str]:
    """The Apache modules that are needed, off, and safe to switch on."""
    return _missing_modules(settings, surroundings(settings), [])


def needed_modules(settings: Settings, here: Machine) -> list[str]:
    """The Apache modules that our files use here, those that others depend on first."""
    return apache.needed_modules(https=settings.tls_mode != "none", acme=here.asks_authority)


def _modules_in_use(settings: Settings, here: Machine) -> str:
    """Which of the needed modules are on; the postinst switches some on without reloading Apache."""
    if not apache.installed():
        return ""
    return " ".join(name for name in needed_modules(settings, here) if apache.is_enabled("mod", name))


def _missing_modules(settings: Settings, here: Machine, findings: list[Finding]) -> list[str]:
    missing = []
    for name in needed_modules(settings, here):
        if apache.is_enabled("mod", name):
            continue
        if apache.was_switched_off("mod", name):
            findings.append(
                Finding(
                    f"The Apache module {name} is needed, and an administrator has switched it off.",
                    f"sudo a2enmod {name} — then: sudo jupyter-remote apply",
                )
            )
        elif name == "ssl" and (who := checks.listener(443)) and not who.startswith("apache2"):
            # With the module Apache would want port 443, fail to start, and take every other site along.
            findings.append(
                Finding(
                    f"Port 443 is taken by {who}, so Apache cannot serve https.",
                    "Free it, or serve through it (tls.mode none) — then: sudo jupyter-remote apply",
                )
            )
        else:
            missing.append(name)
    return missing


def _enable_modules(settings: Settings, here: Machine, outcome: Outcome, transaction: Transaction) -> bool:
    unsolved: list[Finding] = []
    missing = _missing_modules(settings, here, unsolved)
    outcome.findings.extend(unsolved)
    if missing:
        enabled_before = apache.enabled_modules()
        # Before: if we are killed, the next one knows what was begun.
        apache.remember_enabled(set(missing))
        for name in missing:
            apache.enable("mod", name)
            transaction.on_rollback(lambda name=name: apache.disable("mod", name))  # type: ignore[misc]
        apache.remember_enabled(apache.enabled_modules() - enabled_before)
        outcome.changed.append("apache")
    return not unsolved


def taken(settings: Settings) -> Finding | None:
    """Whether another site of this Apache uses the base URL."""
    if systemd.is_slim() or not apache.installed() or apache.configtest():
        return None
    others = apache.users_of(settings.base_url, apache.directives())
    if not others:
        return None
    return Finding(
        f"{settings.base_url} is already used by another site of this Apache: {others[0]}",
        "A Jupyter that was set up by hand? sudo jupyter-remote adopt — "
        "or choose another: sudo jupyter-remote config set base_url /lab",
    )


def _switch(kind: str, on: bool, transaction: Transaction) -> None:
    if apache.is_enabled(kind, "jupyter-remote") == on:
        return
    forward, back = (apache.enable, apache.disable) if on else (apache.disable, apache.enable)
    forward(kind, "jupyter-remote")

    def undo() -> None:
        back(kind, "jupyter-remote")

    transaction.on_rollback(undo)


# --- units -----------------------------------------------------------------------------------------


def _apply_units(outcome: Outcome, owner: Account, installing: bool) -> None:
    changed = set(outcome.changed)
    outcome.units_touched = True
    if changed & {str(paths.SOCKET_DROPIN), str(paths.SYSTEM_UNITS / paths.SOCKET)}:
        # While systemd still knows the old place: so it takes the old socket away.
        systemd.stop(paths.SERVICE, paths.SOCKET)
    # Not by what has changed in a file: whatever an upgrade or a killed apply makes of the files, the owner's own
    # kernels go on, and nobody else's do.
    if _is_anothers(paths.KERNEL_SOCKET, owner):
        systemd.stop(paths.KERNEL_SOCKET_UNIT)
    if others := [unit for unit in systemd.running_instances(paths.KERNELS) if _runs_as_another(unit, owner)]:
        # The new owner's server would not see them, and would share a /tmp with them.
        say(f"The owner has changed: the old one's kernels and terminals ({len(others)}) are ended.")
        systemd.stop(paths.SERVICE)
        systemd.stop(paths.KERNELS_SLICE)
    if installing or changed & set(map(str, (*paths.DROPINS, *paths.OWN_UNITS))):
        systemd.daemon_reload()
    if str(paths.CERTIFICATE_DROPIN) in changed and not systemd.is_masked(paths.CERTIFICATE_PATH):
        systemd.restart(paths.CERTIFICATE_PATH)
    for unit in (paths.SOCKET, paths.KERNEL_SOCKET_UNIT, paths.SERVICE):
        if systemd.is_masked(unit):
            outcome.findings.append(
                Finding(
                    f"{unit} is masked, so Jupyter cannot run.",
                    f"sudo systemctl unmask {unit} — then: sudo jupyter-remote apply",
                )
            )
            return
    asleep = systemd.sleeps(paths.SERVICE, paths.SOCKET)
    # Who came in with the old password is thrown out by the server alone.
    is_wanted = installing or (asleep and changed & {"password", "second factor"})
    if not is_wanted and systemd.is_disabled(paths.SERVICE) and not systemd.is_active(paths.SERVICE):
        name = paths.SERVICE.removesuffix(".service")
        what, hint = f"{name} is switched off.", f"To have it again: sudo systemctl enable --now {name}"
        if asleep:
            what = f"{name} is switched off, but its socket starts it with the next request."
            hint = f"To have it off: sudo systemctl disable --now {paths.SOCKET}. {hint}"
        outcome.findings.append(Finding(what, hint))
        return
    try:
        if not systemd.is_active(paths.SOCKET):
            # systemd refuses to start a socket under a running service.
            systemd.stop(paths.SERVICE)
            systemd.start(paths.SOCKET)
        # Never restarted: those who ask for a kernel in this moment would be refused.
        systemd.start(paths.KERNEL_SOCKET_UNIT)
        inputs = {
            *map(str, (paths.SERVICE_DROPIN, paths.SOCKET_DROPIN, paths.SERVER_JSON)),
            *(str(unit) for unit in paths.OWN_UNITS if unit.name in (paths.SERVICE, paths.SOCKET)),
            "password",
            "second factor",
        }
        # A new package brings new code, whatever the settings say.
        if installing or changed & inputs:
            systemd.restart(paths.SERVICE)
            outcome.restarted.append(paths.SERVICE)
        elif not systemd.sleeps(paths.SERVICE, paths.SOCKET):
            systemd.start(paths.SERVICE)
    except ProcessFailed as failed:
        words = systemd.last_words(paths.SERVICE) or failed.output.strip()
        if not installing:
            die(
                f"The server did not come up with the new settings; the old ones are back. It said:\n{words}",
                hint="jupyter-remote logs",
                code=EX_UNAVAILABLE,
            )
        outcome.findings.append(Finding(f"The server did not start. It said:\n{words}", "sudo jupyter-remote logs"))


def _runs_as_another(unit: str, owner: Account) -> bool:
    return _is_anothers(Path("/proc", systemd.properties(unit, "MainPID")["MainPID"]), owner)


def _is_anothers(path: Path, owner: Account) -> bool:
    """Whether something is there and belongs to somebody else."""
    try:
        return path.stat().st_uid != owner.uid
    except OSError:
        return False


def _run_the_old(was_active: bool, outcome: Outcome) -> None:
    """After a rollback: the files are the old ones again; let Apache and the units run with them."""
    with contextlib.suppress(ProcessFailed):
        if apache.installed() and apache.running() and not apache.configtest():
            apache.reload()
    if not outcome.units_touched:
        return
    with contextlib.suppress(ProcessFailed):
        # Kernels go on: they need neither.
        systemd.stop(paths.SERVICE, paths.SOCKET, paths.KERNEL_SOCKET_UNIT)
        systemd.daemon_reload()
        if was_active:
            systemd.start(paths.SOCKET, paths.KERNEL_SOCKET_UNIT, paths.SERVICE)


# --- a renewed certificate ---------------------------------------------------------------------------

#: Seconds in which whoever renews a certificate has written all of it.
_QUIET = 2.0
_LONGEST_WAIT = 60.0
#: Seconds between two certificates that are put to use by themselves; what comes earlier waits for the daily look.
_OFTEN_ENOUGH = 3600.0


def renew(settings: Settings) -> list[str]:
    """Put a certificate to use that has been renewed, by Apache or by whoever looks after its files.

    Called when something has changed at the places that are watched. The caller does not hold :func:`lock`.

    :returns: what was taken over; empty when there was nothing new.
    :raises Mistake: the new certificate cannot be used; the old one stays in service.
    """
    places = _places(settings)
    acme_name = settings.server_name if settings.tls_mode == "acme" else ""
    seen = _wait_until_quiet(
        places,
        enough=lambda: bool(acme_name) and acme.is_ready(acme_name),
        busy=lambda: bool(acme_name) and acme.is_under_way(acme_name),
    )
    done: list[str] = []
    while True:
        here = surroundings(settings)
        if here.asks_authority:
            # Whatever makes Apache want the next one at once (MDRenewWindow): not one authority would stand that.
            if not acme.is_younger(settings.server_name, _OFTEN_ENOUGH):
                done += activate(settings)
        elif here.certificate_files:
            done += _take_over(*map(Path, here.certificate_files))
        # What is written while we work is not reported again.
        if (now := _stamps(places)) == seen:
            return done
        seen = now


def _places(settings: Settings) -> list[Path]:
    """Where a new certificate shows first."""
    if settings.tls_mode == "existing":
        return [Path(settings.tls_certificate), Path(settings.tls_key)]
    if settings.tls_mode == "acme":
        staging = acme.staging(settings.server_name)
        return [*acme.certbots_files(settings), staging, staging / "job.json"]
    return []


def lacks_certificate(settings: Settings) -> bool:
    """Whether Apache is getting a certificate that it does not have: a first one, or one from a new authority."""
    here = surroundings(settings)
    return here.asks_authority and (here.asks_anew or not acme.certificate(settings.server_name))


def await_certificate(settings: Settings, seconds: float = 30) -> bool:
    """Wait until Apache has got the certificate that it lacks and uses it, or has failed to.

    The caller may hold :func:`lock`.

    :returns: whether it is in use.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and not acme.job(settings.server_name).errors:
        # Here and not only in the service that does it otherwise: that one would wait for the lock.
        activate(settings)
        if not lacks_certificate(settings):
            return True
        time.sleep(0.3)
    return False


def activate(settings: Settings) -> list[str]:
    """Let Apache use the certificate that it has got, if there is one.

    :returns: its name.
    :raises Mistake: Apache's configuration has an error, so it was left alone.
    """
    if not acme.is_ready(settings.server_name):
        return []
    if problem := apache.configtest():
        die(
            f"A new certificate is there, but Apache's configuration has an error, so Apache was left alone: {problem}",
            hint="Mend it, check with: sudo apache2ctl configtest — then: sudo jupyter-remote apply",
        )
    if not apache.running():
        return []  # it takes the certificate along when it starts
    # Once is enough: with that line each certificate would be followed by another.
    defines = _read(paths.APACHE_DEFINES)
    if (once := defines.replace(render.ASK_ANEW, "")) != defines:
        replace_file(paths.APACHE_DEFINES, once)
    _reload_apache(directly=True)
    return [settings.server_name]


def _take_over(certificate: Path, key: Path) -> list[str]:
    pair = tls.existing(certificate, key)
    digest = _digest(pair.certificate + pair.key)
    with lock():
        applied = _applied()
        if applied.get("tls") == digest:
            return []
        with Transaction() as transaction:
            transaction.write(paths.TLS_DIR / "server.key", pair.key, 0o600)
            transaction.write(paths.TLS_DIR / "server.crt", pair.certificate, 0o600)
            if problem := apache.configtest():
                die(
                    f"Apache would not accept the new certificate ({problem}). The old one stays.",
                    hint="sudo apache2ctl configtest",
                )
            if apache.running():
                _reload_apache(directly=True)
        replace_file(paths.APPLIED, json.dumps({**applied, "tls": digest}, indent=1) + "\n", 0o600)
    return [str(certificate)]


def _stamps(files: list[Path]) -> list[tuple[str, int, int]]:
    found = []
    for path in files:
        with contextlib.suppress(OSError):
            facts = path.stat()
            found.append((str(path.resolve()), facts.st_ino, facts.st_mtime_ns))
    return found


def _wait_until_quiet(
    files: list[Path], enough: Callable[[], bool], busy: Callable[[], bool]
) -> list[tuple[str, int, int]]:
    """A certificate and its key are two files, written one after the other.

    While somebody is *busy* with them it is not over: what is written between the end of this service and the
    moment at which systemd watches anew would be seen by nobody until the daily look.
    """
    seen, quiet_since, end = _stamps(files), time.monotonic(), time.monotonic() + _LONGEST_WAIT
    while not enough() and time.monotonic() < end and (busy() or time.monotonic() < quiet_since + _QUIET):
        time.sleep(0.1)
        if (now := _stamps(files)) != seen:
            seen, quiet_since = now, time.monotonic()
    return seen


# --- is it there? ----------------------------------------------------------------------------------


def unreachable(settings: Settings, seconds: float = 5) -> str:
    """Ask for the front page as a browser on this machine would; why it does not come, or an empty text.

    :param seconds: how long to go on asking: after a reload Apache opens its ports a moment later.
    """
    name = public_name(settings)
    end = time.monotonic() + seconds
    while True:
        try:
            problem = _ask(settings, name)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        if not problem or time.monotonic() > end:
            return problem
        time.sleep(0.2)


def _ask(settings: Settings, name: str) -> str:
    connection: http.client.HTTPConnection
    if settings.tls_mode == "none":
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
    else:
        # Whether a browser trusts the certificate is another question; here: does Jupyter answer?
        connection = _ByName(name, tls.unverified())
    with contextlib.closing(connection):
        connection.request("GET", f"{settings.base_url}/api", headers={"Host": name})
        response = connection.getresponse()
        body = response.read(1000)
        if response.status == 200 and b"version" in body:
            return ""
        return f"{settings.base_url}/api answers {response.status} {response.reason}"


class _ByName(http.client.HTTPSConnection):
    """To this machine, by any of its names: the TLS handshake asks for *name*, the address is loopback."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", 443, timeout=10, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        self.sock = tls.handshake(self._name, self.host, self.port, self._tls, seconds=10)


def unapply() -> None:
    """Take everything back that an apply put outside our own directories: units, Apache, drop-ins.

    Kernels end: what they need is about to go. Settings, password and the owner's environment stay. Called when
    the package is removed, or a further person's Jupyter is.
    """
    if systemd.running():
        # The door first, so that no kernel comes while they are ended.
        systemd.stop(paths.SERVICE, paths.SOCKET, paths.KERNEL_SOCKET_UNIT)
        # With them the slice that holds theirs, which nobody else would take away. (What holds that one, jupyter.slice,
        # may be others' too.)
        systemd.stop(paths.KERNELS_SLICE if paths.PERSON else paths.SLICE)
    for unit in paths.OWN_UNITS:
        systemd.disable(unit.name)
        unit.unlink(missing_ok=True)
    for path in paths.DROPINS:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    paths.APPLIED.unlink(missing_ok=True)
    if paths.PERSON:
        paths.APACHE_DEFINES.unlink(missing_ok=True)
    elif apache.installed():
        apache.drop_half_enabled()
        for kind in ("site", "conf"):
            apache.disable(kind, "jupyter-remote")
        if not apache.configtest():
            apache.disable_unneeded_modules()
    if apache.installed() and apache.running() and not apache.configtest():
        apache.reload()
    if systemd.running():
        systemd.daemon_reload()
