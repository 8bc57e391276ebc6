"""The cgroup of a keeper's unit, split in two: the keeper itself, and the kernel with its limit.

systemd delegates the unit's cgroup (``Delegate=``); in cgroup v2 processes may only be in its leaves.
Where nothing is delegated, or the machine's kernel offers no memory controller, there is no limit.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

#: Template of the units whose cgroup is ours to arrange.
UNIT = "jupyter-remote-kernel@"


class Memory(NamedTuple):
    """Bytes; ``killed`` counts processes that the limit has cost their life."""

    current: int
    peak: int
    limit: int | None
    killed: int


class Cgroup:
    """Where the kernel's processes live. With an empty path everything is a no-op."""

    def __init__(self, limit: int | None) -> None:
        """
        :param limit: bytes of memory that the kernel and all that it starts may have together.
        """
        self.limit = limit
        #: whether anybody counts the memory
        self.counts = False
        self._kernel = ""
        self._peak = 0
        own = _own()
        if not own:
            return
        try:
            for name in ("keeper", "kernel"):
                os.makedirs(f"{own}/{name}", exist_ok=True)
            _write(f"{own}/keeper/cgroup.procs", str(os.getpid()))
            offered = _read(f"{own}/cgroup.controllers").split()
            for controller in ("memory", "pids"):
                if controller in offered:
                    _write(f"{own}/cgroup.subtree_control", f"+{controller}")
            self._kernel = f"{own}/kernel"
            self.counts = "memory" in offered
            if not self.counts:
                return
            if limit is not None:
                _write(f"{self._kernel}/memory.max", str(limit))
                # A kernel that swaps for minutes before it dies helps nobody.
                _write(f"{self._kernel}/memory.swap.max", "0")
        except OSError as error:
            print(f"no cgroup for the kernel: {error}", flush=True)

    def enter(self) -> None:
        """Called in the kernel's process, before it becomes the kernel."""
        if self._kernel:
            _write(f"{self._kernel}/cgroup.procs", "0")

    def kill(self) -> None:
        """End all that the kernel has started, whatever process group it is in."""
        if self._kernel:
            try:
                _write(f"{self._kernel}/cgroup.kill", "1")
            except OSError:
                # Linux before 5.14
                for pid in _read(f"{self._kernel}/cgroup.procs").split():
                    os.kill(int(pid), signal.SIGKILL)

    def memory(self) -> Memory | None:
        """What is used; None where nobody counts."""
        if not self._kernel:
            return None
        try:
            current = int(_read(f"{self._kernel}/memory.current"))
            killed = self.killed()
        except (OSError, ValueError):
            return None
        try:
            self._peak = int(_read(f"{self._kernel}/memory.peak"))
        except (OSError, ValueError):
            # Linux before 5.19: the highest that we have seen
            self._peak = max(self._peak, current)
        return Memory(current, self._peak, self.limit, killed)

    def killed(self) -> int:
        """How many processes the limit has cost their life.

        :raises OSError: nobody counts.
        """
        return _figure(f"{self._kernel}/memory.events", "oom_kill")

    def close_to_limit(self, part: float) -> int | None:
        """Bytes that the system could not get back without killing, if that is *part* of the limit or more."""
        if self.limit is None:
            return None
        most = self.limit * part
        try:
            current = int(_read(f"{self._kernel}/memory.current"))
            if current >= most:
                # What was read from files, and not lately, goes before anything is killed.
                current -= _figure(f"{self._kernel}/memory.stat", "inactive_file")
        except (OSError, ValueError):
            return None
        return current if current >= most else None


def _own() -> str:
    """The directory of our unit's cgroup; empty when we are in none."""
    try:
        lines = _read("/proc/self/cgroup").splitlines()
    except OSError:
        return ""
    name = next((line for line in lines if line.startswith("0::")), "").removeprefix("0::/").removesuffix("/keeper")
    return f"/sys/fs/cgroup/{name}" if unit_in(name) else ""


def unit_in(path: str) -> str:
    """The name of our unit in a cgroup's path; empty when we do not run in one."""
    return next((name for name in path.split("/") if name.startswith(UNIT)), "")


def own_unit() -> str:
    """The unit that we run in; empty when it is none of ours."""
    try:
        return next(filter(None, map(unit_in, _read("/proc/self/cgroup").split("\n"))), "")
    except OSError:
        return ""


def _figure(path: str, name: str) -> int:
    """The number behind *name* in a file of such lines; 0 without one."""
    return next((int(line.split()[1]) for line in _read(path).splitlines() if line.startswith(f"{name} ")), 0)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
