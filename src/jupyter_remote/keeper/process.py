"""The process that a keeper is there for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .cgroup import Cgroup
from .loop import Loop

#: How much sooner than the keeper the kernel is taken when the machine's memory ends; -1000 to 1000.
OOM_SCORE = os.environ.get("JUPYTER_REMOTE_KERNEL_OOM_SCORE", "300")


class Process:
    """A child that leads its own session.

    :raises OSError: it cannot be started.
    """

    def __init__(
        self,
        loop: Loop,
        cgroup: Cgroup,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        on_end: Callable[[int], None],
        terminal: int | None = None,
    ) -> None:
        """
        :param on_end: called once with the return code (negative: the signal that ended it).
        :param terminal: the terminal's end that becomes its input and output; without one it reads
            nothing and writes where we do.
        """
        self._loop, self._cgroup, self._on_end = loop, cgroup, on_end

        def prepare() -> None:
            cgroup.enter()
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)

        streams = subprocess.DEVNULL if terminal is None else terminal
        out = None if terminal is None else terminal
        self._process = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd if Path(cwd).is_dir() else str(Path.home()),
            stdin=streams,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=prepare,
        )
        self.pid = self._process.pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(self.pid)
        loop.watch(self._pidfd, self._ended)

    def signal(self, number: int) -> None:
        """To the process group that it began; for SIGKILL to all that it has started anywhere."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        if number == signal.SIGKILL:
            self._cgroup.kill()

    def finish(self, patience: float) -> None:
        """End it: ask, wait for *patience* seconds, kill. Blocks."""
        if self.returncode is None:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self.signal(signal.SIGKILL)
        if self.returncode is None:
            self._process.wait()

    def _ended(self, events: int) -> None:
        del events
        code = self._process.poll()
        if code is None:
            return
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        self.returncode = code
        self._on_end(code)
