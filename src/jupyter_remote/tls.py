"""Certificates: our own for a machine without one, and copies of the administrator's own.

Apache always reads the same two files, ``tls/server.crt`` and ``tls/server.key``. So no path that a
person typed ever stands in Apache's configuration, and a pair is checked before Apache sees it.

Our own certificate is signed by a CA of this machine alone, which a laptop can be told to trust. The
CA may sign only for this machine's names and for private addresses (RFC 5280 name constraints): if it
is ever stolen, nobody can use it against the laptop's other connections.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import math
import socket
import ssl
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .run import ProcessFailed, die, run

#: Days. Apple's limit for certificates of private CAs is 825, Mozilla's profile says 366; the daily `apply` renews
#: long before.
_LEAF_DAYS = 365
_RENEW_SECONDS = 60 * 86400
_CA_DAYS = 3650

#: How our own authorities' names begin. Apache's site looks for it too.
OWN_AUTHORITY = "jupyter-remote on "

#: A machine's own address may change within these without a new CA (RFC 1918, 3927, 4193, 4291).
_PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8",
    "fc00::/7", "fe80::/10", "::1/128",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A certificate (with its chain) and its private key, PEM."""

    certificate: str
    key: str


def existing(certificate: Path, key: Path) -> Pair:
    """An administrator's pair, checked.

    :raises Mistake: a file is missing, is no PEM, has a passphrase, is expired, or the two do not match.
    """
    texts = []
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            texts.append(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            die(
                f"The {name} {path} is not there.",
                hint=f"Set the right path: sudo jupyter-remote config set tls.{name} PATH",
            )
        except OSError as error:
            die(f"The {name} {path} cannot be read: {error.strerror}.", hint=f"Look at it: sudo ls -l {path}")
        except UnicodeDecodeError:
            die(
                f"The {name} {path} is not PEM text.",
                hint=f"Convert it: openssl {'x509' if name == 'certificate' else 'pkey'} "
                f"-inform DER -in {path} -out {path}.pem",
            )
    pair = Pair(*texts)
    try:
        public = run("openssl", "x509", "-noout", "-pubkey", input=pair.certificate).stdout
    except ProcessFailed:
        die(
            f"{certificate} is not a certificate in PEM.",
            hint="It should begin with -----BEGIN CERTIFICATE-----",
        )
    try:
        of_key = run("openssl", "pkey", "-pubout", "-passin", "pass:", input=pair.key).stdout
    except ProcessFailed:
        die(
            f"{key} is not a private key that can be used: no PEM, or with a passphrase.",
            hint=f"Take the passphrase off: openssl pkey -in {key} -out {key}.open && chmod 600 {key}.open",
        )
    if public != of_key:
        die(
            f"The key {key} does not belong to the certificate {certificate}.",
            hint="Set the right two: sudo jupyter-remote config set tls.certificate A tls.key B",
        )
    if run("openssl", "x509", "-noout", "-checkend", "0", input=pair.certificate, check=False).returncode:
        ended = run("openssl", "x509", "-noout", "-enddate", input=pair.certificate).stdout.partition("=")[2].strip()
        die(
            f"The certificate {certificate} expired on {ended}.",
            hint="Renew it, then: sudo jupyter-remote apply",
        )
    return pair


def self_signed(directory: Path, names: Sequence[str], addresses: Sequence[str]) -> Pair:
    """Our own pair for these names and addresses; made, renewed, or the one that is there.

    :param directory: root's alone; holds CA and certificate from one call to the next.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = {"names": sorted(names), "addresses": sorted(addresses)}
    ranges = sorted({*_PRIVATE, *(_host_range(address) for address in addresses if not _is_private(address))})
    scope = {"names": wanted["names"], "ranges": ranges}
    record = directory / "made-for.json"
    try:
        made = json.loads(record.read_text())
    except (OSError, ValueError):
        made = {}
    ca_kept = made.get("scope") == scope and _lasts(directory / "ca.crt")
    if not ca_kept:
        _make_ca(directory, names, ranges)
    if not (ca_kept and made.get("wanted") == wanted and _lasts(directory / "leaf.crt")):
        _make_leaf(directory, names, addresses)
        _write(record, json.dumps({"wanted": wanted, "scope": scope}, indent=1))
    leaf = (directory / "leaf.crt").read_text()
    return Pair(leaf, (directory / "leaf.key").read_text())


def ca_certificate(directory: Path) -> str:
    """The certificate that a browser can be told to trust, PEM."""
    return (directory / "ca.crt").read_text()


def is_trusted(certificate: Path, name: str) -> bool:
    """Whether programs on this machine would trust it, with the chain that is in its file, for that name."""
    return not run(
        "openssl", "verify", "-verify_hostname", name, "-untrusted", certificate, certificate, check=False
    ).returncode


@dataclass(frozen=True)
class Served:
    """A certificate as visitors get it. *problem* is why this machine does not trust it, *code* OpenSSL's number."""

    certificate: str
    problem: str
    code: int


def served(name: str, address: str = "127.0.0.1", port: int = 443) -> Served | None:
    """What Apache shows to a browser that calls this machine by that name; None when it shows nothing."""
    problem, code = "", 0
    try:
        with contextlib.closing(handshake(name, address, port, ssl.create_default_context())):
            pass
    except ssl.SSLCertVerificationError as refused:
        problem, code = refused.verify_message, refused.verify_code
    except OSError:
        return None
    try:
        with contextlib.closing(handshake(name, address, port, unverified())) as connection:
            shown = connection.getpeercert(binary_form=True)
    except OSError:
        return None
    return Served(ssl.DER_cert_to_PEM_cert(shown), problem, code) if shown else None


def unverified() -> ssl.SSLContext:
    """For a connection to this machine itself, where whether its certificate can be trusted is not the question."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def handshake(name: str, address: str, port: int, context: ssl.SSLContext, seconds: float = 5) -> ssl.SSLSocket:
    """A connection to *address* that asks for *name*.

    :raises OSError: nobody answers within *seconds*, or not with TLS that *context* takes.
    """
    plain = socket.create_connection((address, port), timeout=seconds)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def is_for(certificate: str, name: str) -> bool:
    """Whether a certificate is for that host name."""
    said = run("openssl", "x509", "-noout", "-checkhost", name, input=certificate, check=False).stdout
    return "does match" in said


def issuer(certificate: str) -> str:
    """Who has signed it, by the short name in it."""
    said = run("openssl", "x509", "-noout", "-issuer", "-nameopt", "multiline,utf8,-esc_msb", input=certificate).stdout
    fields = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    text = named.get("organizationName") or named.get("commonName") or "somebody"
    return "".join(char for char in text if char.isprintable())[:80]


def expiry(certificate: str) -> str:
    """When a certificate ends, in openssl's words."""
    return run("openssl", "x509", "-noout", "-enddate", input=certificate).stdout.partition("=")[2].strip()


def days_left(certificate: str) -> int:
    """Whole days until a certificate ends; negative when it has."""
    return math.floor((ssl.cert_time_to_seconds(expiry(certificate)) - time.time()) / 86400)


def fingerprint(certificate: str) -> str:
    """SHA-256 fingerprint, as browsers show it."""
    return (
        run("openssl", "x509", "-noout", "-fingerprint", "-sha256", input=certificate).stdout.partition("=")[2].strip()
    )


def _lasts(certificate: Path) -> bool:
    return (
        certificate.is_file()
        and not run(
            "openssl", "x509", "-noout", "-checkend", str(_RENEW_SECONDS), "-in", certificate, check=False
        ).returncode
    )


def _is_private(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(
        parsed in ipaddress.ip_network(net) for net in _PRIVATE if ipaddress.ip_network(net).version == parsed.version
    )


def _host_range(address: str) -> str:
    return str(ipaddress.ip_network(address))


def _make_ca(directory: Path, names: Sequence[str], ranges: Sequence[str]) -> None:
    permitted = [f"permitted;DNS.{n}={name}" for n, name in enumerate(names)]
    for n, text in enumerate(ranges):
        network = ipaddress.ip_network(text)
        permitted.append(f"permitted;IP.{n}={network.network_address}/{network.netmask}")
    key = run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256").stdout
    _write(directory / "ca.key", key)
    config = "\n".join(
        (
            "[req]", "distinguished_name=dn", "prompt=no", "x509_extensions=ext",
            "[dn]", f"CN={OWN_AUTHORITY}{names[0][:40]}",
            "[ext]", "basicConstraints=critical,CA:true,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign",
            "subjectKeyIdentifier=hash", "nameConstraints=critical,@permitted",
            "[permitted]", *permitted, "",
        )
    )  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as file:
        file.write(config)
        file.flush()
        made = run(
            "openssl", "req", "-x509", "-new", "-key", directory / "ca.key", "-sha256",
            "-days", str(_CA_DAYS), "-config", file.name,
        ).stdout  # fmt: skip
    _write(directory / "ca.crt", made)


def _make_leaf(directory: Path, names: Sequence[str], addresses: Sequence[str]) -> None:
    alternatives = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
    key = run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256").stdout
    _write(directory / "leaf.key", key)
    request = run(
        "openssl", "req", "-new", "-key", directory / "leaf.key", "-subj", f"/CN={names[0][:60]}"
    ).stdout  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as file:
        file.write(
            "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            f"subjectAltName={','.join(alternatives)}\n"
        )
        file.flush()
        # A random serial number: no counter file to keep, and a browser never sees one twice from this CA.
        serial = "0x" + run("openssl", "rand", "-hex", "16").stdout.strip()
        made = run(
            "openssl", "x509", "-req", "-CA", directory / "ca.crt", "-CAkey", directory / "ca.key",
            "-set_serial", serial, "-days", str(_LEAF_DAYS), "-sha256", "-extfile", file.name,
            input=request,
        ).stdout  # fmt: skip
    _write(directory / "leaf.crt", made)


def _write(path: Path, text: str) -> None:
    # A private key must not be readable even for the moment between creation and chmod.
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_text(text)
    temporary.replace(path)
