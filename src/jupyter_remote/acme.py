"""Certificates that Apache gets by itself from a certificate authority (ACME, RFC 8555), with its mod_md.

Apache asks, proves the name, and keeps the result below ``/etc/apache2/md``; here is what we know of that
store: what is asked for, how it goes, what is ready. mod_md's files are JSON that it documents nowhere; the
keys that are read here are those of 2.4.68 (modules/md/md_status.c, md_result.c).
"""

from __future__ import annotations

import email.utils
import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import paths
from .run import Finding, Mistake
from .settings import Settings, is_public_name
from .tls import existing

#: RFC 8555 6.7; the part after it is the kind of problem.
_ACME_ERROR = "urn:ietf:params:acme:error:"
#: Where certbot keeps what is in use: links, changed at each renewal.
_CERTBOT = Path("/etc/letsencrypt/live")
#: X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL.
NOT_YET_VALID, EXPIRED = 9, 10
CLOCK_HINT = "Set the clock: timedatectl; sudo timedatectl set-ntp true — then: sudo jupyter-remote apply"
_AGAIN = "then: sudo jupyter-remote apply"


def names(settings: Settings) -> list[str]:
    """What the certificate is for: the public name, and those aliases that can be public too."""
    return list(dict.fromkeys([settings.server_name, *filter(is_public_name, settings.server_aliases)]))


def contact(settings: Settings) -> str:
    """Where the authority may write to. (mod_md asks for nothing without an address.)"""
    return settings.tls_acme_email or f"root@{settings.server_name}"


def certbots(settings: Settings) -> tuple[Path, Path] | None:
    """Certbot's certificate and key for the public name, when it looks after a pair that can be used."""
    pair = certbots_files(settings)
    try:
        existing(*pair)
    except Mistake:
        return None
    return pair


def certbots_files(settings: Settings) -> tuple[Path, Path]:
    """Where certbot would have certificate and key for the public name."""
    directory = _CERTBOT / settings.server_name
    return directory / "fullchain.pem", directory / "privkey.pem"


@dataclass(frozen=True)
class Job:
    """How it stands with asking: mod_md's ``job.json``. *problem* is empty, an ACME error's URN, or mod_md's own."""

    finished: bool = False
    errors: int = 0
    problem: str = ""
    detail: str = ""
    next_run: float = 0
    valid_from: float = 0


def job(name: str) -> Job:
    """What mod_md has written about the certificate that it is getting; without a job, an empty one.

    :raises PermissionError: only root may know.
    """
    said = _json(staging(name) / "job.json")
    last = said.get("last")
    last = last if isinstance(last, dict) else {}
    errors = said.get("errors")
    return Job(
        finished=said.get("finished") is True,
        errors=errors if isinstance(errors, int) else 0,
        problem=_line(last.get("problem")),
        detail=_line(last.get("detail")),
        next_run=_time(said.get("next-run")),
        valid_from=_time(said.get("valid-from")),
    )


def staging(name: str) -> Path:
    """Where mod_md's workers put what they get, until a reload of Apache moves it to where it is used."""
    return paths.MD_STORE / "staging" / name


def is_ready(name: str) -> bool:
    """Whether a new certificate waits for a reload of Apache."""
    one = job(name)
    return one.finished and one.valid_from <= time.time() and any(staging(name).glob("pubcert*.pem"))


def is_under_way(name: str) -> bool:
    """Whether Apache is getting a certificate at this moment, and has not failed yet."""
    one = job(name)
    return (staging(name) / "job.json").exists() and not one.finished and not one.errors


def start_over(name: str) -> None:
    """Let mod_md forget that it has failed: with the next reload of Apache it asks at once, not when it would have."""
    directory = staging(name)
    if directory.is_symlink():  # as in _json
        return
    for path in _listed(directory):
        path.unlink(missing_ok=True)


def certificate(name: str) -> Path | None:
    """The certificate that Apache has got and uses.

    :raises PermissionError: only root may know.
    """
    directory = paths.MD_STORE / "domains" / name
    return next(iter(sorted(found for found in _listed(directory) if found.name.startswith("pubcert"))), None)


def is_younger(name: str, seconds: float) -> bool:
    """Whether Apache has begun to use its certificate within the last *seconds*."""
    found = certificate(name)
    return found is not None and time.time() - found.stat().st_mtime < seconds


def is_from_another(settings: Settings) -> bool:
    """Whether what Apache uses is from another authority than the one that the settings name.

    mod_md by itself would keep it until it ends.
    """
    found = _json(paths.MD_STORE / "domains" / settings.server_name / "md.json").get("ca")
    url = found.get("url") if isinstance(found, dict) else None
    return bool(url and url != settings.tls_acme_directory and certificate(settings.server_name))


def _listed(directory: Path) -> list[Path]:
    # glob() passes over what may not be read.
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _json(path: Path) -> dict[str, Any]:
    # Apache's workers write here: nothing that they could link to is followed.
    try:
        text = "" if path.is_symlink() else path.read_text(encoding="utf-8", errors="replace")
        said = json.loads(text)
    except PermissionError:
        raise
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _line(text: object) -> str:
    """Another's words, for a terminal: one line, no control characters, not too many."""
    printable = "".join(char if char.isprintable() else " " for char in text) if isinstance(text, str) else ""
    return " ".join(printable.split())[:500]


def _time(text: object) -> float:
    """An RFC 822 date in seconds since 1970; 0 for what is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if isinstance(text, str) else 0
    except ValueError:
        return 0


# --- what is wrong, and what to do ------------------------------------------------------------------

#: mod_md's words for a challenge that the authority was not content with.
_NOT_PROVED = "Error waiting on domain names to be validated"
#: And for that Apache listens neither here nor there.
_NO_WAY = "None of the ACME challenge methods"
_UNREACHABLE = "Unsuccessful in contacting ACME server"
_PROBLEMS = {
    "dns": (
        "The authority does not find {name} in the DNS.",
        "Let {name} point to this machine (an A or AAAA record), look: getent ahosts {name} — {again}",
    ),
    "connection": (
        "The authority does not reach this machine as {name}.",
        "Open ports 80 and 443 to everybody (firewall, router), and see that {name} is this machine's address: "
        "getent ahosts {name}. Only port 443 can be opened? Take 'Listen 80' out of /etc/apache2/ports.conf — {again}",
    ),
    "unauthorized": (
        "Something else answers as {name}, and not this Apache.",
        "See that {name} is this machine's address, and no other machine's too: getent ahosts {name} — {again}",
    ),
    "rateLimited": (
        "The authority has been asked too often.",
        "Wait; Apache asks again by itself. For trials: "
        "sudo jupyter-remote config set tls.acme_directory https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
    "caa": (
        "The DNS says that this authority may not give certificates for {name} (CAA).",
        "Change the CAA record of {name}, or tls.acme_directory — {again}",
    ),
    "rejectedIdentifier": (
        "The authority gives no certificate for {names}.",
        "Use a public name of yours: sudo jupyter-remote config set server_name NAME",
    ),
    "invalidContact": (
        "The authority does not take the address {contact}.",
        "Give it another: sudo jupyter-remote config set tls.acme_email NAME@EXAMPLE.ORG",
    ),
    "externalAccountRequired": (
        "The authority wants an account that was made elsewhere, which is not supported.",
        "Take another: sudo jupyter-remote config unset tls.acme_directory",
    ),
    "userActionRequired": (
        "The authority wants you to do something.",
        "Do what it says — {again}",
    ),
    _NOT_PROVED: (
        "The authority does not see that this machine is {name}.",
        "See that {name} is this machine's address (getent ahosts {name}), and that ports 80 and 443 are open to "
        "everybody; what it said is in /var/log/apache2/error.log — {again}",
    ),
    "serverInternal": (
        "The authority has trouble of its own.",
        "Wait; Apache asks again by itself.",
    ),
    "challenge-mismatch": (
        "Apache does not listen where the authority would come to see that it is {name}.",
        "Does it listen on ports 80 and 443, or on 443 at least? /etc/apache2/ports.conf — {again}",
    ),
}
_SAME = {
    "incorrectResponse": "unauthorized", "tls": "connection", "unsupportedIdentifier": "rejectedIdentifier",
    "unsupportedContact": "invalidContact", "challenge-setup-failure": "challenge-mismatch",
}  # fmt: skip


#: In Apache's log, when an authority has found something wrong; in job.json its words are missing then.
_LOG = Path("/var/log/apache2/error.log")
_LOG_TAIL = 256 << 10


def _said_in_the_log(name: str) -> tuple[str, str]:
    """The last problem, and its detail, that an authority had with proving that name; empty texts when not found.

    mod_md tells of a failed challenge by "Exact response was:" and the authorization (RFC 8555 7.1.4).
    """
    try:
        with _LOG.open("rb") as file:
            file.seek(max(0, _LOG.stat().st_size - _LOG_TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "", ""
    for line in reversed(lines):
        head, _, response = line.partition("Exact response was: ")
        if response and f" for {name} at " in head:
            return _error_in(response.replace("\\\\", "\\"))  # as it was before it was written to a log
    return "", ""


def _error_in(authorization: str) -> tuple[str, str]:
    try:
        said, _ = json.JSONDecoder().raw_decode(authorization)
        errors = [challenge["error"] for challenge in said["challenges"] if challenge.get("error")]
        return _line(errors[0]["type"]), _line(errors[0].get("detail"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", ""


def finding(settings: Settings) -> Finding | None:
    """Why there is no new certificate, and what to do.

    :raises PermissionError: only root may know.
    """
    name = settings.server_name
    one = job(name)
    if not one.errors:
        return None
    problem, detail = one.problem, one.detail
    if not problem and detail == _NOT_PROVED:
        problem, detail = _said_in_the_log(name)
        problem = problem or _NOT_PROVED
    kind = problem.removeprefix(_ACME_ERROR)
    kind = _SAME.get(kind, kind)
    if kind == "connection" and "resolv" in detail:
        kind = "dns"
    elif detail.startswith(_NO_WAY):
        kind = "challenge-mismatch"
    if kind in _PROBLEMS:
        what, hint = _PROBLEMS[kind]
    elif unreachable := probe(settings.tls_acme_directory):
        return Finding(f"{unreachable.what} {_next(one)}", unreachable.hint)
    elif detail.startswith(_UNREACHABLE):
        what, detail = "The authority could not be reached, and can be now.", ""
        hint = "Apache asks again by itself. At once: sudo jupyter-remote apply"
    else:
        what = "Apache has not got the certificate."
        hint = f"See what it says, and try again: sudo tail /var/log/apache2/error.log — {_AGAIN}"
    values = {"name": name, "names": ", ".join(names(settings)), "contact": contact(settings), "again": _AGAIN}
    return Finding(
        " ".join(
            filter(None, (what.format_map(values), f"It said: {detail.rstrip('.')}." if detail else "", _next(one)))
        ),
        hint.format_map(values),
    )


def _next(one: Job) -> str:
    if one.next_run <= time.time():
        return ""
    return f"Apache asks again at {time.strftime('%Y-%m-%d %H:%M', time.localtime(one.next_run))}."


def probe(directory: str, patience: float = 5) -> Finding | None:
    """Ask for an authority's directory, as Apache does: why it cannot be had, or None.

    :param patience: seconds.
    """
    where = urlsplit(directory)
    host = where.hostname or ""
    here = time.strftime("%Y-%m-%d %H:%M")
    try:
        connection = http.client.HTTPSConnection(
            host, where.port or 443, timeout=patience, context=ssl.create_default_context()
        )
        try:
            connection.request("GET", where.path or "/")
            response = connection.getresponse()
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as refused:
        if refused.verify_code in (NOT_YET_VALID, EXPIRED):
            return Finding(
                f"The clock of this machine is wrong, or the authority's: at {here} the certificate of {host} is "
                f"{'not valid yet' if refused.verify_code == NOT_YET_VALID else 'not valid any more'}.",
                CLOCK_HINT,
            )
        return Finding(
            f"This machine does not trust the authority's own certificate at {host}: {refused.verify_message}.",
            "sudo apt install --reinstall ca-certificates. An authority of your own: its root certificate belongs in "
            f"/usr/local/share/ca-certificates (a file NAME.crt), and then: sudo update-ca-certificates — {_AGAIN}",
        )
    except socket.gaierror:
        return Finding(
            f"This machine does not find the authority, {host}, in the DNS.",
            f"See what it asks: cat /etc/resolv.conf; getent ahosts {host} — {_AGAIN}",
        )
    except (OSError, http.client.HTTPException) as error:
        return Finding(
            f"The authority at {host} cannot be reached: {error}.",
            f"It may be down: wait, Apache asks again by itself. Or a firewall keeps this machine from port "
            f"{where.port or 443} of {host}: open it — {_AGAIN}",
        )
    if response.status >= 500:
        return Finding(
            f"The authority at {host} has trouble of its own: it answers {response.status}.",
            "Wait; Apache asks again by itself.",
        )
    if response.status != 200:
        return Finding(
            f"There is no authority at {directory}: it answers {response.status}.",
            "Set the right address: sudo jupyter-remote config set tls.acme_directory URL",
        )
    return None
