#!/usr/lib/jupyter-remote/bin/python -I
"""Give a person a conda, and in it a first environment with a kernel. Safe to run again at any time.

    jupyter-remote conda install                     as the owner, or as root for the owner
    /usr/lib/jupyter-remote/conda-bootstrap --help   the same, without the settings of this machine

A conda that is there already is used and never replaced. What a run that was interrupted has left is
recognised by a marker and made anew. Packages come from the channel that is named here and from no
other, also in an Anaconda that somebody has set up for its own.

exit codes:
   0  there is a conda, and the environment in it
  64  a wrong command line
  65  the installer does not have the digest that it must have
  66  the list of packages cannot be read
  68  there is no way to the server: no network, no such name, refused
  69  the server does not have the installer
  70  the installer fails, or leaves a conda that does not run
  71  there is no installer for this machine's architecture
  72  something else is at the place where conda should go
  73  the disk is full
  74  the transfer broke off
  75  another one is at work
  76  what came is a page and no installer, or from somebody who cannot prove who they are
  77  root calls; a conda belongs to a person
  78  the place has a blank in its name, which the installer refuses
  79  the channel cannot be reached
  80  the channel does not have what is asked for
 130, 143  interrupted
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from jupyter_remote.conda import download, packages
from jupyter_remote.environments import ROOTS
from jupyter_remote.run import (
    EX_CANTCREAT,
    EX_CONFIG,
    EX_NOPERM,
    EX_OSERR,
    EX_OSFILE,
    EX_SOFTWARE,
    EX_TEMPFAIL,
    EX_USAGE,
    Mistake,
    ProcessFailed,
    die,
    follow,
    parse_arguments,
    run,
    say,
)

EX_CHANNEL = 79
EX_PACKAGES = 80

# Resolved: the script is also reached by a link.
PINS = Path(__file__).resolve().with_name("pins.toml")

DEFAULT_ENVIRONMENT = "main"
CONDA_FORGE = "conda-forge"

#: A file in a prefix that says: not complete, made by us, may be thrown away. It is locked by whoever is
#: making the prefix, and by all that they have started.
MARKER = ".jupyter-remote-incomplete"
#: Beginning of the names of our temporary directories, beside the prefix: they hold the installer.
SCRATCH = ".jupyter-remote-conda-"
#: How many times the installer's size the download, what it unpacks and its package cache take.
ROOM = 8
#: seconds to wait for what a killed run has left running
PATIENCE = 60

#: Not handed on: they are about another Python or another conda than the one that is to be made.
_NOT_OURS = re.compile(r"(PYTHON|VIRTUAL_ENV|CONDA|_CE_|_CONDA|MAMBA|PIP_)")
#: … but for what says where things are fetched from.
_NEEDED = re.compile(r"(CONDA_(CHANNEL_ALIAS|SSL_VERIFY|OVERRIDE_.*)|PIP_(INDEX_URL|CERT|TRUSTED_HOST))$")


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    :param prefix: where conda goes; None: the first that is found in the home, else ~/miniforge3.
    :param installer_url: None: the publisher's.
    :param sha256: of the installer; None: the pinned one.
    :param environment: the first environment; None for none.
    """

    distribution: str = "miniforge"
    prefix: Path | None = None
    channel: str = CONDA_FORGE
    installer_url: str | None = None
    sha256: str | None = None
    environment: packages.Wanted | None = None


@dataclass(frozen=True)
class Pin:
    """One installer: where its publisher has it, and the digest that it must have."""

    version: str
    url: str
    sha256: str


# --- what is pinned --------------------------------------------------------------------------------


def pin(distribution: str, machine: str) -> Pin:
    """What is pinned for a distribution on an architecture, as ``uname -m`` calls it.

    :raises Mistake: there is no installer for it.
    """
    table = _pins(distribution)
    found = table["installers"].get(machine)
    if found is None:
        die(
            f"There is no {distribution} for this machine's architecture, {machine}.",
            hint=f"There is one for {', '.join(sorted(table['installers']))}. Kernels of Python environments (venv) "
            "work without conda: python3 -m venv ~/work/.venv",
            code=EX_OSERR,
        )
    return Pin(
        found["version"],
        table["url"].format(version=found["version"], arch=machine),
        found["sha256"],
    )


def licence(distribution: str) -> str:
    """A word on the terms of a distribution; empty where it is free for everybody."""
    return str(_pins(distribution)["licence"])


def _pins(distribution: str) -> dict[str, Any]:
    return tomllib.loads(PINS.read_text(encoding="utf-8"))[distribution]


# --- the steps -------------------------------------------------------------------------------------


def install(wish: Wish) -> Path:
    """All of it. Returns the prefix of the conda that is there afterwards.

    :raises Mistake: with a code of the table above; what had been begun is gone then.
    """
    if os.geteuid() == 0:
        die(
            "A conda belongs to a person, and this is root.",
            hint="sudo jupyter-remote conda install  makes one for the owner of this Jupyter; or run it as yourself",
            code=EX_NOPERM,
        )
    root = wish.prefix or existing(Path.home()) or Path.home() / ROOTS[0]
    with _alone(root.parent):
        if is_conda(root):
            _check_runs(root)
            say(f"Using the conda that is there: {root}")
        else:
            _install_base(root, wish)
        if wish.environment is not None:
            _make_environment(root, wish.environment, wish.channel)
    return root


def existing(home: Path) -> Path | None:
    """The conda that a person has, or None."""
    return next((home / name for name in ROOTS if is_conda(home / name)), None)


def is_conda(root: Path) -> bool:
    """Whether a conda was installed there, to its end."""
    complete = not (root / MARKER).exists()
    return complete and (root / "conda-meta").is_dir() and os.access(root / "bin/conda", os.X_OK)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else installs into *directory* meanwhile. What killed runs have left there is swept.

    :raises Mistake: somebody does, or the directory cannot be worked in.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # The directory itself is the lock: nothing is left behind.
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        _cannot_write(directory, error)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            die(
                f"Another installation of conda into {directory} is at work.",
                hint="Wait for its end (pgrep -af conda), then run the same command again.",
                code=EX_TEMPFAIL,
            )
        for left in directory.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def _install_base(root: Path, wish: Wish) -> None:
    if re.search(r"\s", str(root)):
        die(
            f"conda's installers refuse a path with a blank in it, and this is {str(root)!r}.",
            hint="Choose another place, of yours:  sudo install -d -o $USER /srv/conda  and then: "
            "jupyter-remote conda install --prefix /srv/conda/miniforge3",
            code=EX_CONFIG,
        )
    url, sha256 = wish.installer_url, wish.sha256
    if not (url and sha256):
        pinned = pin(wish.distribution, platform.machine())
        url, sha256 = url or pinned.url, sha256 or pinned.sha256
    if terms := licence(wish.distribution):
        say(f"A word on the licence of {wish.distribution}: {terms}")
    try:
        with _scratch(root.parent) as scratch, _incomplete(root, root / MARKER) as lock:
            installer = scratch / "installer.sh"
            download.fetch(url, installer, sha256, room=ROOM)
            say(f"Installing into {root}")
            # -f: the directory is there already, with our marker in it.
            done = _follow(["/bin/bash", installer, "-b", "-f", "-p", root], scratch, lock)
            if done.returncode:
                _failed("The installer", done, EX_SOFTWARE)
            _check_runs(root)
            if wish.channel != CONDA_FORGE:
                condarc = f"# The channel that this conda was installed from.\nchannels: [{json.dumps(wish.channel)}]\n"
                (root / ".condarc").write_text(condarc)
    except OSError as error:
        _cannot_write(root, error)


def _make_environment(root: Path, wanted: packages.Wanted, channel: str) -> None:
    name = wanted.name or DEFAULT_ENVIRONMENT
    # A conda of the whole machine: environments go where its `conda create` puts them then.
    envs = root / "envs" if os.access(root, os.W_OK) else Path.home() / ".conda/envs"
    prefix = envs / name
    marker = envs / f".{name}{MARKER}"
    if (prefix / "conda-meta/history").is_file() and not marker.exists():
        say(f"The environment {name} is there already: {prefix}")
        return
    say(f"Making the environment {name}: {' '.join(wanted.all_specs)}")
    channels: list[str | Path] = [word for one in wanted.channels or (channel,) for word in ("--channel", one)]
    conda = root / "bin/conda"
    try:
        envs.mkdir(parents=True, exist_ok=True)
        with (
            _scratch(root.parent if os.access(root.parent, os.W_OK) else envs) as scratch,
            _incomplete(prefix, marker) as lock,
        ):
            # Never the channels that its settings name: in an Anaconda that would be `defaults`.
            create: list[str | Path] = [conda, "create", "--yes", "--prefix", prefix, "--override-channels", *channels]
            done = _follow([*create, *wanted.all_specs], scratch, lock)
            if done.returncode:
                _solve_failed(done, wanted.channels or (channel,))
            if wanted.pip:
                say(f"Installing with pip: {' '.join(wanted.pip)}")
                listed = scratch / "requirements.txt"
                listed.write_text("".join(f"{requirement}\n" for requirement in wanted.pip))
                done = _follow([prefix / "bin/python", "-m", "pip", "install", "-r", listed], scratch, lock)
                if done.returncode:
                    _failed("pip", done, EX_PACKAGES)
    except OSError as error:
        _cannot_write(prefix, error)
    say(f"The environment {name} is ready: a kernel of that name is in the launcher.")


# --- nothing half made -----------------------------------------------------------------------------


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory for the installer and its temporary files, on the disk that must have room anyway; /tmp
    may be small, or mounted noexec."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=directory, ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextlib.contextmanager
def _incomplete(prefix: Path, marker: Path) -> Iterator[int]:
    """While *prefix* is being made there is a marker; when making it fails, both go.

    :returns: the open marker, locked, for programs to inherit: as long as one of them runs, it is locked.
    :raises Mistake: something is there that is not ours, or what a killed run has started is still at work.
    """
    if marker.exists():
        say(f"Removing what an interrupted run has left in {prefix}")
        _wait_for_end(marker)
        _remove(prefix, marker)
    elif prefix.is_symlink() or (prefix.exists() and (not prefix.is_dir() or any(prefix.iterdir()))):
        die(
            f"There is something else at {prefix}: neither a conda, nor begun by us. It is left alone.",
            hint=f"Look at it (ls -la {prefix}) and move it away, or choose another place: --prefix PATH",
            code=EX_OSFILE,
        )
    marker.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, b"jupyter-remote is making this, or was interrupted; the next run begins anew.\n")
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    except BaseException:
        # Not again while we are at it: a second Ctrl-C would leave half of it (and the marker says so).
        _remove(prefix, marker)
        raise
    finally:
        os.close(handle)
    marker.unlink()


def _wait_for_end(marker: Path) -> None:
    """Until nothing that a killed run has started is at work any more.

    :raises Mistake: it does not end.
    """
    with marker.open("rb") as file:
        for _ in range(PATIENCE * 5):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.2)
    die(
        f"What an earlier run has started still works in {marker.parent}.",
        hint="See what it is: pgrep -af conda. When it has ended, run the same command again.",
        code=EX_TEMPFAIL,
    )


def _remove(prefix: Path, marker: Path) -> None:
    """Throw a prefix away that is not complete; the marker last, so that a removal that is killed is told too."""
    if prefix.is_dir():
        for path in prefix.iterdir():
            if path == marker:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    marker.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        prefix.rmdir()


# --- programs --------------------------------------------------------------------------------------


def _follow(argv: Sequence[str | Path], scratch: Path, lock: int) -> subprocess.CompletedProcess[str]:
    def show(line: str) -> None:
        if line.strip():
            say(f"  {line}")

    return follow(*argv, line=show, env=_environment(scratch), keep_open=[lock])


def _environment(scratch: Path | None = None) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not _NOT_OURS.match(name) or _NEEDED.match(name)
    }  # fmt: skip
    return kept | {"LC_ALL": "C.UTF-8"} | ({"TMPDIR": str(scratch)} if scratch else {})


def _check_runs(root: Path) -> None:
    """:raises Mistake: its conda does not run. A right checksum was once a damaged archive."""
    try:
        version = run(root / "bin/conda", "--version").stdout.strip()
    except ProcessFailed as failed:
        last = (failed.output.strip().splitlines() or ["it ends without a word"])[-1]
        die(
            f"The conda in {root} does not run: {last}",
            hint=f"Mend it, or move it away (mv {root} {root}.old) and run the same command again; "
            "or choose another place: --prefix PATH",
            code=EX_SOFTWARE,
        )
    say(f"  {version}")


def _failed(what: str, done: subprocess.CompletedProcess[str], code: int, hint: str = "") -> NoReturn:
    if re.search(r"No space left on device|Errno 28|ENOSPC|NoSpaceLeft|disk quota", done.stdout, re.IGNORECASE):
        die(
            f"The disk became full: {what} could not go on. What it had made is gone again.",
            hint="Free some space (du -xh ~ | sort -h | tail), then run the same command again.",
            code=EX_CANTCREAT,
        )
    last = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-8:])
    die(f"{what} ended with {done.returncode}. Its last words:\n{last}", hint=hint or download.AGAIN, code=code)


def _solve_failed(done: subprocess.CompletedProcess[str], channels: tuple[str, ...]) -> NoReturn:
    named = " ".join(channels)
    said = done.stdout
    if re.search(r"CondaHTTPError|CONNECTION FAILED|Connection(Error|Failed| refused)|Max retries|HTTP (000|5\d\d)"
                 r"|error sending request|Could not (connect|resolve)", said, re.IGNORECASE):  # fmt: skip
        _failed(
            f"The channel {named} cannot be reached: conda",
            done,
            EX_CHANNEL,
            "conda itself is installed and stays. When the channel answers again, run the same command: it goes on "
            "here. For a mirror: --channel URL",
        )
    if re.search(r"PackagesNotFound|Unsatisfiable|nothing provides|ResolvePackageNotFound|Cannot solve|conflict",
                 said, re.IGNORECASE):  # fmt: skip
        _failed(
            f"The channel {named} does not have what is asked for, or packages contradict each other: conda",
            done,
            EX_PACKAGES,
            "conda itself is installed and stays. Ask for other packages, and run the command again.",
        )
    _failed("conda create", done, EX_SOFTWARE, "conda itself is installed and stays. Run the same command again.")


def _cannot_write(path: Path, error: OSError) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        die(
            f"The disk with {path} is full.",
            hint="Free some space (du -xh ~ | sort -h | tail), then run the same command again.",
            code=EX_CANTCREAT,
        )
    where = error.filename or path
    die(
        f"{where} cannot be written: {error.strerror}.",
        hint=f"Choose a place of yours: --prefix PATH, or get that one: sudo install -d -o {_login()} {where}",
        code=EX_OSFILE,
    )


def _login() -> str:
    return os.environ.get("USER") or str(os.getuid())


# --- the command line ------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, defaults: Wish) -> None:
    """The options of the command, for its own parser and for that of ``jupyter-remote``."""
    parser.add_argument(
        "--distribution", choices=["miniforge", "miniconda", "anaconda"], default=defaults.distribution,
        help="which conda (default: %(default)s; the other two have licence terms of their own)",
    )  # fmt: skip
    parser.add_argument(
        "--prefix", type=_absolute, default=defaults.prefix, metavar="PATH",
        help="where it goes (default: a conda that is there already, else ~/miniforge3)",
    )  # fmt: skip
    parser.add_argument(
        "--channel", default=defaults.channel, metavar="NAME|URL",
        help="where packages come from (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--installer-url", default=defaults.installer_url, metavar="URL",
        help="fetch the installer from there: a mirror",
    )  # fmt: skip
    parser.add_argument(
        "--sha256", type=_digest, default=defaults.sha256, metavar="DIGEST",
        help="the digest of that installer, if it is not the pinned one",
    )  # fmt: skip
    parser.add_argument(
        "--name", metavar="NAME", help=f"the first environment's name (default: {DEFAULT_ENVIRONMENT}, or its file's)"
    )
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="what it is made of: an environment.yml, or a list, a package a line"
    )
    parser.add_argument("--no-environment", action="store_true", help="conda alone, without a first environment")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="what is in the first environment beside Python")


def wish(options: argparse.Namespace) -> Wish:
    """What a command line asks for.

    :raises Mistake: its file cannot be read, or a name is none.
    """
    wanted = None
    if not options.no_environment:
        listed = packages.read(options.file) if options.file else packages.Wanted()
        name = options.name or listed.name
        if name and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", name):
            die(f"An environment cannot be called {name!a}.", hint="Letters, digits and _ . - are good.", code=EX_USAGE)
        specs = (*listed.specs, *options.packages)
        wanted = packages.Wanted(name, specs, listed.pip, listed.channels)
    return Wish(
        options.distribution, options.prefix, options.channel, options.installer_url, options.sha256, wanted
    )  # fmt: skip


def _absolute(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise argparse.ArgumentTypeError("an absolute path is needed, or one that begins with ~/")
    return path


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("a SHA-256 digest has 64 hexadecimal digits")
    return text.lower()


class Interrupted(BaseException):
    """A signal asks us to end. Not an error that a step could mend."""


def interruptible() -> None:
    """SIGTERM, and SIGHUP of a terminal that goes away, end us like Ctrl-C: with everything cleaned up."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)


def carry_out(asked: Wish) -> int:
    """:func:`install`, and what a person wants to know afterwards; returns the exit code."""
    interruptible()
    try:
        root = install(asked)
    except Interrupted as interrupted:
        say("\nInterrupted. What had been begun is gone again; the same command begins anew.")
        return 128 + int(interrupted.args[0])
    say(f"conda is ready: {root}")
    say(f"  In a shell:            source {root}/bin/activate")
    say(f"  In every new shell:    {root}/bin/conda init")
    say(f"  Another environment:   {root}/bin/conda create -n NAME ipykernel …   (it is a kernel at once)")
    return 0


def main(argv: list[str] | None = None) -> int:
    """The script on its own; returns the exit code."""
    head, _, table = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="conda-bootstrap", description=head, epilog=table, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, Wish())
    try:
        return carry_out(wish(parse_arguments(parser, argv)))
    except Mistake as mistake:
        say(f"conda-bootstrap: {mistake}")
        return mistake.code


if __name__ == "__main__":
    sys.exit(main())
