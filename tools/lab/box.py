"""A box: a Debian or Ubuntu system with a real systemd, booted in a second, thrown away after use.

with Box("trixie") as box:
    box.install(deb, preseed={"jupyter-remote/password": "correct horse"})
    assert box.as_user("alice").sh("id -un") == "alice"
    box.reboot()
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_remote.run import EX_UNAVAILABLE, EX_USAGE, ProcessFailed, die, run
from lab import aptproxy, cache, host, layers, network, overlay, supervisor
from lab.supervisor import Process

if TYPE_CHECKING:
    from lab.terminal import Terminal
    from lab.vm import Vm

#: each box calls itself this, whatever it is called outside: what is frozen in one fits the next
HOSTNAME = "box"
DOMAIN = "test"
NONINTERACTIVE = {"DEBIAN_FRONTEND": "noninteractive"}


@dataclass(frozen=True)
class File:
    """What a comparison of two file systems looks at."""

    kind: str
    mode: str
    owner: str
    #: SHA-256 of a file, target of a symbolic link, else empty
    content: str


@dataclass(frozen=True)
class RunningProcess:
    """A process in a box. *pid* is the number it has outside."""

    pid: int
    argv: list[str]
    environ: dict[str, str]


class Box:
    """One booted system; a context manager that boots it and throws it away.

    :param suite: codename of a release.
    :param name: to tell boxes apart, and to find one again with :func:`find`; made up without.
    :param layer: what it boots (``lab.layers``): ``plain``, ``box`` or a frozen one.
    :param binds: host path -> path inside, read-only.
    :param persistent: it outlives the program that made it, until :meth:`destroy`.
    :param disk: bytes that can be written, in memory; without it, as much as this machine has.
    """

    def __init__(
        self,
        suite: str,
        name: str | None = None,
        layer: str = "box",
        *,
        binds: Mapping[Path, str] | None = None,
        persistent: bool = False,
        disk: int | None = None,
    ) -> None:
        self.suite = suite
        self.name = name or f"{suite}-{os.getpid()}-{time.monotonic_ns() % 10**6:06}"
        self.layer = layer
        self.binds = dict(binds or {})
        self.persistent = persistent
        self.disk = disk
        #: seconds that the last boot took, and the state systemd was in then: running or degraded
        self.boot_seconds = 0.0
        self.state = ""
        self._supervisor: Process | None = None
        self._leader = 0
        self._address: network.Address | None = None
        self._view = overlay.Overlay(self.directory / "root", self.directory / "difference")

    # -- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Box:
        try:
            self.create()
            self.boot()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    @property
    def directory(self) -> Path:
        """Where everything of this box is kept outside."""
        return cache.directory() / "boxes" / self.name

    @property
    def address(self) -> network.Address:
        """Its place in the network, once it has been created."""
        assert self._address
        return self._address

    @property
    def namespace(self) -> str:
        """The network namespace that it is in, while it is up."""
        return self.address.namespace

    def create(self) -> None:
        """Lay the box's files out and give it an address.

        :raises Mistake: there is a box of this name, we are not root, or the layer is unknown.
        """
        host.require_root("a box")
        host.require("systemd-nspawn", "nsenter", "ip", "mount")
        below = layers.lowerdirs(self.suite, self.layer)
        if self.directory.exists():
            die(
                f"there is a box called {self.name} already",
                hint=f"tools/box down {self.name}",
                code=EX_USAGE,
            )
        self.directory.mkdir(parents=True)
        if self.disk:
            run("mount", "-t", "tmpfs", "-o", f"size={self.disk}", "tmpfs", self.directory)
        self._remember()
        overlay.mount(self.directory, below)
        self._address = network.claim()
        self._remember()
        proxy = aptproxy.ensure()
        (self.root / "etc/hostname").write_text(f"{HOSTNAME}\n")
        (self.root / "etc/hosts").write_text(
            f"127.0.0.1 localhost\n127.0.1.1 {self.hostname} {HOSTNAME}\n::1 localhost ip6-localhost\n"
        )
        (self.root / "etc/resolv.conf").write_text("")
        (self.root / "etc/apt/apt.conf.d/01lab-proxy").write_text(f'Acquire::http::Proxy "{proxy}";\n')

    def boot(self) -> None:
        """Switch on, and wait until systemd says that everything is up.

        :raises Mistake: it does not come up. What it said is in the message.
        """
        assert self._address
        started = time.monotonic()
        network.connect(self._address)
        console = self.directory / "console.log"
        self._supervisor = supervisor.start(self.name, self.root, self._address.namespace, console, self.binds)
        self._remember()
        self._leader = supervisor.leader(self._supervisor, console)
        # not with --wait: it can miss the moment, and waits for ever then
        question = supervisor.enter(self._leader, "timeout", "10", "systemctl", "is-system-running")
        while True:
            self.state = run(*question, check=False).stdout.strip()
            if self.state in ("running", "degraded"):
                break
            if time.monotonic() - started > supervisor.PATIENCE or not self._supervisor.alive:
                said = console.read_text(errors="replace")[-2000:]
                die(
                    f"the box does not come up ({self.state}):\n{said}",
                    hint=f"see {console}",
                    code=EX_UNAVAILABLE,
                )
            time.sleep(0.05)
        self.boot_seconds = time.monotonic() - started

    def shutdown(self) -> None:
        """Switch off, as ``poweroff`` does."""
        if self._supervisor:
            supervisor.stop(self._supervisor, self.name)
        self._supervisor = None

    def reboot(self) -> None:
        """Shut down and boot again."""
        self.shutdown()
        self.boot()

    def lose_power(self) -> None:
        """Everything in the box dies at once; :meth:`boot` switches on again."""
        if self._supervisor:
            supervisor.stop(self._supervisor, self.name, gently=False)
        self._supervisor = None

    def destroy(self) -> None:
        """Switch off and throw everything away."""
        if self._supervisor:
            supervisor.stop(self._supervisor, self.name, gently=False)
        self._supervisor = None
        if self._address:
            network.release(self._address)
        if os.path.ismount(self.root):
            overlay.unmount(self._view)
        if os.path.ismount(self.directory):
            run("umount", "--lazy", self.directory)
        if self.directory.exists():
            run("rm", "--recursive", "--force", "--one-file-system", self.directory)

    def freeze(self, name: str) -> None:
        """Shut down and keep the present state as the layer *name*; the box itself is gone then."""
        self.shutdown()
        overlay.unmount(self._view)
        layers.freeze(self.suite, name, self._view.difference, layers.lowerdirs(self.suite, self.layer))
        self.destroy()

    def revive(self) -> None:
        """Switch a box on again that was there before this machine was restarted."""
        if not os.path.ismount(self.root):
            overlay.mount(self.directory, layers.lowerdirs(self.suite, self.layer))
        if self._address is None or not Path("/run/netns", self._address.namespace).exists():
            self._address = network.claim()
        self.boot()

    def _remember(self) -> None:
        facts = {
            "suite": self.suite, "layer": self.layer, "persistent": self.persistent,
            "owner": asdict(Process.of(os.getpid())),
            "supervisor": asdict(self._supervisor) if self._supervisor else None,
            "address": self._address.number if self._address else None,
        }  # fmt: skip
        (self.directory / "box.json.new").write_text(json.dumps(facts))
        (self.directory / "box.json.new").rename(self.directory / "box.json")

    # -- places ----------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """Its root file system, from outside; what the box mounts itself (/run, /tmp) is not in it."""
        return self._view.root

    @property
    def ip(self) -> str:
        assert self._address, "the box has not been created"
        return self._address.ip

    @property
    def hostname(self) -> str:
        """The full name, also the one that its certificates are for. Resolved by nobody outside."""
        return f"{HOSTNAME}.{DOMAIN}"

    @property
    def is_up(self) -> bool:
        """Whether it is switched on."""
        return self._supervisor is not None and self._supervisor.alive

    @property
    def url(self) -> str:
        """Where Jupyter is meant to answer."""
        return f"https://{self.hostname}/jupyter"

    # -- commands --------------------------------------------------------------------------------

    def sh(
        self,
        line: str,
        *,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = 600,
    ) -> str:
        """Run a shell line as root, in a unit of its own and with a clean environment.

        :param timeout: seconds.
        :returns: what it printed, without the last newline.
        :raises ProcessFailed: it ended with another code than 0.
        """
        return Person(self, "root").sh(line, env=env, input=input, timeout=timeout)

    def attempt(
        self,
        line: str,
        *,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """As :meth:`sh`, for what may fail: the result has ``returncode``, ``stdout`` and ``stderr``."""
        return Person(self, "root").attempt(line, env=env, input=input, timeout=timeout)

    def as_user(self, name: str) -> Person:
        """Somebody who can run commands: ``box.as_user("alice").sh("id")``."""
        return Person(self, name)

    def terminal(
        self,
        line: str,
        *,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        columns: int = 80,
        rows: int = 24,
    ) -> Terminal:
        """Run a shell line on a terminal that a test can look at and type on."""
        from lab.terminal import Terminal  # needs packages that only tests have

        variables = {"TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})}
        argv = self._unit("--pty", user, variables, line, None)
        return Terminal(argv, columns=columns, rows=rows)

    def shell(self) -> int:
        """An interactive shell as root on the caller's own terminal; returns its exit code."""
        variables = {"TERM": os.environ.get("TERM", "xterm"), "LANG": "C.UTF-8"}
        return self.on_our_terminal("cd; exec bash -l", env=variables)

    def on_our_terminal(self, line: str, *, env: Mapping[str, str] | None = None) -> int:
        """Run a shell line as root whose input and output are the caller's; returns its exit code."""
        variables = {"TERM": os.environ.get("TERM", "xterm"), "LANG": "C.UTF-8", **(env or {})}
        how = "--pty" if os.isatty(0) and os.isatty(1) else "--pipe"
        return subprocess.run(self._unit(how, "root", variables, line, None)).returncode

    def run_as(
        self, user: str, line: str, env: Mapping[str, str], input: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line in a unit of its own; what :class:`Person` does."""
        return run(*self._unit("--pipe", user, env, line, timeout), check=False, input=input, timeout=timeout + 30)

    def _unit(self, how: str, user: str, env: Mapping[str, str], line: str, limit: float | None) -> list[str]:
        """The command that runs *line* under the box's own systemd."""
        assert self._supervisor, "the box is switched off"
        return supervisor.enter(self._leader, *transient_unit(how, user, env, line, limit))

    # -- files -----------------------------------------------------------------------------------

    def path(self, inside: str) -> Path:
        """Where *inside* (an absolute path in the box) is from outside; symbolic links are followed inside.

        While the box is up this sees its own mounts too, such as /run.
        """
        root = Path(f"/proc/{self._leader}/root") if self._supervisor else self.root
        found, todo = root, [part for part in inside.split("/") if part]
        for _ in range(1000):
            if not todo:
                return found
            part = todo.pop(0)
            if part == "..":
                found = found if found == root else found.parent
            elif (found / part).is_symlink():
                target = str((found / part).readlink())
                found = root if target.startswith("/") else found
                todo = [step for step in target.split("/") if step not in ("", ".")] + todo
            else:
                found = found / part
        raise OSError(f"too many symbolic links: {inside}")

    def read(self, inside: str) -> str:
        """A file's text."""
        return self.path(inside).read_text()

    def write(self, inside: str, text: str | bytes, *, mode: int = 0o644, owner: str = "root") -> None:
        """Write a file, with its directory if that is missing."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        if owner != "root":
            self.sh(f"chown {owner}: '{inside}'")

    def exists(self, inside: str) -> bool:
        """Whether there is such a file or directory."""
        return self.path(inside).exists()

    def files(self, *below: str, without: Iterable[str] = ()) -> dict[str, File]:
        """Each file below the given directories (all of the disk without any), to compare before and after.

        What only the box mounts (/proc, /sys, /run, /dev, /tmp) is not looked at.

        :param without: directories to leave out, ``/var/cache/apt``.
        """
        users = self._names("/etc/passwd")
        groups = self._names("/etc/group")
        left_out = {*without, "/proc", "/sys", "/run", "/dev", "/tmp"}
        found: dict[str, File] = {}
        for top in below or ("/",):
            for directory, names, plain in os.walk(self.root / top.lstrip("/")):
                inside = Path("/", Path(directory).relative_to(self.root))
                names[:] = [name for name in names if str(inside / name) not in left_out]
                for name in [*names, *plain]:
                    path = Path(directory, name)
                    facts = path.lstat()
                    owner = f"{users.get(facts.st_uid, facts.st_uid)}:{groups.get(facts.st_gid, facts.st_gid)}"
                    found[str(inside / name)] = File(
                        stat.filemode(facts.st_mode)[0],
                        f"{stat.S_IMODE(facts.st_mode):04o}",
                        owner,
                        _content(path),
                    )
        return found

    def _names(self, table: str) -> dict[int, str]:
        rows = (line.split(":") for line in self.read(table).splitlines())
        return {int(row[2]): row[0] for row in rows}

    # -- looking inside --------------------------------------------------------------------------

    def journal(self, unit: str | None = None) -> str:
        """What was logged since the box booted, by *unit* or by all."""
        return self.sh(f"journalctl --no-pager --output=cat --boot {f'--unit={unit}' if unit else ''}")

    def is_active(self, unit: str) -> bool:
        """Whether systemd says so."""
        return self.attempt(f"systemctl is-active --quiet {unit}").returncode == 0

    def processes(self) -> list[RunningProcess]:
        """All processes in the box."""
        found = []
        for pid in [self._leader, *supervisor.descendants(self._leader)]:
            try:
                argv = Path(f"/proc/{pid}/cmdline").read_bytes()
                environ = Path(f"/proc/{pid}/environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            pairs = (item.partition("=") for item in environ.decode(errors="replace").split("\0") if item)
            words = argv.decode(errors="replace").rstrip("\0").split("\0")
            found.append(RunningProcess(pid, words, {key: value for key, _, value in pairs}))
        return found

    def places_with(self, secret: str) -> list[str]:
        """Where *secret* can be read in the box; see :meth:`places_with_each`."""
        return self.places_with_each({"": secret})[""]

    def places_with_each(self, secrets: Mapping[str, str | bytes]) -> dict[str, list[str]]:
        """Where each of the named secrets can be read: files on disk and in /run and /tmp, arguments, environments.

        The journal and the debconf database are files, so they are searched too; the journal once more as text.
        Bytes are also looked for as programs print them.
        """
        wanted = {name: _spellings(secret) for name, secret in secrets.items()}
        seen: list[tuple[str, bytes]] = []
        for process in self.processes():
            command = " ".join(process.argv)
            seen.append((f"argv of {command}", "\0".join(process.argv).encode()))
            seen.append((f"environment of {command}", "\0".join(process.environ.values()).encode()))
        self.attempt("journalctl --sync")
        seen.append(("journal", self.journal().encode()))
        # grep looks for the longest part in a line of each, in one go; what it finds is looked at in full.
        patterns = [max(re.split(rb"[\n\0]", text), key=len) for texts in wanted.values() for text in texts]
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"\n".join(patterns))
            file.flush()
            # only what was written since the layer was made can have it
            for top, inside in ((self._view.difference, "/"), (self.path("/run"), "/run"), (self.path("/tmp"), "/tmp")):
                command = ("grep", "--recursive", "--files-with-matches", "--null", "--text", "--fixed-strings",
                           "--devices=skip", f"--file={file.name}")  # fmt: skip
                hits = run(*command, top, check=False, env={**os.environ, "LC_ALL": "C"}).stdout
                for hit in filter(None, hits.split("\0")):
                    seen.append((str(Path(inside, Path(hit).relative_to(top))), Path(hit).read_bytes()))
        return {
            name: sorted(place for place, content in seen if any(text in content for text in texts))
            for name, texts in wanted.items()
        }

    # -- packages --------------------------------------------------------------------------------

    def preseed(self, answers: Mapping[str, str]) -> None:
        """Answer debconf questions before they are asked: ``{"jupyter-remote/user": "alice"}``."""
        lines = [f"{key.split('/')[0]} {key} {_type_of(key)} {value}\n" for key, value in answers.items()]
        self.sh("debconf-set-selections", input="".join(lines))

    def put(self, deb: Path) -> str:
        """Copy a package into the box's /tmp and return its path there."""
        inside = f"/tmp/{deb.name}"
        shutil.copyfile(deb, self.path("/tmp") / deb.name)
        return inside

    def install(self, deb: Path, preseed: Mapping[str, str] | None = None) -> str:
        """Install a package file the way a user does, ``apt-get install ./x.deb``, without questions.

        :param preseed: answers to debconf's questions.
        :returns: what apt printed.
        :raises ProcessFailed: apt failed.
        """
        done = self.try_install(deb, preseed)
        if done.returncode:
            raise ProcessFailed(["apt-get", "install", deb.name], done.returncode, done.stdout)
        return done.stdout

    def install_on_our_terminal(self, deb: Path, env: Mapping[str, str] | None = None) -> int:
        """Install a package file; debconf asks on the caller's terminal, or nobody where there is none.

        :returns: apt-get's exit code.
        """
        asks = os.isatty(0) and os.isatty(1)
        line = f"apt-get -qq update && apt-get install --yes --reinstall {self.put(deb)}"
        return self.on_our_terminal(line, env={**({} if asks else NONINTERACTIVE), **(env or {})})

    def try_install(self, deb: Path, preseed: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """As :meth:`install`, for an installation that may fail; standard error is in ``stdout`` too."""
        if preseed:
            self.preseed(preseed)
        # Lists of today, as a server's timer fetches them, are in most layers.
        today = '[ -n "$(find /var/lib/apt/lists -maxdepth 0 -mtime -1)" ] || apt-get -qq update'
        line = f"exec 2>&1; {today}; apt-get install --yes --allow-downgrades {self.put(deb)}"
        return self.attempt(line, env=NONINTERACTIVE)


def _spellings(secret: str | bytes) -> list[bytes]:
    if isinstance(secret, str):
        return [secret.encode()]
    return [secret, secret.hex().encode(), repr(secret)[2:-1].encode(), base64.b64encode(secret)]


@dataclass(frozen=True)
class Person:
    """Somebody in a box, or in a virtual machine."""

    box: Box | Vm
    name: str

    def sh(
        self,
        line: str,
        *,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = 600,
    ) -> str:
        """Run a shell line as this person; see :meth:`Box.sh`."""
        done = self.attempt(line, env=env, input=input, timeout=timeout)
        if done.returncode:
            raise ProcessFailed([f"{self.name}@{self.box.name}:", line], done.returncode, done.stdout + done.stderr)
        return done.stdout.rstrip("\n")

    def attempt(
        self,
        line: str,
        *,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """As :meth:`sh`, for what may fail."""
        return self.box.run_as(self.name, line, env or {}, input, timeout)

    def read(self, inside: str) -> str:
        """A file's text, read with this person's rights.

        :raises ProcessFailed: they may not, or it is not there.
        """
        return self.sh(f"cat '{inside}'")


def transient_unit(how: str, user: str, env: Mapping[str, str], line: str, limit: float | None) -> list[str]:
    """The command that runs *line* under systemd where it is run: right group, clean environment.

    :param how: ``--pipe`` or ``--pty``.
    :param limit: seconds.
    """
    home = "/root" if user == "root" else f"/home/{user}"
    variables = {"LANG": "C.UTF-8", **({"HOME": "/root"} if user == "root" else {}), **env}
    return [
        "systemd-run", "--quiet", how, "--wait", "--collect", "--service-type=exec",
        f"--property=WorkingDirectory=-{home}",
        *([f"--uid={user}"] if user != "root" else []),
        *([f"--property=RuntimeMaxSec={limit}"] if limit else []),
        *(f"--setenv={key}={value}" for key, value in variables.items()),
        "/bin/sh", "-c", line,
    ]  # fmt: skip


def up(name: str, suite: str, layer: str = "plain") -> Box:
    """A box that stays when this program ends, switched on; the one of this name, or a new one.

    :raises Mistake: it cannot be made, or does not come up.
    """
    if name in names():
        box = find(name)
        if not box.is_up:
            box.revive()
        return box
    box = Box(suite, name, layer, persistent=True)
    try:
        box.create()
        box.boot()
    except BaseException:
        box.destroy()
        raise
    return box


def find(name: str) -> Box:
    """The box of this name, to use or to end it.

    :raises Mistake: there is none.
    """
    path = cache.directory() / "boxes" / name / "box.json"
    if not path.exists():
        die(f"there is no box called {name!r}", hint="tools/box list", code=EX_USAGE)
    facts = json.loads(path.read_text())
    box = Box(facts["suite"], name, facts["layer"], persistent=facts["persistent"])
    if facts["address"] is not None:
        box._address = network.Address(facts["address"])
    if facts["supervisor"] and Process(**facts["supervisor"]).alive:
        box._supervisor = Process(**facts["supervisor"])
        box._leader = supervisor.leader(box._supervisor, box.directory / "console.log")
    return box


def names() -> list[str]:
    """All boxes on this machine."""
    return sorted(path.parent.name for path in (cache.directory() / "boxes").glob("*/box.json"))


def sweep() -> None:
    """Throw away the boxes whose program was killed before it could do so itself."""
    with cache.locked(cache.directory() / "boxes" / "sweep"):
        for name in names():
            with suppress(FileNotFoundError):  # its own program has just done it
                facts = json.loads((cache.directory() / "boxes" / name / "box.json").read_text())
                if not facts["persistent"] and not Process(**facts["owner"]).alive:
                    find(name).destroy()


def _type_of(question: str) -> str:
    return "password" if question.endswith(("password", "password-again", "password-hash")) else "string"


def _content(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
