"""The systemd-nspawn that holds one box: started, found again, and ended by its process id."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jupyter_remote.run import EX_UNAVAILABLE, die, run

#: seconds within which a box must be up, or down; generous, since a machine may be busy
PATIENCE = 120

# Each box manages a control group in full, so each needs one that it shares with nobody.
OWN_CGROUP = """
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/jrlab/$1"
    echo $$ > "$hierarchy/jrlab/$1/cgroup.procs"
done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Process:
    """A process that is told from a later one with the same number."""

    pid: int
    started: int

    @staticmethod
    def of(pid: int) -> Process:
        """:raises FileNotFoundError: there is none."""
        return Process(pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]))

    @property
    def alive(self) -> bool:
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return Process.of(self.pid) == self and state != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False


def start(name: str, root: Path, network: str, console: Path, binds: dict[Path, str]) -> Process:
    """Boot the file system *root* in the network namespace *network*.

    :param console: file that gets what the system says while it boots.
    :param binds: host path -> path inside, read-only.
    :returns: the supervisor; what it supervises is :func:`leader`.
    """
    nspawn = [
        "systemd-nspawn", "--quiet", f"--directory={root}", f"--machine={name}", "--boot",
        # this machine's systemd, if it has one, is asked for nothing
        "--register=no", "--keep-unit",
        "--console=pipe", "--kill-signal=SIGRTMIN+3", "--suppress-sync=yes", "--resolv-conf=off",
        # A firewall of the box's own: its network is a namespace that nobody else is in.
        "--capability=CAP_NET_ADMIN",
        "--timezone=off", "--link-journal=no", f"--network-namespace-path=/run/netns/{network}",
        *(f"--bind-ro={outside}:{inside}" for outside, inside in binds.items()),
    ]  # fmt: skip
    if Path("/run/systemd/system").exists():
        apart = ["systemd-run", "--quiet", "--scope", "--collect", "--property=Delegate=yes"]
    else:
        apart = ["sh", "-ec", OWN_CGROUP, "sh", name]
    with console.open("ab") as log:
        child = subprocess.Popen(
            [*apart, *nspawn], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )  # fmt: skip
    return Process.of(child.pid)


def leader(supervisor: Process, console: Path) -> int:
    """The process id, as seen from here, of the box's PID 1; waits until there is one.

    :raises Mistake: the supervisor ended. The message has the end of the console.
    """
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        for pid in descendants(supervisor.pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if status.partition("NSpid:")[2].partition("\n")[0].split()[-1:] == ["1"]:
                return pid
        if not supervisor.alive:
            break
        time.sleep(0.02)
    said = console.read_text(errors="replace")[-2000:]
    die(f"the box does not boot:\n{said}", hint=f"all of it: {console}", code=EX_UNAVAILABLE)


def descendants(pid: int) -> list[int]:
    """All processes below *pid*."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def stop(supervisor: Process, name: str, *, gently: bool = True) -> None:
    """Shut the system down, or take its power away, and wait for the end.

    :param gently: as ``poweroff`` does; without it everything in the box is killed at once.
    """
    if supervisor.alive:
        handle = os.pidfd_open(supervisor.pid)
        try:
            if gently:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not gently or not select.select([handle], [], [], PATIENCE)[0]:
                # The box's own processes first: they would outlive systemd-nspawn, each with its inotify
                # instances, until no further box can boot (fs.inotify.max_user_instances).
                for pid in descendants(supervisor.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [])
        finally:
            os.close(handle)
    with suppress(ChildProcessError):  # another process of ours had started it
        os.waitpid(supervisor.pid, 0)
    groups = ["/sys/fs/cgroup/jrlab", "/sys/fs/cgroup/unified/jrlab", "/sys/fs/cgroup/systemd/jrlab"]
    for group in groups:
        if Path(group, name).exists():
            run("find", Path(group, name), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+", check=False)


def enter(pid: int, *argv: str) -> list[str]:
    """The command that runs *argv* in all namespaces of process *pid*, with an empty environment."""
    return [
        "nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
        f"--root=/proc/{pid}/root", f"--wd=/proc/{pid}/root",
        "env", "--ignore-environment",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm-256color", *argv,
    ]  # fmt: skip
