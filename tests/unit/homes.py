"""Made-up homes with environments, as far as one can see them from outside: nothing in them runs but Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jupyter_remote.environments import Environment, Finder


class Home:
    """A home directory."""

    def __init__(self, top: Path) -> None:
        self.path = top / "home"
        self.path.mkdir()
        self.opt = top / "opt"

    def finder(self, notebook_dir: Path | None = None, *patterns: str, hidden: tuple[Path, ...] = ()) -> Finder:
        return Finder(self.path, notebook_dir or self.path, patterns, hidden=hidden, opt=self.opt)

    def find(self) -> list[Environment]:
        return self.finder().find()

    def named(self) -> dict[str, str]:
        """Names, with the kind in front, and prefixes below the home."""
        return {f"{found.kind}: {found.name}": str(found.prefix.relative_to(self.path)) for found in self.find()}

    def python(self, path: Path | str) -> Path:
        prefix = self.path / path
        (prefix / "bin").mkdir(parents=True)
        (prefix / "bin/python").symlink_to(sys.executable)
        return prefix

    def venv(self, path: Path | str, configuration: str = "version = 3.12.1\n") -> Path:
        prefix = self.python(path)
        (prefix / "pyvenv.cfg").write_text(configuration)
        return prefix

    def conda(self, path: Path | str, *packages: str) -> Path:
        prefix = self.python(path)
        (prefix / "conda-meta").mkdir()
        for package in packages or ("python-3.13.1-h123_0_cpython", "python-dateutil-2.9.0-pyhd8ed1ab_0"):
            (prefix / f"conda-meta/{package}.json").write_text("{}")
        return prefix

    def root(self, path: str = "miniforge3") -> Path:
        prefix = self.conda(path)
        (prefix / "condabin").mkdir()
        (prefix / "envs").mkdir()
        return prefix

    def register(self, *prefixes: Path | str) -> None:
        """What conda does with each environment it makes."""
        (self.path / ".conda").mkdir(exist_ok=True)
        with (self.path / ".conda/environments.txt").open("a") as file:
            file.writelines(f"{prefix}\n" for prefix in prefixes)


def add_kernel(prefix: Path, name: str = "python3", **spec: object) -> Path:
    directory = prefix / "share/jupyter/kernels" / name
    directory.mkdir(parents=True)
    given = {"argv": ["python", "-f", "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (directory / "kernel.json").write_text(json.dumps(given | spec))
    return directory
