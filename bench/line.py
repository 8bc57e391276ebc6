"""A line of a given speed between two network namespaces: link.c, and what it is to be."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import host
from lab.box import Box

from jupyter_remote.run import run

#: What waits in a home router, in bytes.
QUEUE = 256_000
#: The two ends; the box calls itself box.test.
THERE, HERE = "10.78.0.1", "10.78.0.2"

_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")


@dataclass(frozen=True)
class Line:
    """*rate* in bits/s, *delay* in ms there and back, *loss* in percent of all packets."""

    rate: float
    delay: float
    loss: float = 0


#: Without a line the two are joined by the lab's bridge.
LINES = {"none": None, "good": Line(20e6, 80), "lossy": Line(20e6, 80, 1), "bad": Line(1.6e6, 300)}


def address(box: Box, kind: str) -> str:
    """Where the box is at the other end of a line of that kind."""
    return THERE if LINES[kind] else box.ip


@contextmanager
def line(box: Box, laptop: str, kind: str) -> Iterator[None]:
    """A line of that kind from the namespace *laptop* to the box."""
    _pin_cubic(box.namespace, laptop)
    found = LINES[kind]
    if found is None:
        yield
        return
    host.require("gcc")
    there = box.namespace
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "link"
        run("gcc", "-O2", "-pthread", "-o", program, Path(__file__).with_name("link.c"))
        words = (there, laptop, *map(str, (found.rate, found.delay / 2, QUEUE, found.loss)))
        link = subprocess.Popen([program, *words], stdout=subprocess.PIPE, text=True)
        try:
            assert link.stdout and link.stdout.readline() == "up\n"
            for namespace, own, other in ((there, THERE, HERE), (laptop, HERE, THERE)):
                run("ip", "-n", namespace, "link", "set", "wan0", "addrgenmode", "none")
                run("ip", "-n", namespace, "addr", "add", own, "peer", other, "dev", "wan0")
                run("ip", "-n", namespace, "link", "set", "wan0", "up")
            # Chromium gives up what it is loading when links come.
            time.sleep(3)
            yield
        finally:
            link.kill()
            link.wait()


def _pin_cubic(*namespaces: str) -> None:
    """What nearly every laptop and server has; this machine may have another default, to which a loss says less.

    :raises ProcessFailed: this machine's kernel does not have it.
    """
    # A namespace may use what its machine allows everybody, and keeps it then.
    allowed = _ALLOWED.read_text()
    _ALLOWED.write_text(f"{allowed.strip()} cubic")
    try:
        for namespace in namespaces:
            run("ip", "netns", "exec", namespace, "sh", "-c", "echo cubic > /proc/sys/net/ipv4/tcp_congestion_control")
    finally:
        _ALLOWED.write_text(allowed)
