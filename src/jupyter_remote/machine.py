"""What this machine is called and where it can be reached."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterable
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
    that an authority can come by plain http, ``hsts`` that browsers may be told to come by https alone,
    ``few_workers`` that nobody has said how many requests Apache answers at once, and ``is_slim`` that the package has
    brought neither units nor files for Apache.
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
    is_slim: bool = False

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
    return Machine(tuple(dict.fromkeys(usable)), _addresses(), memory=memory().total)


@dataclass(frozen=True)
class Memory:
    """Bytes: what there is without what firmware and the kernel keep for themselves, what is free for programs, and
    swap; 0 when it is not known."""

    total: int
    free: int
    swap: int


def memory() -> Memory:
    """The memory of this machine (proc_meminfo(5))."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        text = ""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
    return Memory(*(int(found.get(name, 0)) << 10 for name in ("MemTotal", "MemAvailable", "SwapTotal")))


@dataclass(frozen=True)
class FileSystem:
    """One that something is written to, found at *place*. Sizes are in bytes; ``inodes`` is None where files need no
    inodes of their own."""

    place: Path
    total: int
    free: int
    inodes: int | None
    read_only: bool


def file_systems(places: Iterable[Path]) -> list[FileSystem]:
    """The file systems of *places*, each once; what is not there has none."""
    found: dict[int, FileSystem] = {}
    for place in places:
        try:
            device, facts = place.stat().st_dev, os.statvfs(place)
        except OSError:
            continue
        # btrfs says that it has 0 of 0 inodes.
        inodes = facts.f_favail if facts.f_files else None
        sizes = facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize
        found.setdefault(device, FileSystem(place, *sizes, inodes, bool(facts.f_flag & os.ST_RDONLY)))
    return list(found.values())


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


#: The cloud's own firewall, which a machine cannot see: by cloud-init's name of the cloud, and by what only this
#: cloud's machines say they are (in DMI), which images without cloud-init have too (Google's for Debian).
_CLOUD_FIREWALLS = {
    ("aws", "Amazon EC2"): "the security group of the instance in Amazon EC2",
    # A laptop says "Microsoft Corporation" too.
    ("azure", None): "the network security group of the machine in Azure",
    ("digitalocean", "DigitalOcean"): "the droplet's cloud firewall at DigitalOcean",
    # A Chromebook says "Google".
    ("gce", "Google Compute Engine"): "the VPC firewall rules in Google Cloud (“Allow HTTPS traffic”)",
    ("hetzner", "Hetzner"): "the server's firewall in the Hetzner console",
    ("openstack", "OpenStack Foundation"): "the security group of the instance in OpenStack",
    ("oracle", None): "the security list of the subnet in Oracle Cloud",
    ("scaleway", "Scaleway"): "the security group of the instance at Scaleway",
    ("vultr", "Vultr"): "the firewall group of the instance at Vultr",
}
_CLOUD_ID = Path("/run/cloud-init/cloud-id")
_DMI = Path("/sys/class/dmi/id")


def cloud_firewall() -> str | None:
    """What stands before this machine in its cloud, in words; None outside of those that we know."""
    # aws-china, azure-gov
    cloud = _first_line(_CLOUD_ID).partition("-")[0]
    says = () if cloud else (_first_line(_DMI / "sys_vendor"), _first_line(_DMI / "product_name"))
    for (name, what), firewall in _CLOUD_FIREWALLS.items():
        if cloud == name or what in says:
            return firewall
    return None


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0].strip()
    except OSError:
        return ""


def has_systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()
