"""The channel: Python, kernels and small demonstrations, as a directory that conda can use over http or as file://."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import cache, host, layers

from jupyter_remote.run import say
from tests.conda import cpython, demos, package, wheels
from tests.conda.package import File, Package

HERE = Path(__file__).parent
#: days after which a channel or an installer that no test has asked for is thrown away
KEEP_DAYS = 14
_SOURCES = ("channel", "cpython", "demos", "echo_kernel", "package", "profile", "standin", "wheels")


@dataclass(frozen=True)
class Channel:
    """A channel's directory: ``noarch/``, ``linux-64/``, each with its ``repodata.json``."""

    directory: Path
    #: what it was made from; another key is another channel
    key: str

    @property
    def packages(self) -> list[str]:
        """File names of its packages."""
        return sorted(path.name for path in self.directory.glob("*/*.conda"))


def ensure() -> Channel:
    """The channel, built if that has not been done since its sources changed.

    :raises Mistake: it cannot be built: we are not root, or a program is missing.
    """
    key = _key()
    return Channel(build_once("channel", key, _build), key)


def build_once(what: str, key: str, build: Callable[[Path], None]) -> Path:
    """As ``lab.cache.build_once``, for *what* of this package; old ones are thrown away."""
    parent = cache.directory() / "conda"
    parent.mkdir(exist_ok=True)
    target = parent / f"{what}-{key}"
    cache.build_once(target, build)
    os.utime(target)
    for path in parent.glob(f"{what}-*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > KEEP_DAYS * 86400:
            shutil.rmtree(path, ignore_errors=True)
    return target


def unpacked_wheel(name: str) -> Path:
    """A directory with one of the pinned wheels, unpacked, to import from on this machine."""
    (wheel,) = (path for path in _wheels() if path.name.startswith(f"{name}-"))

    def unpack(partial: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(partial)

    return build_once("unpacked", wheel.stem, unpack)


def _wheels() -> list[Path]:
    parent = cache.directory() / "conda"
    parent.mkdir(exist_ok=True)
    return wheels.download(parent)


def _key() -> str:
    parts = [str(layers.ensure(cpython.SUITE, "box")), package.SUBDIR]
    parts += [path.read_text() for path in sorted(HERE.iterdir()) if path.stem in _SOURCES]
    parts += [(wheels.REQUIREMENTS / f"{name}.txt").read_text() for name in wheels.PINNED]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _build(directory: Path) -> None:
    started = time.monotonic()
    say("building the conda channel of the tests …")
    host.require("strip", "zstd")
    packages = [cpython.package(), *demos.packages(), *(_stripped(wheels.package(wheel)) for wheel in _wheels())]
    for made in packages:
        package.write(directory, made)
    package.index(directory)
    size = sum(path.stat().st_size for path in directory.rglob("*.conda")) // 2**20
    say(f"built the conda channel: {len(packages)} packages, {size} MB, {time.monotonic() - started:.0f} s")


def _stripped(made: Package) -> Package:
    """py-rattler comes with a third of it being symbols; nothing else is worth it, and stripping has risks."""
    if made.name != "py-rattler":
        return made
    place = next(place for place in made.files if place.endswith(".so"))
    with tempfile.NamedTemporaryFile() as file:
        file.write(made.files[place].data)
        file.flush()
        subprocess.run(["strip", "--strip-unneeded", file.name], check=True)
        data = Path(file.name).read_bytes()
    return Package(made.name, made.version, {**made.files, place: File(data)}, made.depends, made.build)
