"""The process that a keeper is there for."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from .cgroup import Cgroup
from .loop import Loop

#: How much sooner than the keeper the kernel is taken when the machine's memory ends; -1000 to 1000.
OOM_SCORE = os.environ.get("JUPYTER_REMOTE_KERNEL_OOM_SCORE", "300")

#: What we ignore or handle ourselves, and a program expects as it is.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)

_TERMINATE = signal.SIGTERM


class Process:
    """A child that leads its own session. (The module subprocess would take half a MB of each keeper.)

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
        self.pid = _start(argv, env, cwd if os.path.isdir(cwd) else env.get("HOME", "/"), terminal, cgroup)
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(self.pid)
        loop.watch(self._pidfd, self._ended)

    @property
    def is_over(self) -> bool:
        """Whether it has ended or is about to: with much memory to give back, dying takes seconds."""
        if self.returncode is not None:
            return True
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                # That memory is no longer its own.
                return file.read().startswith("0 ")
        except OSError:
            return True

    def signal(self, number: int) -> None:
        """To the process group that it began; for SIGKILL to all that it has started anywhere."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        if number == signal.SIGKILL:
            self._cgroup.kill()

    def finish(self, patience: float, ask: int = _TERMINATE) -> None:
        """End it: ask by a signal, wait for *patience* seconds, kill. Blocks."""
        if self.returncode is None:
            self.signal(ask)
            give_up = time.monotonic() + patience
            while self._code(os.WNOHANG) is None and time.monotonic() < give_up:
                time.sleep(0.02)
        self.signal(signal.SIGKILL)
        self._code(0)

    def _code(self, flags: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, flags)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _ended(self, events: int) -> None:
        del events
        code = self._code(os.WNOHANG)
        if code is None:
            return
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        self._on_end(code)


def _start(argv: Sequence[str], env: Mapping[str, str], cwd: str, terminal: int | None, cgroup: Cgroup) -> int:
    """Start a program; returns its pid.

    :raises OSError: it cannot be started.
    """
    failed, failure = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            cgroup.enter()
            _offer_to_the_oom_killer()
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            if terminal is None:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            else:
                # Also the session's: Ctrl-C comes as a signal, and the shell has jobs.
                os.login_tty(terminal)
            os.chdir(cwd)
            os.execvpe(argv[0], list(argv), dict(env))
        except OSError as error:
            os.write(failure, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(failure)
    reason = os.read(failed, 16)
    os.close(failed)
    if reason:
        os.waitpid(pid, 0)
        raise OSError(int(reason), os.strerror(int(reason)), argv[0])
    return pid


def _offer_to_the_oom_killer() -> None:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(OOM_SCORE)
