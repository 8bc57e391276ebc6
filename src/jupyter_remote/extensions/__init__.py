"""What the owner adds to JupyterLab and its server, without sudo.

The server's own environment is root's and comes with the package. Extensions have one beside it, in the owner's state
directory: it sees what the server has and is installed into by pip, which changes nothing of that. An upgrade of the
package leaves it alone. It is named after the version of Python; after a release upgrade ``extensions upgrade`` makes
the next one. The server imports this module: the command is in :mod:`.command`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Extension:
    """A package that was asked for, and what it brings: pages' scripts, a part of the server."""

    name: str
    version: str
    in_browser: bool
    in_server: bool


def directory(state: Path, version: str = VERSION) -> Path:
    """The environment of extensions, which need not be there."""
    return state / f"extensions{version}"


def packages(environment: Path) -> Path:
    """Where its Python packages are."""
    return next(environment.glob("lib/python*/site-packages"), environment / "lib")


def find(environment: Path) -> list[Extension]:
    """What was asked for; what came along as a dependency is not named, but counts as a part of it."""
    found = []
    have = _installed(environment)
    for one in _asked_for(have):
        parts = _needed(have, [normal(one.metadata["Name"])])
        files = [str(file) for part in parts for file in have[part].files or ()]
        found.append(
            Extension(
                one.metadata["Name"],
                one.version,
                any("share/jupyter/labextensions/" in file for file in files),
                any("etc/jupyter/jupyter_server_config.d/" in file for file in files),
            )
        )
    return sorted(found, key=lambda each: each.name.lower())


def not_needed(environment: Path, without: Iterable[str]) -> list[str]:
    """What nobody asked for, and nothing would need that is left without some of what was asked for.

    A part of an extension that stayed would still be in the page (jupyterlab-git is made of several).
    """
    have = _installed(environment)
    gone = {normal(name) for name in without}
    # With ``nbconvert[webpdf]`` only the extra's packages are here: nbconvert is the server's.
    servers = (line for one in metadata.distributions() for line in one.requires or ())
    stay = {normal(one.metadata["Name"]) for one in _asked_for(have)} | _names(servers)
    stay -= gone
    return sorted(have.keys() - _needed(have, stay) - gone)


def ask_for(environment: Path, names: Iterable[str]) -> None:
    """Mark *names*, as pip takes them, as asked for.

    Pip leaves that out where one had come along with another, and takes its mark off where one that was asked for is
    upgraded for another.
    """
    have = _installed(environment)
    asked = {normal(one.metadata["Name"]) for one in _asked_for(have)}
    # The name of a wheel's file, too, begins with that of the package; pip itself marks what comes from an address.
    wanted = [
        re.match(r"[A-Za-z0-9._]+(-(?!\d)[A-Za-z0-9._]+)*", Path(name).name)
        for name in (one.partition(" @ ")[0] for one in names)
        if "://" not in name
    ]
    for name in (have.keys() & {normal(each[0]) for each in wanted if each}) - asked:
        # Its own, at the top: some have others within them.
        (record,) = (
            Path(str(file.locate()))
            for file in have[name].files or ()
            if len(file.parts) == 2 and file.match("*.dist-info/RECORD")
        )
        record.with_name("REQUESTED").touch()
        with record.open("a") as lines:
            # Else it would stay when the package goes.
            lines.write(f"{record.parent.name}/REQUESTED,,\n")


def _installed(environment: Path) -> dict[str, metadata.Distribution]:
    """What pip has put there, but for itself."""
    there = metadata.distributions(path=[str(packages(environment))])
    # What stands for something that is left out has no list of files.
    found = {normal(one.metadata["Name"]): one for one in there if one.read_text("RECORD") is not None}
    return {name: one for name, one in found.items() if name not in ("pip", "setuptools")}


def _asked_for(have: dict[str, metadata.Distribution]) -> list[metadata.Distribution]:
    # Pip's mark (PEP 376).
    return [one for one in have.values() if one.read_text("REQUESTED") is not None]


def _needed(have: dict[str, metadata.Distribution], names: Iterable[str]) -> set[str]:
    """*names*, and what they need of what there is; also what they would only need for an extra, or elsewhere."""
    found: set[str] = set()
    new = have.keys() & set(names)
    while new:
        found |= new
        new = (have.keys() & _names(line for name in new for line in have[name].requires or ())) - found
    return found


def _names(requirements: Iterable[str]) -> set[str]:
    """Of the packages that they are about."""
    found = (re.match(r"[\w.-]+", line) for line in requirements)
    return {normal(one[0]) for one in found if one}


def left_behind(state: Path) -> list[Extension]:
    """Those of another version of Python that this one does not have."""
    have = {normal(one.name) for one in find(directory(state))}
    return [one for other in others(state) for one in find(other) if normal(one.name) not in have]


def normal(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def others(state: Path) -> list[Path]:
    """Environments of other versions of Python."""
    return sorted(path for path in state.glob("extensions3.*") if path != directory(state))
