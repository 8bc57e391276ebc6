"""The cgroup of a keeper's unit, split in two: the keeper itself, and the kernel with its limit.

systemd delegates the unit's cgroup (``Delegate=``); in cgroup v2 processes may only be in its leaves.
Where nothing is delegated, or the machine's kernel offers no memory controller, there is no limit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Template of the units whose cgroup is ours to arrange.
UNIT = "jupyter-remote-kernel@"


@dataclass(frozen=True)
class Memory:
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
        self._kernel: Path | None = None
        self._peak = 0
        own = _own()
        if own is None:
            return
        try:
            for name in ("keeper", "kernel"):
                (own / name).mkdir(exist_ok=True)
            (own / "keeper/cgroup.procs").write_text(str(os.getpid()))
            offered = (own / "cgroup.controllers").read_text().split()
            for controller in ("memory", "pids"):
                if controller in offered:
                    (own / "cgroup.subtree_control").write_text(f"+{controller}")
            self._kernel = own / "kernel"
            if "memory" not in offered:
                return
            if limit is not None:
                (self._kernel / "memory.max").write_text(str(limit))
                # A kernel that swaps for minutes before it dies helps nobody.
                (self._kernel / "memory.swap.max").write_text("0")
        except OSError as error:
            print(f"no cgroup for the kernel: {error}", flush=True)

    def enter(self) -> None:
        """Called in the kernel's process, before it becomes the kernel."""
        if self._kernel is not None:
            (self._kernel / "cgroup.procs").write_text("0")

    def kill(self) -> None:
        """End all that the kernel has started, whatever process group it is in."""
        if self._kernel is not None:
            try:
                (self._kernel / "cgroup.kill").write_text("1")
            except OSError:
                # Linux before 5.14
                for pid in self._numbers("cgroup.procs"):
                    os.kill(pid, 9)

    def memory(self) -> Memory | None:
        """What is used; None where nobody counts."""
        if self._kernel is None:
            return None
        try:
            current = int((self._kernel / "memory.current").read_text())
            events = dict(line.split() for line in (self._kernel / "memory.events").read_text().splitlines())
        except (OSError, ValueError):
            return None
        try:
            self._peak = int((self._kernel / "memory.peak").read_text())
        except (OSError, ValueError):
            # Linux before 5.19: the highest that we have seen
            self._peak = max(self._peak, current)
        return Memory(current, self._peak, self.limit, int(events.get("oom_kill", 0)))

    def _numbers(self, name: str) -> list[int]:
        assert self._kernel is not None
        return [int(line) for line in (self._kernel / name).read_text().split()]


def _own() -> Path | None:
    """The cgroup of our unit, when we are in one."""
    try:
        line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    name = line.removeprefix("0::/").removesuffix("/keeper")
    if not unit_in(name):
        return None
    return Path("/sys/fs/cgroup") / name


def unit_in(path: str) -> str:
    """The name of our unit in a cgroup's path; empty when we do not run in one."""
    return next((name for name in path.split("/") if name.startswith(UNIT)), "")


def own_unit() -> str:
    """The unit that we run in, or an empty text."""
    try:
        return next(filter(None, map(unit_in, Path("/proc/self/cgroup").read_text().split("\n"))), "")
    except OSError:
        return ""
