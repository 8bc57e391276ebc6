"""Installs ipykernel into an environment of the owner's, with the tool that made the environment.

Runs as the owner. Nothing here decides that it should happen: somebody has clicked, or typed a command.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from . import venv
from .environments import Environment
from .run import EX_UNAVAILABLE, ProcessFailed, die, run

PACKAGE = "ipykernel"

#: Seconds. A slow channel and a big environment take minutes.
PATIENCE = 1800


def add(environment: Environment, *, channel: str, wheels: Path | None) -> None:
    """Install a Python kernel, unless there is one.

    :param channel: of conda, a name or an address; no other is asked.
    :param wheels: a directory with ipykernel and what it needs, tried before any index.
    :raises Mistake: it cannot be done; says why and what to do.
    """
    if _has_kernel(environment):
        return
    if not environment.python:
        die(
            f"There is no Python in {environment.prefix}, so no Python kernel can run there.",
            hint="Install Python into it first, or the kernel of its own language.",
            code=EX_UNAVAILABLE,
        )
    try:
        match environment.kind:
            case "conda":
                _with_conda(environment, channel)
            case "pixi":
                _with_pixi(environment)
            case "uv" | "venv":
                _with_pip(environment, wheels)
    except ProcessFailed as failed:
        die(
            f"ipykernel could not be installed into {environment.prefix}: {_reason(failed)}",
            hint=f"Try it in a terminal, which shows everything: {shlex.join(failed.argv)}",
            code=EX_UNAVAILABLE,
        )
    except subprocess.TimeoutExpired as late:
        die(
            f"ipykernel could not be installed into {environment.prefix} in {PATIENCE // 60} minutes.",
            hint=f"Try it in a terminal, which shows everything: {shlex.join(map(str, late.cmd))}",
            code=EX_UNAVAILABLE,
        )
    if not _has_kernel(environment):
        die(
            f"ipykernel was installed, but {environment.prefix} has no kernel.",
            hint=f"Write its description: {environment.prefix}/bin/python -m ipykernel install --sys-prefix",
            code=EX_UNAVAILABLE,
        )


def _has_kernel(environment: Environment) -> bool:
    return (environment.prefix / "share/jupyter/kernels/python3/kernel.json").is_file()


def _with_conda(environment: Environment, channel: str) -> None:
    tool = _tool("conda", environment.root) or _tool("mamba", environment.root) or _tool("micromamba", environment.root)
    if tool is None:
        die(
            f"No conda is there that could install ipykernel into {environment.prefix}.",
            hint="Install one: jupyter-remote conda install",
            code=EX_UNAVAILABLE,
        )
    _run(
        *(tool, "install", "--yes", "--prefix", environment.prefix),
        *("--override-channels", "--channel", channel, PACKAGE),
    )


def _with_pixi(environment: Environment) -> None:
    project = environment.project
    manifest = next((project / name for name in ("pixi.toml", "pyproject.toml") if (project / name).is_file()), None)
    if manifest is None:
        die(
            f"{project} has neither a pixi.toml nor a pyproject.toml that ipykernel could be added to.",
            hint="Make the environment anew with pixi, in its project.",
            code=EX_UNAVAILABLE,
        )
    command = ["pixi", "add", "--manifest-path", str(manifest), PACKAGE]
    if environment.prefix.name != "default":
        die(
            f"Which of the features of pixi's environment {environment.prefix.name} should get ipykernel "
            "is for its owner to say.",
            hint=f"In a terminal: {shlex.join([*command, '--feature', 'FEATURE'])}",
            code=EX_UNAVAILABLE,
        )
    tool = _tool("pixi", Path.home() / ".pixi")
    if tool is None:
        die(
            f"pixi, which made {environment.prefix}, is not found.",
            hint=f"In a terminal where it is: {shlex.join(command)}",
            code=EX_UNAVAILABLE,
        )
    _run(tool, *command[1:])


def _with_pip(environment: Environment, wheels: Path | None) -> None:
    python = environment.prefix / "bin/python"
    uv = _tool("uv", Path.home() / ".local", Path.home() / ".cargo")
    installer: list[str | Path]
    if uv is not None and (environment.kind == "uv" or not _has_pip(python)):
        installer = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        if not _has_pip(python):
            _install_pip(python, wheels)
        installer = [python, "-I", "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet"]
    if wheels is not None and any(wheels.glob(f"{PACKAGE}-*.whl")):
        # They fit the Python that the package was built for, and then nothing need be fetched.
        try:
            _run(*installer, "--no-index", "--find-links", wheels, PACKAGE)
        except ProcessFailed:
            pass
        else:
            return
    _run(*installer, PACKAGE)


def _install_pip(python: Path, wheels: Path | None) -> None:
    """Our own; or the one of its Python, for old ones that ours does not know."""
    if wheels is not None:
        with contextlib.suppress(ProcessFailed, FileNotFoundError):
            venv.install(python, wheels, "pip", timeout=PATIENCE)
            return
    _run(python, "-I", "-m", "ensurepip", "--default-pip")


def _has_pip(python: Path) -> bool:
    return run(python, "-I", "-c", "import pip", check=False, timeout=PATIENCE).returncode == 0


def _run(*command: str | os.PathLike[str]) -> None:
    # The owner's pip.conf may ask for --user, which an environment refuses.
    run(*command, env={"PIP_USER": "0"}, timeout=PATIENCE)


def _tool(name: str, *prefixes: Path | None) -> Path | None:
    """A program of the owner's: in one of *prefixes*, or on the PATH."""
    for prefix in prefixes:
        if prefix is not None and os.access(prefix / "bin" / name, os.X_OK):
            return prefix / "bin" / name
    found = shutil.which(name)
    return Path(found) if found else None


def _reason(failed: ProcessFailed) -> str:
    """The line that says most: the first one that calls itself an error, or the last one."""
    lines = [line.strip() for line in failed.output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines[-1:] or [f"{failed.argv[0]} ended with {failed.returncode}"])[0]
