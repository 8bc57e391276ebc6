"""A virtual machine with a kernel of its own: for what a box cannot have, a memory controller.

with Vm("trixie", layer) as vm:
    vm.sh("cat /sys/fs/cgroup/cgroup.controllers")

It boots the same layers as boxes do, on the same network and with the same verbs, but takes a minute for it:
the processor is emulated, so that it runs wherever the boxes run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jupyter_remote.run import EX_UNAVAILABLE, ProcessFailed, die, run, say
from lab import cache, host, layers, network, scratch
from lab.box import DOMAIN, HOSTNAME, Person, transient_unit

#: programs that a virtual machine needs, of ``lab.host``
PROGRAMS = ("qemu-system-x86_64", "mke2fs")
#: seconds for the boot, and MiB of memory
PATIENCE, MEMORY = 600, 2048
#: where commands are taken, reached from this machine only
PORT = 1023
#: images that are kept, for each release: each is a gigabyte
KEEP = 2

# Reads one line of JSON, runs that command, answers with one line.
_AGENT = """
import json, subprocess, sys
asked = json.loads(sys.stdin.readline())
done = subprocess.run(asked["argv"], input=asked["input"], capture_output=True, text=True, errors="replace")
print(json.dumps([done.returncode, done.stdout, done.stderr]), flush=True)
"""
_FILES = {
    "usr/local/lib/lab-agent": _AGENT,
    "etc/systemd/system/lab-agent.socket": f"[Socket]\nListenStream={PORT}\nAccept=yes\n",
    "etc/systemd/system/lab-agent@.service": (
        "[Service]\nExecStart=python3 -I /usr/local/lib/lab-agent\nStandardInput=socket\nStandardError=journal\n"
        # what it runs is a unit of its own
        "KillMode=process\n"
    ),
    # the addresses that qemu's own network gives
    "etc/systemd/system/lab-network.service": (
        "[Unit]\nDefaultDependencies=no\nBefore=network.target\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        "ExecStart=ip addr add 10.0.2.15/24 dev eth0\nExecStart=ip link set eth0 up\n"
        # visitors come with their own addresses
        "ExecStart=ip route add default via 10.0.2.2\n"
    ),
}
_WANTED = ("lab-agent.socket", "lab-network.service")
#: what a box has no use for
_PACKAGES = ("udev", "kmod")


def image(suite: str, layer: str) -> Path:
    """A directory with ``disk`` (ext4), ``kernel`` and ``initrd``, made from a layer if need be.

    :param layer: as for a box.
    :raises Mistake: no such layer, or we are not root.
    """
    host.require_root("a virtual machine")
    host.require(*PROGRAMS)
    below = layers.lowerdirs(suite, layer)
    kernel = layers.ensure(suite, "kernel")
    facts = repr([below, kernel, _FILES, _WANTED, _PACKAGES])
    images = cache.directory() / "vm" / suite
    target = images / hashlib.sha256(facts.encode()).hexdigest()[:12]

    def build(partial: Path) -> None:
        say(f"making a virtual machine's disk of {layer} of {suite} …")
        started = time.monotonic()
        shutil.copyfile(next((kernel / "boot").glob("vmlinuz-*")), partial / "kernel")
        shutil.copyfile(next((kernel / "boot").glob("initrd.img-*")), partial / "initrd")
        with scratch.scratch(suite, layer) as inside:
            shutil.copytree(kernel / "usr/lib/modules", inside.root / "usr/lib/modules", symlinks=True)
            for name, text in _FILES.items():
                (inside.root / name).write_text(text)
            inside.apt_install(*_PACKAGES)
            for unit in _WANTED:
                inside.run("systemctl", "--quiet", "add-wants", "multi-user.target", unit)
            # without a journal: nothing in it must survive a power failure
            run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", inside.root, partial / "disk", "4G")
        say(f"made it in {time.monotonic() - started:.0f} s")

    cache.build_once(target, build)
    os.utime(target)
    for old in sorted(filter(Path.is_dir, images.iterdir()), key=lambda path: path.stat().st_mtime)[:-KEEP]:
        shutil.rmtree(old)
    return target


class Vm:
    """One running virtual machine; a context manager that boots it and throws it away.

    :param suite: codename of a release.
    :param layer: what it boots, as for a box.
    """

    def __init__(self, suite: str, layer: str = "box") -> None:
        self.suite, self.layer = suite, layer
        self.name = f"{suite}-vm-{os.getpid()}"
        #: seconds that the boot took
        self.boot_seconds = 0.0
        self._address: network.Address | None = None
        self._qemu: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Vm:
        try:
            self.boot()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    @property
    def console(self) -> Path:
        """What it said on its console."""
        return cache.directory() / "vm" / f"{self.name}.console"

    @property
    def ip(self) -> str:
        assert self._address, "it is switched off"
        return self._address.ip

    @property
    def hostname(self) -> str:
        """As a box's."""
        return f"{HOSTNAME}.{DOMAIN}"

    def boot(self) -> None:
        """Switch on, and wait until systemd says that everything is up.

        :raises Mistake: it does not come up. What it said is in the message.
        """
        started = time.monotonic()
        files = image(self.suite, self.layer)
        self._address = network.claim()
        # qemu listens at the address, as if the machine inside did
        forwarded = "".join(f",hostfwd=tcp:{self.ip}:{port}-:{port}" for port in (80, 443, PORT))
        command = network.inside(
            self._address,
            # also when we are killed
            "setpriv", "--pdeathsig", "KILL",
            # Other processors panic, and KVM inside of virtual machines hangs.
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64,-cx16", "-smp", "2", "-m", str(MEMORY),
            "-kernel", str(files / "kernel"), "-initrd", str(files / "initrd"),
            "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0",
            "-drive", f"file={files / 'disk'},format=raw,if=virtio,snapshot=on",
            "-netdev", f"user,id=net,restrict=on{forwarded}", "-device", "virtio-net,netdev=net,romfile=",
            "-device", "virtio-rng", "-display", "none", "-monitor", "none", "-serial", f"file:{self.console}",
            "-no-reboot",
        )  # fmt: skip
        self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while not self._is_up():
            if time.monotonic() - started > PATIENCE or self._qemu.poll() is not None:
                said = self.console.read_text(errors="replace")[-2000:] if self.console.exists() else ""
                die(f"the virtual machine does not come up:\n{said}", code=EX_UNAVAILABLE)
            time.sleep(1)
        self.boot_seconds = time.monotonic() - started

    def _is_up(self) -> bool:
        with suppress(OSError, ValueError):  # it is not there yet
            return self._ask(["systemctl", "is-system-running"], None, 60).stdout.strip() in ("running", "degraded")
        return False

    def destroy(self) -> None:
        """Switch off and throw everything away."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
        if self._address:
            network.release(self._address)
        self.console.unlink(missing_ok=True)
        self._qemu = self._address = None

    # -- commands and files, as in a box ---------------------------------------------------------

    def sh(
        self, line: str, *, env: Mapping[str, str] | None = None, input: str | None = None, timeout: float = 600
    ) -> str:
        """Run a shell line as root; see ``Box.sh``."""
        return Person(self, "root").sh(line, env=env, input=input, timeout=timeout)

    def attempt(
        self, line: str, *, env: Mapping[str, str] | None = None, input: str | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """As :meth:`sh`, for what may fail."""
        return Person(self, "root").attempt(line, env=env, input=input, timeout=timeout)

    def as_user(self, name: str) -> Person:
        """Somebody who can run commands."""
        return Person(self, name)

    def read(self, inside: str) -> str:
        """A file's text."""
        done = self._ask(["cat", inside], None, 60)
        if done.returncode:
            raise ProcessFailed(["cat", inside], done.returncode, done.stderr)
        return done.stdout

    def write(self, inside: str, text: str, *, mode: int = 0o644, owner: str = "root") -> None:
        """Write a file, with its directory if that is missing."""
        owned = f"--owner={owner} --mode={mode:o}"
        self.sh(f"mkdir -p \"$(dirname '{inside}')\"; install {owned} /dev/stdin '{inside}'", input=text)

    def run_as(
        self, user: str, line: str, env: Mapping[str, str], input: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line in a unit of its own; what :class:`lab.box.Person` does."""
        return self._ask(transient_unit("--pipe", user, env, line, timeout), input, timeout + 30)

    def _ask(self, argv: list[str], input: str | None, timeout: float) -> subprocess.CompletedProcess[str]:
        """
        :raises OSError: nobody answers.
        :raises ValueError: the answer breaks off.
        """
        with socket.create_connection((self.ip, PORT), timeout=timeout) as connection:
            # An end of our half would not come through qemu's network: so these are lines.
            connection.sendall(json.dumps({"argv": argv, "input": input or ""}).encode() + b"\n")
            with connection.makefile() as answer:
                return subprocess.CompletedProcess(argv, *json.loads(answer.readline()))
