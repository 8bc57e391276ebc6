"""Building the .deb of one release: in a clean root of that release, from this work tree as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import cache, host
from lab.scratch import Scratch, scratch

from jupyter_remote.run import EX_SOFTWARE, ProcessFailed, die, run, say

TOP = Path(__file__).resolve().parent.parent
DIST = TOP / "dist"

#: What the package is made of: a change of anything else (a test, a tool) needs no new build.
PARTS = (
    "debian", "docs/man", "etc", "requirements/kernel.txt", "requirements/server.txt", "src", "systemd",
    "LICENSE", "README.md", "pyproject.toml", "setup.py", "stdeb.cfg",
)  # fmt: skip
#: Wheels that no build has asked for in so many days are thrown away.
_KEEP_DAYS = 30
#: Debian has no Notebook 7. JupyterLab, which is the front page, stands in for it.
_SLIM = """
export SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --show-field Timestamp)
python3 setup.py --quiet --command-packages=stdeb.command sdist_dsc
cd deb_dist/jupyter-remote-*/
echo notebook jupyterlab > debian/py3dist-overrides
dpkg-buildpackage -b -us -uc
"""
_PIP_CONFIGS = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")
_PREFIXES = ("PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


def own_suite() -> str:
    """The codename of this machine's release."""
    return host.os_release().get("VERSION_CODENAME") or die(
        "This machine's /etc/os-release names no release.", hint="Say which: tools/build-deb SUITE"
    )


def build(suite: str, *, again: bool = False) -> Path:
    """The .deb of *suite* for the work tree as it is; built unless there is one already.

    :param again: build in any case.
    :returns: ``dist/<suite>/jupyter-remote_<version>_<arch>.deb``; for this machine's own release also
        ``jupyter-remote.deb`` at the top.
    :raises Mistake: it does not build; the message is the end of the build's log.
    """
    host.require("git")
    directory = DIST / suite
    digest = state_of_sources()
    mark = directory / ".built-from"
    with cache.locked(cache.directory() / f"build-{suite}"):
        ready = sorted(directory.glob("jupyter-remote_*.deb"))
        if again or not ready or not mark.exists() or mark.read_text() != digest:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            with built(suite) as (_, products):
                for product in products:
                    shutil.copy(product, directory)
            mark.write_text(digest)
            ready = sorted(directory.glob("jupyter-remote_*.deb"))
        deb = ready[0]
        if suite == own_suite():
            _put(deb, TOP / "jupyter-remote.deb")
        return deb


def build_slim(suite: str) -> Path:
    """The package ``python3-jupyter-remote``: our Python code for the Jupyter that *suite* itself has.

    :returns: ``dist/slim/<suite>/python3-jupyter-remote_<version>_all.deb``.
    :raises Mistake: it does not build.
    """
    started = time.monotonic()
    host.require("git")
    directory = DIST / "slim" / suite
    # stdeb writes a debian/ of its own, so it gets a copy to do that in.
    with source_tree() as tree, scratch(suite, "build") as root:
        work = root.root / "build"
        shutil.copytree(tree, work / "jupyter-remote")
        say(f"building the slim package for {suite} …")
        done = root.run("sh", "-ec", _SLIM, cwd="/build/jupyter-remote", check=False)
        if done.returncode:
            die(f"The slim package does not build for {suite}:\n{_last(done.stdout + done.stderr)}", code=EX_SOFTWARE)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        deb = shutil.copy(next(work.glob("jupyter-remote/deb_dist/*.deb")), directory)
    say(f"built the slim package for {suite} in {time.monotonic() - started:.0f} s")
    return Path(deb)


@contextmanager
def built(
    suite: str, *, place: str = "/build", umask: int = 0o022, timezone: str = "UTC"
) -> Iterator[tuple[Scratch, list[Path]]]:
    """A build that is not kept: its root, and its products (.deb, .changes, .buildinfo) as seen from outside.

    :param place: the directory inside to build in; like *umask* and *timezone*, it must not matter.
    :raises Mistake: it does not build.
    """
    started = time.monotonic()
    directory = cache.directory() / "wheels"
    directory.mkdir(parents=True, exist_ok=True)
    with source_tree() as tree, scratch(suite, "build", {directory: ("/wheels", "rw")}) as root:
        inside = f"{place}/jupyter-remote"
        shutil.copytree(tree, root.root / inside.lstrip("/"), symlinks=True)
        _build_dependencies(root, inside)
        wheels = _wheels(root, inside)
        say(f"building the package for {suite} …")
        log = root.root / "build.log"
        done = root.run(
            # No network: what is not in the wheelhouse cannot get in.
            *("unshare", "--net", "sh", "-c", 'umask "$1"; exec dpkg-buildpackage -b -us -uc >/build.log 2>&1'),
            *("sh", f"{umask:o}"),
            cwd=inside,
            env={"WHEELS": wheels, "TZ": timezone},
            check=False,
        )
        if done.returncode:
            die(f"The package does not build for {suite}:\n{_last(log.read_text(errors='replace'))}", code=EX_SOFTWARE)
        say(f"built the package for {suite} in {time.monotonic() - started:.0f} s")
        products = sorted(path for path in (root.root / place.lstrip("/")).iterdir() if path.is_file())
        yield root, products


def files() -> list[Path]:
    """The files of the package in the work tree: those that git knows, and those that it would not ignore."""
    if not (TOP / ".git").exists():
        # Downloaded as an archive: everything in it is meant to be there, but for what a run has left.
        found = (
            path for part in PARTS for path in ((TOP / part).rglob("*") if (TOP / part).is_dir() else (TOP / part,))
        )
        left = ("__pycache__", ".build", "jupyter_remote.egg-info")
        return sorted(path.relative_to(TOP) for path in found if path.is_file() and not set(left) & set(path.parts))
    # sudo: the work tree is somebody else's, and git would rather not read it.
    git = ("git", "-c", f"safe.directory={TOP}", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listing = run(*git, "--", *PARTS, cwd=TOP)
    return sorted({Path(name) for name in listing.stdout.split("\0") if name and os.path.lexists(TOP / name)})


@contextmanager
def source_tree() -> Iterator[Path]:
    """A copy of the work tree as it is, with modes as git would set them and without what git ignores."""
    with tempfile.TemporaryDirectory(prefix="source-", dir=cache.directory()) as directory:
        tree = Path(directory) / "jupyter-remote"
        for name in files():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target, follow_symlinks=False)
            if not target.is_symlink():
                target.chmod(0o755 if target.stat().st_mode & stat.S_IXUSR else 0o644)
        yield tree


def state_of_sources() -> str:
    """A digest of everything in the work tree that the package is made of."""
    digest = hashlib.sha256()
    for name in files():
        path = TOP / name
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        executable = os.access(path, os.X_OK)
        digest.update(f"{name}\0{executable}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _build_dependencies(root: Scratch, inside: str) -> None:
    if root.run("dpkg-checkbuilddeps", cwd=inside, check=False).returncode == 0:
        return
    say("installing the build dependencies")
    for attempt in ("at once", "with fresh lists"):
        try:
            root.run(
                *("apt-get", "-qq", "build-dep", "--yes", "--no-install-recommends", "./"),
                cwd=inside,
                env={"DEBIAN_FRONTEND": "noninteractive"},
            )
            return
        except ProcessFailed as failed:
            if attempt == "with fresh lists":
                die(f"The build dependencies cannot be installed:\n{failed}", code=EX_SOFTWARE)
            root.run("apt-get", "-qq", "update")


def _wheels(root: Scratch, inside: str) -> str:
    """The directory inside with all wheels for that release's Python; downloaded at most once."""
    pins = b"".join((TOP / "requirements" / f"{name}.txt").read_bytes() for name in ("server", "kernel"))
    python = root.run("py3versions", "--default").stdout.strip()
    machine = root.run("dpkg", "--print-architecture").stdout.strip()
    name = f"{python}-{machine}-{hashlib.sha256(pins).hexdigest()[:12]}"
    directory = cache.directory() / "wheels"
    if not (directory / name).exists():
        with cache.locked(directory / name):
            if not (directory / name).exists():
                say(f"downloading the wheels for {python}")
                _download(root, inside, name)
    os.utime(directory / name)
    _sweep(directory)
    return f"/wheels/{name}"


def _download(root: Scratch, inside: str, name: str) -> None:
    """Run debian/fetch-wheels inside, with this machine's way to the package index."""
    for config in _PIP_CONFIGS:
        path = Path(config).expanduser()
        if path.is_file():
            target = root.root / config.replace("~", "root").lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    environment = {key: value for key, value in os.environ.items() if key.startswith(_PREFIXES)}
    try:
        root.run("debian/fetch-wheels", f"/wheels/{name}", cwd=inside, env=environment)
    except ProcessFailed as failed:
        die(f"The wheels cannot be downloaded:\n{failed.output.strip()}", code=EX_SOFTWARE)


def _sweep(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and time.time() - path.stat().st_mtime > _KEEP_DAYS * 86400:
            shutil.rmtree(path, ignore_errors=True)


def _put(source: Path, target: Path) -> None:
    """Copy in one step: whoever installs *target* at this moment has the old or the new one."""
    partial = target.with_name(f".{target.name}.part")
    shutil.copy(source, partial)
    partial.rename(target)


def _last(log: str, lines: int = 40) -> str:
    return "\n".join(log.splitlines()[-lines:])
