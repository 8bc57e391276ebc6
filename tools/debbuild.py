"""Building the .deb of one release: in a clean root of that release, from this work tree as it is."""

from __future__ import annotations

import hashlib
import os
import re
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
#: sudo: the work tree is somebody else's, and git would rather not read it.
_GIT = ("git", "-c", f"safe.directory={TOP}")
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


def build_earlier(suite: str, commit: str) -> Path:
    """The .deb of *suite* as the sources were at *commit*; built once, and kept in the cache.

    Its version is lower than any of a changelog, so that the package of today is an upgrade of it.

    :param commit: one that :func:`has_commit`.
    :raises Mistake: it does not build.
    """
    kept = cache.directory() / "earlier"

    def fill(directory: Path) -> None:
        with built(suite, commit=commit) as (_, products):
            shutil.copy(next(path for path in products if path.suffix == ".deb"), directory)

    directory = cache.build_once(kept / f"{suite}-{commit}", fill)
    os.utime(directory)
    _sweep(kept)
    return next(directory.glob("*.deb"))


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
    suite: str, *, commit: str | None = None, place: str = "/build", umask: int = 0o022, timezone: str = "UTC"
) -> Iterator[tuple[Scratch, list[Path]]]:
    """A build that is not kept: its root, and its products (.deb, .changes, .buildinfo) as seen from outside.

    :param commit: of the sources as they were then, as :func:`build_earlier` has it; else of the work tree.
    :param place: the directory inside to build in; like *umask* and *timezone*, it must not matter.
    :raises Mistake: it does not build.
    """
    started = time.monotonic()
    directory = cache.directory() / "wheels"
    directory.mkdir(parents=True, exist_ok=True)
    sources = source_tree() if commit is None else tree_of(commit)
    with sources as tree, scratch(suite, "build", {directory: ("/wheels", "rw")}) as root:
        inside = f"{place}/jupyter-remote"
        shutil.copytree(tree, root.root / inside.lstrip("/"), symlinks=True)
        _build_dependencies(root, inside)
        wheels = _wheels(root, inside, tree)
        say(f"building the package for {suite}{f' of {commit[:7]}' if commit else ''} …")
        log = root.root / "build.log"
        done = root.run(
            # No network: what is not in the wheelhouse cannot get in.
            *("unshare", "--net", "sh", "-c", 'umask "$1"; exec dpkg-buildpackage -b -us -uc >/build.log 2>&1'),
            *("sh", f"{umask:o}"),
            cwd=inside,
            # What only tests install need not be small: packing it takes as long as all the rest.
            env={"WHEELS": wheels, "TZ": timezone, **({"DPKG_DEB_COMPRESSOR_LEVEL": "0"} if commit else {})},
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
    listing = run(*_GIT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS, cwd=TOP)
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


def has_commit(commit: str) -> bool:
    """Whether this work tree has that much history: one that was downloaded has none, a shallow clone little."""
    if not (TOP / ".git").exists():
        return False
    host.require("git")
    return run(*_GIT, "cat-file", "-e", f"{commit}^{{commit}}", cwd=TOP, check=False).returncode == 0


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """The sources as they were at *commit*, but for their version: 0.1.0~earlier-1 where they said 0.1.0-1.

    :raises ProcessFailed: there is no such commit here.
    """
    with tempfile.TemporaryDirectory(prefix="source-", dir=cache.directory()) as directory:
        tree, archive = Path(directory) / "jupyter-remote", Path(directory) / "archive.tar"
        tree.mkdir()
        # Modes as git would set them, whatever it would set for an archive.
        run(*_GIT, "-c", "tar.umask=022", "archive", f"--output={archive}", commit, cwd=TOP)
        run("tar", "--extract", "--file", archive, "--directory", tree)
        changelog = tree / "debian/changelog"
        changelog.write_text(re.sub(r"(?=-\d+\))", "~earlier", changelog.read_text(), count=1))
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


def _wheels(root: Scratch, inside: str, tree: Path) -> str:
    """The directory inside with all wheels for that release's Python; downloaded at most once."""
    pins = b"".join((tree / "requirements" / f"{name}.txt").read_bytes() for name in ("server", "kernel"))
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
    try:
        root.run("debian/fetch-wheels", f"/wheels/{name}", cwd=inside, env=way_to_index(root))
    except ProcessFailed as failed:
        die(f"The wheels cannot be downloaded:\n{failed.output.strip()}", code=EX_SOFTWARE)


def way_to_index(root: Scratch) -> dict[str, str]:
    """Let pip inside find the package index as it does on this machine; the environment that it needs for that."""
    for config in _PIP_CONFIGS:
        path = Path(config).expanduser()
        if path.is_file():
            target = root.root / config.replace("~", "root").lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return {key: value for key, value in os.environ.items() if key.startswith(_PREFIXES)}


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
