"""The owner's environments: conda's, pixi's, uv's and other virtual ones.

They are found by looking at files. conda is never asked: that takes a second, and stops a server for
as long. Whoever lists them does it often, so everything that was read is remembered until the file or
the directory that said it has changed. Nothing is remembered by time: an environment is there at the
first look after it was made, and gone at the first look after it was removed.

Directories belong to the owner and can hold anything. What cannot be read is passed over.
"""
# Hundreds of paths in a few milliseconds: pathlib takes five times as long.
# ruff: noqa: PTH112, PTH113, PTH116

from __future__ import annotations

import fnmatch
import functools
import glob
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

T = TypeVar("T")

Kind = Literal["conda", "pixi", "venv", "uv"]

#: Where conda and its relatives are installed, below the home and below /opt. The first one that is
#: there is "the" conda, whose own environment is called base.
ROOTS = (
    "miniforge3",
    "mambaforge",
    "miniconda3",
    "anaconda3",
    "miniconda",
    "anaconda",
    "micromamba",
    ".local/share/mamba",
)
SYSTEM_ROOTS = ("conda", "miniforge3", "miniconda3", "anaconda3")

#: Directories of virtual environments, each called by its own name: virtualenvwrapper's, people's, pipenv's.
COLLECTIONS = (".virtualenvs", ".venvs", ".local/share/virtualenvs")

#: What a project calls the environment in it. No part of the project's name.
USUAL = (".venv", "venv", "env")

#: Levels of directories below the notebook directory in which projects are looked for.
DEPTH = 3

#: Directories below the notebook directory that are looked at, the shallow ones first. One costs 3 µs.
DIRECTORIES = 2000

#: Entries of one directory that are looked at.
ENTRIES = 10_000

#: Never descended into: big, and no place for projects.
PASSED_OVER = {"node_modules", "site-packages", "__pycache__"}

#: Nanoseconds. A change that is younger than this when we read might be followed by another that
#: leaves the same time behind: some file systems count in steps of two seconds.
SETTLED = 2_500_000_000

#: Bytes of a file that are read.
BIG = 1 << 20


@dataclass(frozen=True)
class Environment:
    """An environment that can be used.

    ``name`` is what its owner would call it; two environments of one kind have different names.
    ``python`` is a version such as ``3.13``, empty when there is no Python in it.
    ``kernels`` are its directories with a ``kernel.json``.
    ``root`` is the conda that it belongs to; None when there is none, and for other kinds.
    """

    kind: Kind
    name: str
    prefix: Path
    python: str
    kernels: tuple[Path, ...]
    root: Path | None

    @property
    def is_base(self) -> bool:
        """Whether it is conda's own, into which by convention nothing is installed."""
        return self.root == self.prefix

    @property
    def project(self) -> Path:
        """The directory that it was made for; pixi's environments are three levels below it."""
        return self.prefix.parents[2] if self.kind == "pixi" else self.prefix.parent


# The same ones are made at each look.
_path = functools.lru_cache(maxsize=10_000)(Path)
_environment = functools.lru_cache(maxsize=2_000)(Environment)


class _Found(NamedTuple):
    """An environment that has no name yet."""

    kind: Kind
    prefix: str
    python: str
    kernels: tuple[Path, ...]


class Memory:
    """What files and directories said, each until its stat says something new."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Callable[[str], Any]], tuple[tuple[int, ...], Any]] = {}

    def recall(self, path: str, read: Callable[[str], T], nothing: T) -> T:
        """What *read* says of *path*, now.

        :param path: a file or a directory; anything else says nothing.
        :param read: may raise OSError, ValueError and RecursionError.
        :param nothing: the answer when it cannot be read.
        """
        key = path, read
        try:
            found = os.stat(path)
            mark = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)
            known = self._known.get(key)
            if known is not None and known[0] == mark:
                return known[1]
            if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
                return nothing
            looked = time.time_ns()
            value = read(path)
        except (OSError, ValueError, RecursionError):
            self._known.pop(key, None)
            return nothing
        if looked - max(mark[:2]) > SETTLED:
            if len(self._known) > 20 * DIRECTORIES:
                self._known.clear()
            self._known[key] = mark, value
        else:
            self._known.pop(key, None)
        return value


@dataclass(frozen=True)
class _Listing:
    """What is in a directory. ``directories`` may hold symbolic links that lead to none."""

    identity: tuple[int, int]
    is_conda: bool
    is_venv: bool
    directories: tuple[str, ...]


def _list(path: str) -> _Listing:
    found = os.stat(path)
    directories = []
    is_venv = False
    with os.scandir(path) as entries:
        for entry in itertools.islice(entries, ENTRIES):
            if entry.name == "pyvenv.cfg":
                is_venv = True
            elif entry.is_symlink() or entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
        if next(entries, None) is not None:
            is_venv = is_venv or Path(path, "pyvenv.cfg").exists()
            directories += [name for name in ("conda-meta", ".pixi", *USUAL) if Path(path, name).is_dir()]
    names = tuple(sorted(set(directories)))
    return _Listing((found.st_dev, found.st_ino), "conda-meta" in names, is_venv, names)


def read_text(path: str) -> str:
    """The text of a file, as far as it is no longer than a text of its kind can be.

    :raises OSError: it cannot be read.
    :raises ValueError: it is not UTF-8.
    """
    with Path(path).open("rb") as file:
        return file.read(BIG).decode()


def _lines(path: str) -> tuple[str, ...]:
    # Names of files are bytes, whatever the encoding.
    with Path(path).open("rb") as file:
        return tuple(os.fsdecode(line.strip()) for line in file.read(BIG).split(b"\n") if line.strip())


def _python_of_conda(path: str) -> str:
    """The version of Python by conda's list of what it has installed, ``conda-meta``."""
    with os.scandir(path) as entries:
        for entry in entries:
            if found := re.fullmatch(r"python-(\d+\.\d+)[^-]*-[^-]+\.json", entry.name):
                return found[1]
    return ""


@dataclass(frozen=True)
class _Configuration:
    """pyvenv.cfg, as far as it matters here."""

    python: str
    home: str
    by_uv: bool


def _configuration(path: str) -> _Configuration:
    values = {}
    for line in read_text(path).splitlines():
        key, separator, value = line.partition("=")
        if separator:
            values[key.strip().lower()] = value.strip()
    version = re.match(r"\d+\.\d+", values.get("version") or values.get("version_info", ""))
    return _Configuration(version[0] if version else "3", values.get("home", ""), "uv" in values)


class Finder:
    """Finds the environments of one person, again and again.

    :param home: the person's.
    :param notebook_dir: where the person's projects are.
    :param patterns: more places, with ``*``, ``?`` and ``[…]`` in their parts; absolute or below ``~/``.
    :param hidden: environments that are not the person's to use, whichever way they are reached.
    """

    def __init__(
        self,
        home: Path,
        notebook_dir: Path,
        patterns: Iterable[str] = (),
        *,
        hidden: Iterable[Path] = (),
        opt: Path = Path("/opt"),
    ) -> None:
        self.memory = Memory()
        self._home = str(home)
        self._notebook_dir = str(notebook_dir)
        self._patterns = [
            pattern.replace("~", glob.escape(self._home), 1) if pattern.startswith("~/") else pattern
            for pattern in patterns
        ]
        self._hidden = [str(path) for path in hidden]
        self._roots = [str(home / name) for name in ROOTS] + [str(opt / name) for name in SYSTEM_ROOTS]

    def find(self) -> list[Environment]:
        """All environments that can be used, each once, in an order that stays."""
        seen = {listing.identity for path in self._hidden if (listing := self._listing(path))}
        found: list[_Found] = []
        roots: list[str] = []
        waiting = iter(self._candidates())
        while (prefix := next(waiting, None)) is not None:
            listing = self._listing(prefix)
            if listing is None or listing.identity in seen:
                continue
            seen.add(listing.identity)
            if prefix in self._roots or (listing.is_conda and "condabin" in listing.directories):
                roots.append(prefix)
                waiting = itertools.chain(self._children(f"{prefix}/envs"), waiting)
            if one := self._examine(prefix, listing):
                found.append(one)
        return self._named(found, roots)

    # -- where to look -------------------------------------------------------------------------------

    def _listing(self, path: str) -> _Listing | None:
        return self.memory.recall(path, _list, None)

    def _children(self, path: str) -> list[str]:
        listing = self._listing(path)
        return [f"{path}/{name}" for name in listing.directories] if listing else []

    def _candidates(self) -> Iterator[str]:
        """Paths that may be environments."""
        yield from self._roots
        yield from self._children(f"{self._home}/.conda/envs")
        nothing: tuple[str, ...] = ()
        for line in self.memory.recall(f"{self._home}/.conda/environments.txt", _lines, nothing):
            if line.startswith("/"):
                yield line.rstrip("/")
        for name in COLLECTIONS:
            yield from self._children(f"{self._home}/{name}")
        yield from self._below(self._notebook_dir)
        for pattern in self._patterns:
            yield from self._matching(pattern)

    def _below(self, top: str) -> Iterator[str]:
        """Environments in the projects below *top*. What is inside of an environment is not looked at."""
        seen: set[tuple[int, int]] = set()
        left = DIRECTORIES
        level = [top]
        for depth in range(DEPTH + 1):
            following: list[str] = []
            for directory in level:
                listing = self._listing(directory) if left > 0 else None
                if listing is None or listing.identity in seen:
                    continue
                left -= 1
                seen.add(listing.identity)
                if listing.is_conda or listing.is_venv:
                    yield directory
                    continue
                if ".pixi" in listing.directories:
                    yield from self._children(f"{directory}/.pixi/envs")
                if depth == DEPTH:
                    yield from (f"{directory}/{name}" for name in USUAL if name in listing.directories)
                    continue
                for name in listing.directories:
                    if name.startswith("."):
                        # One that is an environment, but nothing below others: caches, repositories.
                        if name != ".pixi":
                            yield f"{directory}/{name}"
                    elif name not in PASSED_OVER:
                        following.append(f"{directory}/{name}")
            level = following

    def _matching(self, pattern: str) -> list[str]:
        paths = [""]
        for part in pattern.split("/")[1:]:
            if not part:
                continue
            if not set(part) & set("*?["):
                paths = [f"{path}/{part}" for path in paths]
                continue
            paths = [
                f"{path}/{name}"
                for path in paths
                if (listing := self._listing(path or "/"))
                for name in listing.directories
                if fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))
            ][:DIRECTORIES]
        return paths

    # -- what it is ----------------------------------------------------------------------------------

    def _examine(self, prefix: str, listing: _Listing) -> _Found | None:
        """The environment at *prefix*; None when it is none, or half made."""
        kind: Kind
        if listing.is_conda:
            kind = "pixi" if prefix.split("/")[-3:-1] == [".pixi", "envs"] else "conda"
            python = self.memory.recall(f"{prefix}/conda-meta", _python_of_conda, "")
        elif listing.is_venv:
            configuration = self.memory.recall(f"{prefix}/pyvenv.cfg", _configuration, None)
            # A copied interpreter runs on the library of the one that it was copied from.
            if configuration is None or (configuration.home and not os.path.isdir(configuration.home)):
                return None
            kind = "uv" if configuration.by_uv else "venv"
            python = configuration.python
        else:
            return None
        if python and not os.access(f"{prefix}/bin/python", os.X_OK):
            return None
        directories = self._children(f"{prefix}/share/jupyter/kernels")
        kernels = tuple(_path(path) for path in directories if os.path.isfile(f"{path}/kernel.json"))
        return _Found(kind, prefix, python, kernels)

    # -- what it is called ---------------------------------------------------------------------------

    def _named(self, found: Sequence[_Found], roots: Sequence[str]) -> list[Environment]:
        named = []
        taken: set[tuple[Kind, str]] = set()
        for kind, prefix, python, kernels in found:
            root = None
            if kind == "conda" and roots:
                # Any conda can work on any prefix.
                own = next((root for root in roots if prefix == root or prefix.startswith(f"{root}/envs/")), roots[0])
                root = _path(own)
            name = self._name(kind, prefix, roots)
            if (kind, name) in taken:
                name = self._short(prefix)
                if (kind, name) in taken:
                    name = prefix
            taken.add((kind, name))
            named.append(_environment(kind, name, _path(prefix), python, kernels, root))
        return named

    def _name(self, kind: Kind, prefix: str, roots: Sequence[str]) -> str:
        collection, _, last = prefix.rpartition("/")
        if kind == "pixi":
            project = self._short(prefix.rsplit("/", 3)[0])
            return project if last == "default" else f"{project}/{last}"
        if kind == "conda":
            if prefix in roots[:1]:
                return "base"
            if collection in (f"{self._home}/.conda/envs", *(f"{root}/envs" for root in roots)):
                return last
        elif collection in (f"{self._home}/{name}" for name in COLLECTIONS):
            return last
        return self._short(collection if last in USUAL else prefix)

    def _short(self, path: str) -> str:
        """A path as people say it: from the notebook directory, or from the home."""
        for top in (self._notebook_dir, self._home):
            if path == top:
                return path.rpartition("/")[2] or path
            if path.startswith(f"{top}/"):
                return path.removeprefix(f"{top}/")
        return path
