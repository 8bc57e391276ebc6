"""A system on which no systemd runs, as in a container or on a CI runner."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import network
from lab.scratch import Scratch, scratch


@dataclass(frozen=True)
class Container:
    """A root with a network of its own."""

    inside: Scratch
    #: where it is reached from outside
    ip: str

    def sh(self, line: str, *, user: str = "root", input: str | None = None) -> str:
        """Run a shell line and return what it printed, without the last newline.

        :raises ProcessFailed: it ended with another code than 0.
        """
        return self.attempt(line, user=user, input=input, check=True).stdout.rstrip("\n")

    def attempt(
        self, line: str, *, user: str = "root", input: str | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """As :meth:`sh`, for what may fail."""
        noninteractive = {"DEBIAN_FRONTEND": "noninteractive"}
        return self.inside.run("sh", "-c", line, user=user, input=input, env=noninteractive, check=check)

    def start(self, line: str, *, user: str = "root") -> subprocess.Popen[str]:
        """Start a command that goes on; end it with :meth:`stop`."""
        return self.inside.popen("sh", "-c", f"exec {line}", user=user)

    def stop(self, process: subprocess.Popen[str]) -> int:
        """End it, as ``kill`` does; its exit code.

        :raises subprocess.TimeoutExpired: it does not end within a minute.
        """
        return self.inside.terminate(process)

    def install(self, deb: Path, preseed: Mapping[str, str] | None = None) -> str:
        """Install a package file, ``apt-get install ./x.deb``, and return what apt printed.

        :raises ProcessFailed: apt failed.
        """
        if preseed:
            lines = [f"{key.split('/')[0]} {key} string {value}\n" for key, value in preseed.items()]
            self.sh("debconf-set-selections", input="".join(lines))
        shutil.copyfile(deb, self.inside.root / "tmp" / deb.name)
        return self.sh(f"exec 2>&1; apt-get -qq update && apt-get install --yes /tmp/{deb.name}")


@contextmanager
def plain_container(suite: str) -> Iterator[Container]:
    """A container of *suite*; alice is the only person in it."""
    address = network.claim()
    try:
        with scratch(suite, "plain", network=address.namespace) as inside:
            yield Container(inside, address.ip)
    finally:
        network.release(address)
