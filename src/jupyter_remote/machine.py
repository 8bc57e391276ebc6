"""What this machine is called and where it can be reached."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from . import settings
from .run import ProcessFailed, run


@dataclass(frozen=True)
class Machine:
    """Names without duplicates, best first; addresses as text, IPv4 first; the group that Apache runs as.

    ``site_names`` are those of the https vhosts that an administrator has made. ``memory`` is in bytes; 0 when
    it is not known. ``certificate_files`` are those that somebody else looks after, ``certificate_links`` the
    directories in which they are links (that one was replaced is seen there only), ``asks_authority`` says that
    Apache itself gets the certificate, ``asks_anew`` that it shall not wait for the old one's end, ``listens_on_80``
    that an authority can come by plain http, ``hsts`` that browsers may be told to come by https alone, and
    ``few_workers`` that nobody has said how many requests Apache answers at once.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    apache_group: str = "www-data"
    site_names: tuple[str, ...] = ()
    memory: int = 0
    certificate_files: tuple[str, str] | None = None
    certificate_links: tuple[str, ...] = ()
    asks_authority: bool = False
    asks_anew: bool = False
    listens_on_80: bool = True
    hsts: bool = False
    few_workers: bool = False

    @property
    def name(self) -> str:
        """What to call it, when no setting says so."""
        return next(iter((*self.site_names, *self.names)), "localhost")


def this() -> Machine:
    """This machine, as it is at the moment."""
    short = socket.gethostname()
    # getfqdn() returns "localhost" on a machine whose /etc/hosts lists its name behind it.
    names = [name for name in (socket.getfqdn(), short) if name.split(".")[0] != "localhost"]
    names.append(f"{short.split('.')[0]}.local")
    usable = [name.lower() for name in names if settings.is_host_name(name)]
    return Machine(tuple(dict.fromkeys(usable)), _addresses(), memory=_memory())


def _memory() -> int:
    """What this machine has, in bytes, without what firmware and the kernel keep for themselves."""
    try:
        found = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def _addresses() -> tuple[str, ...]:
    """The addresses that other machines can use: no loopback, no link-local, nothing temporary."""
    try:
        links = json.loads(run("ip", "-json", "address").stdout or "[]")
    except (ProcessFailed, ValueError):
        return ()
    found = []
    for link in links:
        for info in link.get("addr_info", []):
            if info.get("scope") == "global" and not info.get("temporary"):
                found.append(ipaddress.ip_address(info["local"]))
    return tuple(str(address) for address in sorted(set(found), key=lambda item: (item.version, int(item))))


def has_systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()
