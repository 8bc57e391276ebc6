"""What an environment is made of: words of a command line, a list, or an ``environment.yml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jupyter_remote.run import EX_NOINPUT, die

#: What every environment of ours has: a kernel, and what `pip install` in a cell needs, each as new as it is.
ALWAYS = ("python", "pip", "setuptools", "ipykernel")


@dataclass(frozen=True)
class Wanted:
    """An environment to be made.

    *specs* are conda's, *pip* are pip's; *channels* is empty where the file names none.
    """

    name: str = ""
    specs: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    channels: tuple[str, ...] = field(default=())

    @property
    def all_specs(self) -> list[str]:
        """With what every environment has, unless the same package is asked for in another way."""
        named = {_package(spec) for spec in self.specs}
        return [*(name for name in ALWAYS if name not in named), *self.specs]


def read(path: Path) -> Wanted:
    """What a file asks for: ``environment.yml`` as conda writes it, or one spec a line.

    :raises Mistake: it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        die(f"The list of packages, {path}, cannot be read: {reason}.", code=EX_NOINPUT)
    if path.suffix in (".yml", ".yaml"):
        return _environment_file(path, text)
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return Wanted(specs=tuple(_spec(path, line) for line in lines if line and not line.startswith("@")))


def _environment_file(path: Path, text: str) -> Wanted:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        die(f"{path} is no YAML: {str(error).splitlines()[0]}.", hint=_EXAMPLE, code=EX_NOINPUT)
    if not isinstance(document, dict) or not isinstance(document.get("dependencies"), list):
        die(f"{path} lists no dependencies.", hint=_EXAMPLE, code=EX_NOINPUT)
    specs: list[str] = []
    pip: list[str] = []
    for item in document["dependencies"]:
        if isinstance(item, dict) and set(item) == {"pip"} and isinstance(item["pip"], list):
            pip += [str(requirement) for requirement in item["pip"]]
        else:
            specs.append(_spec(path, item))
    channels = document.get("channels") or []
    if not isinstance(channels, list):
        die(f"{path}: channels is no list.", hint=_EXAMPLE, code=EX_NOINPUT)
    name = document.get("name") or ""
    return Wanted(str(name), tuple(specs), tuple(pip), tuple(_channel(one) for one in channels if one != "nodefaults"))


def _spec(path: Path, item: Any) -> str:
    # Neither an option for conda, nor a second word that a shell or conda would take as one.
    if isinstance(item, str) and item.strip() and not item.startswith("-") and item.isprintable():
        return item.strip()
    die(f"{path}: {item!a} is no package.", hint=_EXAMPLE, code=EX_NOINPUT)


def _channel(item: Any) -> str:
    text = str(item)
    if text.startswith("-") or not text.isprintable() or not text.strip():
        die(f"{text!a} is no channel.", hint=_EXAMPLE, code=EX_NOINPUT)
    return text


def _package(spec: str) -> str:
    """The package's name in a spec: ``conda-forge::python >=3.12`` is about python."""
    bare = spec.rpartition("::")[2]
    for position, char in enumerate(bare):
        if char in " =<>!~[":
            return bare[:position].lower()
    return bare.lower()


_EXAMPLE = "It looks like:  dependencies: [numpy, pandas=2]  - or, in a .txt file, one package a line."
