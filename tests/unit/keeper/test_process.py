"""The process that a keeper is there for."""

from __future__ import annotations

import os
import signal

from jupyter_remote.keeper.cgroup import Cgroup
from jupyter_remote.keeper.loop import Loop
from jupyter_remote.keeper.process import Process


def test_a_process_that_was_killed_is_over_before_anybody_has_heard_of_its_end():
    ended: list[int] = []
    process = Process(Loop(), Cgroup(None), ["sleep", "60"], dict(os.environ), "/", ended.append)
    assert not process.is_over
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.returncode is None and not ended
    assert process.is_over
    process.finish(0)
    assert process.returncode == -signal.SIGKILL and process.is_over
