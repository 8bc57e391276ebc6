"""Apache, the network, and the certificate: the way from a laptop to the server."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from .. import acme, apache, apply, checks, machine, paths, systemd, tls
from ..run import ProcessFailed, run
from .findings import Found, Trouble
from .patient import Patient

_WHY_CLOSED = "Nobody reaches Jupyter from another machine."
_AGAIN = " — then: sudo jupyter-remote apply"

APACHE_MISSING = Trouble("apache-missing", "Apache is not installed.", _WHY_CLOSED, f"sudo apt install apache2{_AGAIN}")
APACHE_BROKEN = Trouble(
    "apache-broken",
    "Apache's configuration has an error: {where}",
    "The running Apache goes on with the old one; at its next restart no site of this machine is there.",
    "Mend it, and check: sudo apache2ctl configtest" + _AGAIN,
)
APACHE_MASKED = Trouble(
    "apache-masked", "Apache is masked.", _WHY_CLOSED, "sudo systemctl unmask apache2 && sudo systemctl start apache2"
)
APACHE_DOWN = Trouble("apache-down", "Apache is not running.", _WHY_CLOSED, mend="systemctl start apache2")
APACHE_DISABLED = Trouble(
    "apache-disabled",
    "Apache does not start at boot.",
    "After the next reboot nobody reaches Jupyter.",
    "sudo systemctl enable apache2",
    may_wait=True,
)
MODULE_OFF = Trouble(
    "module-off",
    "The Apache module {module} is needed, and off.",
    "Without it our configuration does nothing.",
    f"sudo a2enmod {{module}}{_AGAIN}",
)
CONF_OFF = Trouble(
    "conf-off",
    "Apache's {kind} jupyter-remote is switched off.",
    _WHY_CLOSED,
    f"sudo a2en{{kind}} jupyter-remote{_AGAIN}",
)
PATH_TAKEN = Trouble(
    "path-taken",
    "{base_url} is used by another site of this Apache: {where}",
    "A browser gets that in place of Jupyter, or of a part of it.",
    "Take it out there, or move: sudo jupyter-remote config set base_url /lab",
)
PREFORK = Trouble(
    "prefork",
    "Apache uses a process for each connection (mpm_prefork).",
    "Pages come without HTTP/2, and a few dozen open tabs leave no process for other sites.",
    "If no module of yours needs it (mod_php does: php-fpm does not): "
    "sudo a2dismod mpm_prefork && sudo a2enmod mpm_event && sudo systemctl restart apache2",
    may_wait=True,
)
FEW_WORKERS = Trouble(
    "few-workers",
    "Apache answers {workers} requests at once.",
    "Each open websocket holds one, about four a tab: a few tabs leave none to any site.",
    "Raise MaxRequestWorkers ({where}), and: sudo systemctl restart apache2",
    may_wait=True,
)
PORT_TAKEN = Trouble(
    "port-taken",
    "Port {port} belongs to {who}, not to Apache.",
    _WHY_CLOSED,
    f"Stop it, or let it use another port; then: sudo systemctl restart apache2{_AGAIN}",
)
PORT_CLOSED = Trouble(
    "port-closed",
    "Nobody answers on port {port} of {address}: {reason}.",
    _WHY_CLOSED,
    "See where Apache listens: sudo ss -ltnp 'sport = :{port}' — and that ports.conf says: Listen {port}",
)
FIREWALL = Trouble(
    "firewall",
    "The firewall ({program}) lets nobody in on port {port}.",
    _WHY_CLOSED,
    "{open}",
)
NAME_UNKNOWN = Trouble(
    "name-unknown",
    "{name} is the name of no machine: {reason}.",
    "A browser that is told this address does not find it.",
    "Give it that name where names are given out (DNS, your router), or use one that it has: "
    "sudo jupyter-remote config set server_name NAME",
)
NAME_ELSEWHERE = Trouble(
    "name-elsewhere",
    "{name} is {addresses}, which is not an address of this machine ({own}).",
    "Right behind a router or a cloud's address translation, which must hand on port 443; else browsers go astray.",
    "From another machine: curl -kI https://{name}{base_url}/api — if that is not Jupyter, mend the name or the router",
    may_wait=True,
)
NO_REDIRECT = Trouble(
    "no-redirect",
    "http://{name}{base_url} does not lead to https: it answers {status}.",
    "Who types the address without https:// gets nothing, or the login page of nobody.",
    mend="jupyter-remote apply",
    may_wait=True,
)
NO_CERTIFICATE = Trouble(
    "no-certificate",
    "Apache does not speak https on port 443: {reason}.",
    "Browsers show an error in place of the page.",
    mend="jupyter-remote apply",
)
CERTIFICATE_EXPIRED = Trouble(
    "certificate-expired", "The certificate has ended on {ends}.", "Browsers refuse the page.", "{how}"
)
CERTIFICATE_EARLY = Trouble(
    "certificate-early",
    "The certificate is not valid yet by this machine's clock.",
    "If browsers say so too they refuse the page; else the clock is wrong.",
    acme.CLOCK_HINT,
)
CERTIFICATE_ENDS = Trouble(
    "certificate-ends",
    "The certificate ends in {days} days, on {ends}.",
    "From then on browsers refuse the page.",
    "{how}",
    may_wait=True,
)
CERTIFICATE_NAME = Trouble(
    "certificate-name",
    "The certificate is not for {name}.",
    "Browsers warn of an attack.",
    "Use the name that it is for: sudo jupyter-remote config set server_name NAME",
)
CERTIFICATE_CHAIN = Trouble(
    "certificate-chain",
    "This machine does not trust the certificate: {reason}.",
    "Some browsers warn. Often the file lacks the authority's intermediate certificate.",
    "Set tls.certificate to the file with the whole chain (fullchain.pem)",
    may_wait=True,
)
CERTIFICATE_WAITS = Trouble(
    "certificate-waits",
    "The certificate that was asked for is not there. {what}",
    "Until then browsers warn.",
    "{hint}",
)

#: days
_SOON = 14


def program(patient: Patient) -> Iterator[Found]:
    """Apache itself and its configuration."""
    if not apache.installed():
        yield APACHE_MISSING()
        return
    if patient.is_root and (problem := apache.configtest()):
        yield APACHE_BROKEN(where=problem)
        return
    if apache.masked():
        yield APACHE_MASKED()
    elif not apache.running():
        for port in (80, 443):
            who = checks.listener(port)
            if who and not who.startswith("apache2"):
                yield PORT_TAKEN(port=port, who=who)
                return
        yield APACHE_DOWN()
    elif systemd.running() and systemd.is_disabled("apache2.service"):
        yield APACHE_DISABLED()


def configuration(patient: Patient) -> Iterator[Found]:
    """What of it is switched on."""
    if not patient.apache:
        return
    for module in apply.needed_modules(patient.settings, patient.machine):
        if not apache.is_enabled("mod", module):
            yield MODULE_OFF(module=module)
    own_site = apply.wants_own_site(patient.settings, patient.apache)
    for kind in ("conf", *(["site"] if own_site else [])):
        if not apache.is_enabled(kind, "jupyter-remote"):
            yield CONF_OFF(kind=kind)
    for where in apache.users_of(patient.settings.base_url, patient.apache)[:1]:
        yield PATH_TAKEN(base_url=patient.settings.base_url, where=where)
    if "mpm_prefork" in apache.enabled_modules():
        yield PREFORK()
    else:
        set_here = [one for one in patient.apache if one.name.lower() == "maxrequestworkers"]
        if set_here and set_here[-1].arguments.isdigit() and int(set_here[-1].arguments) < 100:
            yield FEW_WORKERS(workers=set_here[-1].arguments, where=set_here[-1])


def doors(patient: Patient) -> Iterator[Found]:
    """Ports, from each address that others use, and what may stand before them."""
    port = 443 if patient.does_https else 80
    addresses = (patient.machine.addresses if patient.does_https else ()) or ("127.0.0.1",)
    closed = {}
    for address in addresses:
        try:
            with closing(socket.create_connection((address, port), 5)):
                pass
        except OSError as error:
            closed[address] = error.strerror or str(error)
    # An administrator may have chosen some of them.
    if len(closed) == len(addresses):
        yield PORT_CLOSED(port=port, address=addresses[0], reason=closed[addresses[0]])
    if patient.is_root and patient.does_https:
        yield from _firewalls(port)


def unseen(patient: Patient) -> Iterator[str]:
    """What may keep browsers out and cannot be seen from here; no finding, for nothing need be wrong."""
    firewall = machine.cloud_firewall()
    if firewall and patient.does_https:
        yield (
            f"From here nobody sees {firewall}. A page that opens here and not on your laptop is held up there: "
            "let TCP 443 and 80 in."
        )


def _firewalls(port: int) -> Iterator[Found]:
    said = _said("ufw", "status")
    if "Status: active" in said:
        # A rule is for a port, or an application's profile.
        if not re.search(
            rf"^(\S*\b{port}\b\S*|Apache (Full|Secure)|WWW (Full|Secure)|https)\s.*ALLOW", said, re.MULTILINE
        ):
            yield FIREWALL(program="ufw", port=port, open="sudo ufw allow https")
        return
    ruleset = _said("nft", "list", "ruleset") or _said("iptables", "-S", "INPUT")
    shut = re.search(r"hook input [^\n]*policy drop|^-P INPUT DROP", ruleset, re.MULTILINE)
    if shut and not re.search(rf"\b({port}|https)\b", ruleset):
        nft = "hook input" in ruleset
        rule = (
            f"sudo nft insert rule inet filter input tcp dport {port} accept — and in /etc/nftables.conf, for good"
            if nft
            else f"sudo iptables -I INPUT -p tcp --dport {port} -j ACCEPT"
        )
        yield FIREWALL(program="nftables" if nft else "iptables", port=port, open=rule)


def _said(*argv: str) -> str:
    try:
        return run(*argv, check=False).stdout
    except ProcessFailed:
        return ""


def name(patient: Patient) -> Iterator[Found]:
    """Whether others find this machine by its name."""
    if not patient.settings.server_name:
        # Nobody has said that it has one; it is one of this machine's own.
        return
    wanted = patient.settings.server_name
    try:
        answers = {str(info[4][0]) for info in socket.getaddrinfo(wanted, 443, type=socket.SOCK_STREAM)}
    except OSError as error:
        yield NAME_UNKNOWN(name=wanted, reason=error.strerror or error)
        return
    own = {*patient.machine.addresses, "127.0.0.1", "127.0.1.1", "::1"}
    if not answers & own:
        yield NAME_ELSEWHERE(
            name=wanted,
            addresses=", ".join(sorted(answers)),
            own=", ".join(patient.machine.addresses),
            base_url=patient.settings.base_url,
        )


def redirect(patient: Patient) -> Iterator[Found]:
    """From http to https."""
    if not patient.does_https or not apache.listens(80, patient.apache):
        return
    try:
        answer = patient.visitor.ask("GET", "/", port=80)
    except OSError:
        return
    if not (300 <= answer.status < 400 and answer.headers.get("location", "").startswith("https://")):
        yield NO_REDIRECT(name=patient.name, base_url=patient.settings.base_url, status=answer.status)


def certificate(patient: Patient) -> Iterator[Found]:
    """What browsers are shown."""
    settings = patient.settings
    if not patient.does_https:
        return
    shown = tls.served(patient.name)
    if shown is None:
        try:
            with closing(patient.visitor.connect()):
                pass
        except OSError as error:
            yield NO_CERTIFICATE(reason=error.strerror or str(error) or "no handshake")
        return
    text = shown.certificate
    ours = tls.issuer(text).startswith(tls.OWN_AUTHORITY)
    how = {
        "acme": "sudo jupyter-remote status (it says why no new one has come)",
        "existing": "Renew it; it is taken over by itself when its file changes",
    }.get(settings.tls_mode, "sudo jupyter-remote apply")
    days = tls.days_left(text)
    if shown.code == acme.NOT_YET_VALID:
        yield CERTIFICATE_EARLY()
    elif days < 0:
        yield CERTIFICATE_EXPIRED(ends=tls.expiry(text), how=how)
    elif days < _SOON and not ours:
        yield CERTIFICATE_ENDS(days=days, ends=tls.expiry(text), how=how)
    if not tls.is_for(text, patient.name):
        yield CERTIFICATE_NAME(name=patient.name)
    elif shown.problem and not ours and days >= 0 and shown.code != acme.NOT_YET_VALID:
        yield CERTIFICATE_CHAIN(reason=shown.problem)
    if settings.tls_mode == "acme" and patient.is_root and (problem := acme.finding(settings)):
        yield CERTIFICATE_WAITS(what=problem.what, hint=problem.hint)
    elif settings.tls_mode == "existing" and patient.is_root and not Path(settings.tls_certificate).exists():
        yield CERTIFICATE_WAITS(
            what=f"{settings.tls_certificate} is not there; the old certificate serves, until {tls.expiry(text)}.",
            hint=f"Put it back, or: sudo jupyter-remote config unset tls.mode ({paths.CONFIG})",
        )
