"""Settings -> the text of every file that depends on them. Pure: nothing is written here, and nothing read but what
the package has brought.

Three alphabets guard what is rendered: names and ports that :mod:`~jupyter_remote.settings` has
checked, JSON by :mod:`json`, and for a home directory (which nobody checks) systemd's own quoting.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import jinja2

from . import acme, paths
from .accounts import Account
from .machine import Machine
from .people import units
from .server import pages
from .settings import Settings, size_in_bytes

#: A part of the machine's memory is rounded down to this, in bytes: what the machine has differs a little
#: from boot to boot, and that is no reason to render anew.
_STEP = 64 << 20

#: The line of Apache's definitions with which it asks for a certificate although it has one.
ASK_ANEW = "Define JUPYTER_REMOTE_ACME_ANEW\n"

#: The key exchanges of Mozilla's intermediate profile. First the one that a quantum computer does not undo either,
#: where OpenSSL has it: Python's is Apache's.
_TLS_GROUPS = "X25519MLKEM768:" * (ssl.OPENSSL_VERSION_INFO >= (3, 5)) + "X25519:prime256v1:secp384r1"

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("jupyter_remote"),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
    # None of the files is HTML; each value is quoted for the file that it goes into.
    autoescape=False,
)


def server_names(settings: Settings, machine: Machine) -> list[str]:
    """Every name that a browser may have called us by, the public one first."""
    public = settings.server_name or machine.name
    return list(dict.fromkeys([public, *settings.server_aliases, *machine.site_names, *machine.names, "localhost"]))


def address(settings: Settings, name: str) -> str:
    """The address of the front page, as a person would type it."""
    scheme = "http" if settings.tls_mode == "none" else "https"
    return f"{scheme}://{name}{settings.base_url}"


def notebook_dir(settings: Settings, owner: Account) -> Path:
    """The absolute path of the directory that the file browser shows."""
    return in_home(settings.notebook_dir, owner)


def in_home(path: str, owner: Account) -> Path:
    """The absolute path of what a setting calls ``~/…``, or absolutely."""
    return owner.home / path[1:].lstrip("/") if path.startswith("~") else Path(path)


def memory_limit(settings: Settings, machine: Machine) -> int | None:
    """The bytes that one kernel may have; None without a limit, or when the machine does not say what it has."""
    wanted = settings.kernels_memory_limit
    if wanted == "none":
        return None
    if not wanted.endswith("%"):
        return size_in_bytes(wanted)
    part = machine.memory * int(wanted[:-1]) // 100
    return max(part // _STEP, 1) * _STEP if part else None


def render(settings: Settings, owner: Account, machine: Machine) -> dict[Path, str]:
    """Every file that :mod:`~jupyter_remote.apply` puts in place, with its text.

    :raises OSError: a packaged unit, of which a further person's is made, cannot be read.
    """
    server = {
        "base_url": settings.base_url,
        "notebook_dir": str(notebook_dir(settings, owner)),
        "interface": settings.interface,
        "server_names": server_names(settings, machine),
        "behind_tls": settings.tls_mode != "none",
        "cull_idle": settings.kernels_cull_idle,
        "idle_stop": settings.server_idle_stop,
        "memory_limit": memory_limit(settings, machine),
        "journal_bytes": size_in_bytes(settings.kernels_journal_size),
        "environments": settings.kernels_environments,
        "default_environment": str(in_home(settings.kernels_default, owner)) if settings.kernels_default else "",
        "offer_environments": settings.kernels_without_ipykernel == "offer",
        "conda_channel": settings.conda_channel,
        "gateway_url": settings.gateway_url,
        "gateway_token_file": str(in_home(settings.gateway_token_file, owner)) if settings.gateway_token_file else "",
        "gateway_ca_file": settings.gateway_ca_file,
    }
    place = paths.Place(settings.user)
    values = {
        "settings": settings,
        "place": place,
        "home": unit_quoted(str(owner.home)),
        "group": machine.apache_group,
        # Also when there is a port: whoever is first can have a port while we are stopped, and Apache would hand
        # them the owner's cookies. Root's directory is nobody else's.
        "backend": f"unix:{paths.HTTP_SOCKET}|http://localhost",
        "tls_groups": _TLS_GROUPS,
        "server_name": settings.server_name or machine.name,
        "acme_names": " ".join(acme.names(settings)) if machine.asks_authority else "",
        "acme_contact": acme.contact(settings),
        "acme_anew": ASK_ANEW if machine.asks_anew else "",
        "by_tls": not machine.listens_on_80,
        "hsts": machine.hsts,
        "more_workers": machine.few_workers,
        "watched": [watched for watched in map(_watchable, _watched(settings, machine)) if watched],
        "door": paths.DOOR_DIR,
        "away_page": paths.AWAY_PAGE,
        "person": paths.PERSON,
        "origin": paths.CONFIG,
    }
    server_json = {paths.SERVER_JSON: json.dumps(server, indent=2) + "\n"}
    if machine.is_slim:
        return server_json
    files = {
        **server_json,
        paths.AWAY_PAGE: pages.away(settings.server_name or machine.name),
        paths.APACHE_DEFINES: _template(f"apache-{'person' if paths.PERSON else 'defines'}.conf.j2", values),
        paths.SERVICE_DROPIN: _template("service-owner.conf.j2", values),
        paths.SOCKET_DROPIN: _template("socket-owner.conf.j2", values),
        paths.KERNEL_SERVICE_DROPIN: _template("kernel-owner.conf.j2", values),
        paths.KERNEL_SOCKET_DROPIN: _template("kernel-socket-owner.conf.j2", values),
    }
    if paths.PERSON:
        made = {
            own: units.made_of(packaged.name, packaged.read_text(), own.name)
            for own, packaged in paths.OWN_UNITS.items()
        }
        return {**files, **made}
    return {**files, paths.CERTIFICATE_DROPIN: _template("certificate-watched.conf.j2", values)}


def _watched(settings: Settings, machine: Machine) -> tuple[str, ...]:
    if machine.asks_authority:
        return (str(acme.staging(settings.server_name)),)
    return (*(machine.certificate_files or ()), *machine.certificate_links)


def _watchable(path: str) -> str:
    """*path* as a unit's PathChanged= has it, which knows no quotes; empty for the rare one that cannot be written.

    Such a file is looked at once a day.
    """
    return "" if path.endswith(("\\", " ")) or not path.isprintable() else path.replace("%", "%%")


def _template(name: str, values: dict[str, object]) -> str:
    return _environment.get_template(name).render(values)


def unit_quoted(text: str) -> str:
    """*text* as one quoted word of a unit file (systemd.syntax(7)): no specifier, no line break."""
    escaped = "".join(
        char if char.isprintable() and char not in '"\\' else "".join(f"\\x{byte:02x}" for byte in _bytes(char))
        for char in text
    )
    return '"' + escaped.replace("%", "%%") + '"'


def _bytes(char: str) -> bytes:
    # surrogateescape: a path that is no UTF-8 comes from the user database with lone surrogates in it.
    return char.encode("utf-8", "surrogateescape")
