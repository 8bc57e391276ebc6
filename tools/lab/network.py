"""One bridge for all boxes, and a network namespace with one address for each."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from jupyter_remote.run import run

from lab import cache, host

BRIDGE = "jrlab0"
SUBNET = IPv4Network("10.77.0.0/24")
GATEWAY = str(SUBNET[1])


def ensure_bridge() -> None:
    """The bridge that joins this machine and its boxes. Nothing is forwarded to anywhere else."""
    host.require("ip")
    with cache.locked(Path("/run/lock") / BRIDGE):
        if not Path(f"/sys/class/net/{BRIDGE}").exists():
            run("ip", "link", "add", BRIDGE, "type", "bridge")
            run("ip", "addr", "add", f"{GATEWAY}/{SUBNET.prefixlen}", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
