"""The server's first lines: what must happen before Jupyter is imported.

Kept apart from :mod:`.app` because the time from here to the first answer is what a person waits for
after a restart.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

from ..run import Mistake
from . import late

#: sysexits(3): the configuration is at fault, another try would end the same way.
EX_CONFIG = 78
EX_USAGE = 64

#: linux/prctl.h
PR_SET_DUMPABLE = 4


def main(argv: list[str]) -> int:
    """Serve until a signal comes.

    :param argv: program and the path of ``server.json``.
    :returns: the exit code: 0 after a planned stop, EX_ASLEEP when it was for want of use.
    """
    # Before there is anything to see.
    shut_out()
    # Importing makes hundreds of thousands of objects and hardly any garbage: collecting in between
    # was a tenth of the start.
    gc.disable()
    late.leave_out()

    if len(argv) != 2:
        print("usage: python -P -m jupyter_remote.server /path/server.json", file=sys.stderr)
        return EX_USAGE

    from . import app

    try:
        return app.serve(Path(argv[1]))
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return mistake.code


def shut_out() -> None:
    """Let no other process of the owner look into this one: neither at its memory, where the key of the cookies is,
    nor through /proc at its files and at what systemd has handed to it, nor by ptrace(2).

    What runs in a notebook is such a process. It holds for this process alone, not for programs that it starts, and
    there is no core dump either: see PR_SET_DUMPABLE in prctl(2), and proc(5), which then belongs to root.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit(), which waits for threads: one of AnyIO's is told to end by the task that it works for, and when the
    # loop has stopped before that task had its answer, the thread waits for more work for ever.
    os._exit(code)
