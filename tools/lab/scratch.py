"""A throw-away root on a layer, to build in: no boot, no systemd, the machine's own network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_remote.run import ProcessFailed, run
from lab import aptproxy, cache, host, layers, overlay
from lab.supervisor import descendants

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A mount and process namespace of its own for each command: nothing stays mounted, nothing stays running.
ENTER = """
root=$1; shift
hostname box
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
if [ -e /etc/resolv.conf ]; then
    [ -e "$root/etc/resolv.conf" ] || : > "$root/etc/resolv.conf"
    mount --bind "$(realpath /etc/resolv.conf)" "$root/etc/resolv.conf"
fi
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
    shift 3
done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Scratch:
    """A root that commands can be run in. :func:`scratch` makes one."""

    #: its files, as seen from outside
    root: Path
    #: host directory -> (directory inside, "rw" or "ro")
    binds: Mapping[Path, tuple[str, str]] = field(default_factory=dict)
    #: name of a network namespace (``ip netns``); the machine's own network without one
    network: str | None = None

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        user: str = "root",
        cwd: str = "/",
        check: bool = True,
        input: str | None = None,
        capture: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, in a clean environment plus *env*.

        :param capture: without it, output goes where ours goes.
        :param timeout: seconds.
        :raises ProcessFailed: exit code not 0 and *check*.
        """
        try:
            return run(*self._enter(user, cwd, env or {}), *argv, check=check, input=input, capture=capture,
                       timeout=timeout)  # fmt: skip
        except ProcessFailed as failed:
            raise ProcessFailed(argv, failed.returncode, failed.output) from None

    def popen(self, *argv: str, env: Mapping[str, str] | None = None, user: str = "root") -> subprocess.Popen[str]:
        """Start a command inside that goes on; its output can be read from ``.stdout``."""
        return subprocess.Popen(
            [*self._enter(user, "/", env or {}), *argv],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @staticmethod
    def terminate(process: subprocess.Popen[str], timeout: float = 60) -> int:
        """End what :meth:`popen` started, as ``kill`` does, and wait for it; its exit code.

        :param timeout: seconds.
        :raises subprocess.TimeoutExpired: it does not end.
        """
        # unshare itself is deaf to this; its only child is the command
        for pid in descendants(process.pid)[:1]:
            os.kill(pid, signal.SIGTERM)
        return process.wait(timeout)

    def apt_install(self, *packages: str) -> None:
        """Install packages, without their recommendations."""
        self.run(
            "apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip

    def _enter(self, user: str, cwd: str, env: Mapping[str, str]) -> list[str]:
        (self.root / "etc/apt/apt.conf.d/01lab-proxy").write_text(f'Acquire::http::Proxy "{aptproxy.ensure()}";\n')
        binds = [part for outside, (inside, mode) in self.binds.items() for part in (str(outside), inside, mode)]
        home = "/root" if user == "root" else f"/home/{user}"
        variables = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home, "USER": user, **env}
        return [
            *(["ip", "netns", "exec", self.network] if self.network else []),
            "unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--propagation=private",
            "sh", "-ec", ENTER, "sh", str(self.root), *binds, "--", "chroot", str(self.root),
            "env", "-i", "--chdir", cwd, *(f"{k}={v}" for k, v in variables.items()),
            *(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user != "root" else []),
        ]  # fmt: skip


@contextmanager
def scratch(
    suite: str,
    layer: str,
    binds: Mapping[Path, str | tuple[str, str]] | None = None,
    network: str | None = None,
) -> Iterator[Scratch]:
    """A throw-away root on *layer*; gone, with all that was written to it, at the end of the block.

    :param binds: host directory -> directory inside (read-only), or (directory inside, ``"rw"``).
    :param network: a network namespace by its ``ip netns`` name; the machine's own network without.
    :raises Mistake: unknown layer, or we are not root.
    """
    host.require_root("a scratch root")
    host.require("unshare", "mount")
    below = layers.lowerdirs(suite, layer)
    directory = Path(tempfile.mkdtemp(prefix=f"{suite}-", dir=_parent()))
    full = {Path(out): ((where, "ro") if isinstance(where, str) else where) for out, where in (binds or {}).items()}
    try:
        with overlay.mounted(directory, below) as view:
            yield Scratch(view.root, full, network)
    finally:
        if not os.path.ismount(directory / "root"):
            shutil.rmtree(directory)


def _parent() -> Path:
    parent = cache.directory() / "scratch"
    parent.mkdir(exist_ok=True)
    return parent
