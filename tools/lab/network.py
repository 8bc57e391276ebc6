"""One bridge for all boxes, and a network namespace with one address for each."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from jupyter_remote.run import EX_TEMPFAIL, die, run
from lab import cache, host

BRIDGE = "jrlab0"
SUBNET = IPv4Network("10.77.0.0/24")
GATEWAY = str(SUBNET[1])
NAMESPACES = "jrlab-"
# Without one of its own a bridge takes its lowest port's address, a new one whenever a box comes or goes;
# and the other boxes go on sending to the old one until a connection of theirs has timed out.
BRIDGE_MAC = "02:6a:72:00:00:01"


def ensure_bridge() -> None:
    """The bridge that joins this machine and its boxes. Nothing is forwarded to anywhere else."""
    host.require("ip")
    with cache.locked(Path("/run/lock") / BRIDGE):
        if not Path(f"/sys/class/net/{BRIDGE}").exists():
            run("ip", "link", "add", BRIDGE, "type", "bridge")
            run("ip", "addr", "add", f"{GATEWAY}/{SUBNET.prefixlen}", "dev", BRIDGE)
            run("ip", "link", "set", BRIDGE, "up")
        if Path(f"/sys/class/net/{BRIDGE}/address").read_text().strip() != BRIDGE_MAC:
            run("ip", "link", "set", BRIDGE, "address", BRIDGE_MAC)


@dataclass(frozen=True)
class Address:
    """A place on the bridge: the namespace ``jrlab-N`` with the address ``10.77.0.N``."""

    number: int

    @property
    def ip(self) -> str:
        return str(SUBNET[self.number])

    @property
    def namespace(self) -> str:
        return f"{NAMESPACES}{self.number}"

    @property
    def _link(self) -> str:
        return f"jrlab-v{self.number}"

    @property
    def _mac(self) -> str:
        # one per IP address: this machine still knows the last user's for a minute
        return f"02:6a:72:00:00:{self.number:02x}"


def claim() -> Address:
    """A free address with its network namespace, joined to the bridge. :func:`release` gives it back.

    :raises Mistake: all addresses are taken.
    """
    ensure_bridge()
    with cache.locked(Path("/run/lock") / BRIDGE):
        taken = {path.name for path in Path("/run/netns").glob(f"{NAMESPACES}*")}
        free = (Address(number) for number in range(10, SUBNET.num_addresses - 1))
        address = next((address for address in free if address.namespace not in taken), None)
        if address is None:
            die("all addresses of the lab's network are taken", hint="tools/box list", code=EX_TEMPFAIL)
        run("ip", "netns", "add", address.namespace)
    # a namespace that is being torn down keeps its link for a moment
    run("ip", "link", "del", address._link, check=False)
    peer = ("peer", "name", "host0", "address", address._mac, "netns", address.namespace)
    run("ip", "link", "add", address._link, "type", "veth", *peer)
    run("ip", "link", "set", address._link, "master", BRIDGE, "up")
    connect(address)
    return address


def connect(address: Address) -> None:
    """Give the namespace's end of the link its address; again after whoever used it took it down."""
    # No IPv6: an address that the kernel makes up comes seconds later, and Chromium then gives up whatever
    # it is loading (ERR_NETWORK_CHANGED).
    batch = (
        f"addr replace {address.ip}/{SUBNET.prefixlen} dev host0\n"
        "link set host0 addrgenmode none\nlink set lo up\nlink set host0 up\n"
    )
    run("ip", "-n", address.namespace, "-batch", "-", input=batch)


def disconnect(address: Address) -> None:
    """Take the namespace's end of the link down, until :func:`connect`."""
    run("ip", "-n", address.namespace, "link", "set", "host0", "down")


def release(address: Address) -> None:
    """Take the namespace and its link away."""
    run("ip", "link", "del", address._link, check=False)
    run("ip", "netns", "del", address.namespace, check=False)


@contextmanager
def visiting() -> Iterator[Address]:
    """A place on the bridge for a program that visits boxes from outside, as from another machine.

    It sees its own link and no other: those of boxes that come and go are none of its business.
    """
    address = claim()
    try:
        # The link's last change of state comes up to a second after `up`, on a busy machine later.
        while "UP" not in run("ip", "-n", address.namespace, "-brief", "link", "show", "host0").stdout.split():
            time.sleep(0.05)
        yield address
    finally:
        release(address)


def inside(address: Address, *argv: str) -> list[str]:
    """The command that runs *argv* with the network of *address* and everything else of this machine."""
    return ["nsenter", f"--net=/run/netns/{address.namespace}", *argv]


@contextmanager
def entered(address: Address) -> Iterator[None]:
    """Sockets that this thread opens in the block are in the namespace of *address*, and stay there.

    :raises OSError: we are not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newnet = 0x40000000  # os.setns is there from Python 3.12 on

    def go(namespace: int) -> None:
        if libc.setns(namespace, clone_newnet):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    own, there = (
        os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", f"/run/netns/{address.namespace}")
    )
    try:
        go(there)
        yield
    finally:
        go(own)
        os.close(own)
        os.close(there)
