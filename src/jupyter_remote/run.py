"""The one way a subprocess is run, and the one way a user's mistake ends a command.

Everything that starts a program goes through :func:`run` (or, where it takes minutes, :func:`follow`):
no shell, no inherited standard input, and a failure that carries what the program said.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

#: sysexits(3), as far as we use them. Stable: scripts depend on them.
EX_USAGE = 64
EX_DATAERR = 65
EX_NOINPUT = 66
EX_NOUSER = 67
EX_NOHOST = 68
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_OSERR = 71
EX_OSFILE = 72
EX_CANTCREAT = 73
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_PROTOCOL = 76
EX_NOPERM = 77
EX_CONFIG = 78

#: Not of sysexits(3): the server has ended because nobody uses it. jupyter-remote.service knows it.
EX_ASLEEP = 79
#: What it tells systemd then.
ASLEEP = "Asleep until the next request"


class Mistake(Exception):
    """Something the user can mend: *what* is wrong, a *hint* what to do, an exit *code*.

    It is shown as a message, never as a traceback.
    """

    def __init__(self, what: str, *, hint: str = "", code: int = EX_CONFIG) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


@dataclass(frozen=True)
class Finding:
    """Something that needs the administrator: what, and the command that mends it."""

    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}"


def die(what: str, *, hint: str = "", code: int = EX_CONFIG) -> NoReturn:
    """End the command with a message for the user.

    :param what: what is wrong, in one sentence.
    :param hint: the next step, best as a command that can be copied.
    :param code: an exit code of sysexits(3).
    :raises Mistake: always.
    """
    raise Mistake(what, hint=hint, code=code)


def parse_arguments(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments of a command line; a wrong one ends us with :data:`EX_USAGE` and not with argparse's 2."""
    try:
        return parser.parse_args(argv)
    except SystemExit as end:
        sys.exit(EX_USAGE if end.code == 2 else end.code)


class ProcessFailed(Exception):
    """A program ended with another exit code than 0. ``output`` is what it printed."""

    def __init__(self, argv: Sequence[str], returncode: int, output: str) -> None:
        super().__init__(f"{' '.join(argv)} ended with {returncode}\n{output.rstrip()}")
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output


def run(
    *argv: str | os.PathLike[str],
    check: bool = True,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    capture: bool = True,
    terminal: bool = False,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    :param argv: program and arguments; never a shell line.
    :param check: raise when the exit code is not 0.
    :param input: text for standard input; without it standard input is empty.
    :param env: variables added to ours. ``LC_ALL`` is ``C.UTF-8``, so that output can be read by us.
    :param capture: collect standard output and standard error apart in the result;
        otherwise both go where ours go.
    :param terminal: the program talks to the person: it gets our standard input.
    :param timeout: seconds, after which the program is killed.
    :returns: the completed process with text output.
    :raises ProcessFailed: exit code not 0 and *check*, or the program is not there (code 127).
    :raises subprocess.TimeoutExpired: it ran longer than *timeout*.
    """
    command = [os.fspath(arg) for arg in argv]
    pipe = subprocess.PIPE if capture else None
    try:
        done = subprocess.run(
            command,
            text=True,
            # What others have written, a crontab or a name, need not be UTF-8.
            errors="replace",
            stdout=pipe,
            stderr=pipe,
            cwd=cwd,
            timeout=timeout,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            **({"input": input} if input is not None else {"stdin": None if terminal else subprocess.DEVNULL}),
        )
    except FileNotFoundError as missing:
        raise ProcessFailed(command, 127, str(missing)) from None
    if check and done.returncode:
        raise ProcessFailed(command, done.returncode, (done.stdout or "") + (done.stderr or ""))
    return done


def follow(
    *argv: str | os.PathLike[str],
    line: Callable[[str], None],
    env: Mapping[str, str],
    keep_open: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program that takes minutes, and be told what it prints as it prints it.

    When we are interrupted it ends with us, and so does everything that it has started.

    :param line: called with each line of its output; standard error is among it.
    :param env: its whole environment.
    :param keep_open: file descriptors that it inherits, for a lock that must outlive us with it.
    :returns: the completed process; its ``stdout`` holds the last 200 lines.
    :raises ProcessFailed: the program is not there (code 127).
    """
    command = [os.fspath(arg) for arg in argv]
    last: collections.deque[str] = collections.deque(maxlen=200)
    try:
        process = subprocess.Popen(
            command,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            pass_fds=keep_open,
            process_group=0,
        )
    except FileNotFoundError as missing:
        raise ProcessFailed(command, 127, str(missing)) from None
    assert process.stdout is not None
    try:
        for text in process.stdout:
            last.append(text)
            line(text.rstrip("\n"))
        process.wait()
    except BaseException:
        _end_group(process)
        raise
    return subprocess.CompletedProcess(command, process.returncode, "".join(last), "")


def _end_group(process: subprocess.Popen[str], patience: float = 5.0) -> None:
    """End a program that leads its process group: first all are asked, then all are killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def say(text: str) -> None:
    """Print one line of progress to standard error, at once."""
    print(text, file=sys.stderr, flush=True)
