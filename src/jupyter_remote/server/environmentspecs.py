"""The kernels of the owner's environments, as Jupyter wants to hear of them.

A kernel of conda's has the name that nb_conda_kernels would give it, so that notebooks made with that
open with the same kernel here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..environments import Environment, Memory, read_text

#: Runs a command in an environment.
LAUNCHER = Path(__file__).parent / "activated.sh"

#: Icons of an offer.
ICONS = Path(__file__).parent / "offer"

#: The names that kernels of these directories have got for ever from nb_conda_kernels.
_SHORT = {"python2": "py", "python3": "py", "ir": "r"}

#: Characters of a name. It is a part of addresses.
_LONG = 100


@dataclass(frozen=True)
class Offered:
    """A kernel in an environment, or the offer to install one.

    ``directory`` has its icons. ``spec`` is what ``KernelSpec.to_dict()`` would say; others see it too.
    """

    environment: Environment
    directory: Path
    spec: dict[str, Any]
    is_offer: bool = False


def offered(environments: Iterable[Environment], memory: Memory, *, with_offers: bool) -> dict[str, Offered]:
    """The kernels of *environments* by their names, each name once.

    :param memory: remembers kernel.json files.
    :param with_offers: include offers to install a kernel where there is none for the environment's Python.
    """
    found: dict[str, Offered] = {}
    for environment in environments:
        has_python = False
        for directory in environment.kernels:
            given = memory.recall(f"{directory}/kernel.json", _read, None)
            program = _program(given.argv[0], str(environment.prefix)) if given else ""
            if given and program:
                has_python = has_python or given.language.lower() == "python"
                name, kernel = _kernel(environment, directory, given, program)
                found[_unique(name, environment, found)] = kernel
        if with_offers and not has_python and _can_be_offered(environment):
            name, offer = _offer(environment)
            found[_unique(name, environment, found)] = offer
    return found


# -- kernel.json --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _KernelJson:
    """A kernel.json that holds what it should."""

    argv: list[str]
    display_name: str
    language: str
    env: dict[str, str]
    interrupt_mode: str
    metadata: dict[str, Any]
    kernel_protocol_version: str


def _read(path: str) -> _KernelJson:
    """
    :raises ValueError: it is none, or not yet.
    """
    given = json.loads(read_text(path))
    kinds = {"argv": list, "display_name": str, "language": str, "env": dict, "metadata": dict}
    defaults: dict[str, Any] = {"env": {}, "metadata": {}, "interrupt_mode": "signal", "kernel_protocol_version": ""}
    if not isinstance(given, dict):
        raise ValueError("no object")
    given = defaults | given
    if not all(isinstance(given.get(key), kind) for key, kind in kinds.items()):
        raise ValueError("not what a kernel.json holds")
    texts = [*given["argv"], *given["env"].values(), given["interrupt_mode"], given["kernel_protocol_version"]]
    if not all(isinstance(text, str) and "\0" not in text for text in texts) or not given["argv"]:
        raise ValueError("not what a kernel.json holds")
    if given["interrupt_mode"] not in ("signal", "message"):
        raise ValueError("no such interrupt mode")
    return _KernelJson(**{field.name: given[field.name] for field in fields(_KernelJson)})


def _program(given: str, prefix: str) -> str:
    """The program that a kernel of the environment at *prefix* is; empty when it is not there (yet)."""
    name = given.rpartition("/")[2]
    own = f"{prefix}/bin/{name}"
    if re.fullmatch(r"python[0-9.]*", name):
        return next((path for path in (own, f"{prefix}/bin/python") if os.access(path, os.X_OK)), "")
    if "/" in given and os.access(given, os.X_OK):
        return given
    if os.access(own, os.X_OK):
        return own
    # Not the environment's: whatever the machine has under this name.
    return "" if "/" in given else given


# The same ones are asked for at each look.
@functools.lru_cache(maxsize=2_000)
def _kernel(environment: Environment, directory: Path, given: _KernelJson, program: str) -> tuple[str, Offered]:
    shown = given.display_name
    if directory.name in ("python2", "python3") and environment.python:
        shown = f"Python {environment.python}"
    # Jupyter would put the server's own prefix in.
    arguments = [argument.replace("{prefix}", str(environment.prefix)) for argument in given.argv[1:]]
    spec = {
        "argv": [*_launcher(environment), program, *arguments],
        "env": given.env,
        "display_name": f"{shown} ({_title(environment)})",
        "language": given.language,
        "interrupt_mode": given.interrupt_mode,
        "metadata": given.metadata | _metadata(environment) | {"conda_raw_kernel_name": directory.name},
        "kernel_protocol_version": given.kernel_protocol_version,
    }
    return _name(environment, directory.name), Offered(environment, directory, spec)


def _launcher(environment: Environment) -> list[str]:
    # -p: neither BASH_ENV nor functions that were exported by somebody.
    bash = ["/bin/bash", "-p", str(LAUNCHER), sys.executable]
    return [*bash, environment.kind, str(environment.prefix), str(environment.root or "")]


def _metadata(environment: Environment) -> dict[str, Any]:
    """What nb_conda_kernels says, for other kinds too, and what those are."""
    return {
        "conda_env_name": _plain(environment.name),
        "conda_env_path": str(environment.prefix),
        "conda_is_base_environment": environment.is_base,
        "jupyter_remote": {"kind": environment.kind},
    }


# -- offers -------------------------------------------------------------------------------------------


def _can_be_offered(environment: Environment) -> bool:
    """By convention nothing is installed into conda's own environment; where we cannot write, we need not ask."""
    return bool(environment.python) and not environment.is_base and os.access(environment.prefix, os.W_OK)


@functools.lru_cache(maxsize=2_000)
def _offer(environment: Environment) -> tuple[str, Offered]:
    metadata = _metadata(environment)
    metadata["jupyter_remote"]["offer"] = True
    spec = {
        "argv": ["/bin/false"],  # never run: see Kernels.start_kernel
        "env": {},
        "display_name": f"Add a kernel: {_title(environment)}",
        # JupyterLab picks a kernel by its language when there is but one. Never this one.
        "language": "none",
        "interrupt_mode": "signal",
        "metadata": metadata,
        "kernel_protocol_version": "",
    }
    return f"add-{_stem(environment)}", Offered(environment, ICONS, spec, is_offer=True)


# -- names --------------------------------------------------------------------------------------------


def _title(environment: Environment) -> str:
    return f"{environment.kind}: {_plain(environment.name)}"


def _plain(text: str) -> str:
    """As it can be shown: names of directories are bytes, and can hold anything."""
    shown = text.encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else "?" for char in shown)


def _name(environment: Environment, kernel: str) -> str:
    if environment.kind == "conda":
        return f"{_stem(environment)}-{_ascii(_SHORT.get(kernel, kernel), '_')}"
    return f"{_stem(environment)}-{_slug(kernel)}"


def _stem(environment: Environment) -> str:
    """The name of an environment as a part of kernels' names."""
    if environment.kind != "conda":
        return f"{environment.kind}-{_slug(environment.name)}"
    if environment.is_base and environment.name == "base":
        return "conda-base"
    collection, name = environment.prefix.parent, environment.prefix.name
    if collection.name == "envs" and collection.parent != environment.root:
        name = f"{collection.parent.name}-{name}"
    return f"conda-env-{_ascii(name, '_')}"


def _ascii(text: str, other: str) -> str:
    """What nb_conda_kernels' ``clean_kernel_name`` makes of it."""
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    return re.sub(r"[^a-zA-Z0-9._\-]", other, letters)


def _slug(text: str) -> str:
    return re.sub(r"-+", "-", _ascii(text, "-")).strip("-.").lower() or "x"


def _unique(name: str, environment: Environment, taken: dict[str, Offered]) -> str:
    if name not in taken and len(name) <= _LONG:
        return name
    digest = hashlib.sha256(os.fsencode(environment.prefix)).hexdigest()
    short = f"{name[: _LONG - 10]}-{digest[:6]}"
    # Two directories of one environment whose names differ in what a name cannot hold.
    return short if short not in taken else f"{short}-{len(taken)}"
