"""A stand-in for the installers of Miniforge and Anaconda: one shell script with a base environment in it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from jupyter_remote.run import run, say
from tests.conda import channel, demos, package

HERE = Path(__file__).parent
VERSION = f"{demos.CONDA_VERSION}-0"
#: what base has beside what these need
BASE = ("python", "conda", "pip", "setuptools")
#: where the packages of the real base environment come from
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"


@dataclass(frozen=True)
class Distribution:
    """What an installer says that it installs."""

    name: str
    #: in the home of whoever runs it, unless -p says another
    directory: str
    #: what its ``.condarc`` has
    channels: tuple[str, ...]


MINIFORGE = Distribution("Miniforge3", "miniforge3", ("conda-forge",))
ANACONDA = Distribution("Anaconda3", "anaconda3", ("defaults",))
MINICONDA = Distribution("Miniconda3", "miniconda3", ("defaults",))


@dataclass(frozen=True)
class Installer:
    """An installer as it can be downloaded."""

    path: Path
    sha256: str
    size: int
    version: str = VERSION


def ensure(distribution: Distribution = MINIFORGE) -> Installer:
    """The installer of *distribution*, made if that has not been done since its sources changed.

    :raises Mistake: it cannot be made: we are not root, or a program is missing.
    :raises ProcessFailed: the base environment cannot be made; the message is the stand-in's.
    """
    packages = channel.ensure()
    own = Path(__file__).read_text()
    base = channel.build_once("base", _digest(packages.key, own), lambda partial: _build_base(partial, packages))
    key = _digest(base, distribution, own, (HERE / "installer.sh").read_text())
    directory = channel.build_once(distribution.directory, key, lambda partial: _build(partial, base, distribution))
    return Installer(**json.loads((directory / "installer.json").read_text()) | {"path": next(directory.glob("*.sh"))})


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _build(directory: Path, base: Path, distribution: Distribution) -> None:
    payload = (base / "payload.tar.gz").read_bytes()
    data = _script(distribution, (base / "built-at").read_text(), payload) + payload
    name = f"{distribution.name}-{VERSION}-Linux-{os.uname().machine}.sh"
    (directory / name).write_bytes(data)
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (directory / "installer.json").write_text(json.dumps(facts))


def _build_base(directory: Path, packages: channel.Channel) -> None:
    started = time.monotonic()
    payload = directory / "payload.tar.gz"
    with tempfile.TemporaryDirectory(prefix="base-") as temporary:
        base = Path(temporary) / "base"
        _make_base(base, packages, Path(temporary))
        _pack(base, payload)
        (directory / "built-at").write_text(str(base))
    say(
        f"made a base environment for installers: {payload.stat().st_size >> 20} MB, {time.monotonic() - started:.0f} s"
    )


def _make_base(base: Path, packages: channel.Channel, temporary: Path) -> None:
    """A base environment, made by the stand-in itself, which runs on this machine's Python for that."""
    run(
        sys.executable, HERE / "standin.py", "create", "--yes", "--quiet", "--prefix", base,
        "--override-channels", "--channel", packages.directory.as_uri(), *BASE,
        env={
            "PYTHONPATH": str(channel.unpacked_wheel("py_rattler")),
            # nothing of this machine's gets in, nothing stays
            "HOME": str(temporary),
            "CONDA_PKGS_DIRS": str(temporary / "pkgs"),
        },
    )  # fmt: skip
    for record in [*base.glob("conda-meta/*.json"), base / "conda-meta/history"]:
        record.write_text(record.read_text().replace(packages.directory.as_uri(), CONDA_FORGE))


def _pack(base: Path, target: Path) -> None:
    """All of *base* as a tar.gz, with a list of the files that have its path in them."""
    found = run("grep", "--recursive", "--files-with-matches", "--binary-files=without-match", str(base), ".", cwd=base)
    (base / ".files-with-prefix").write_text(found.stdout)
    with tarfile.open(target, "w:gz", compresslevel=6) as tar:
        tar.add(base, arcname=".")


def _script(distribution: Distribution, built_at: str, payload: bytes) -> bytes:
    """The part of the installer that is text."""
    values = {
        "NAME": distribution.name, "VERSION": VERSION, "PLATFORM": package.SUBDIR,
        "DIRECTORY": distribution.directory, "CHANNELS": " ".join(distribution.channels),
        "BUILT_AT": built_at, "MD5": hashlib.md5(payload).hexdigest(),
    }  # fmt: skip
    text = (HERE / "installer.sh").read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    # as wide as what stands for it, so that writing it does not change it
    text = text.replace("@OFFSET@", "@OFFSET_@")
    return text.replace("@OFFSET_@", f"{len(text.encode()) + 1:09}").encode()
