"""Virtual environments of the owner's, made offline with the pip that the package brings.

Not with Debian's ensurepip: that is in python3.X-venv, which a release upgrade takes away, and with it went whatever
depends on it.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from .run import run

#: Where the package puts the wheels of pip, of ipykernel and of what that needs.
WHEELS = Path(sys.prefix) / "share/jupyter-remote/wheels"

#: The server runs with the system's own Python, as that of the slim package does (``systemd.is_slim``, which also
#: holds where our code has been installed by hand). There are no wheels then, and environments see the system's pip
#: and ipykernel.
BRINGS_NOTHING = sys.prefix == sys.base_prefix


def has_notebook() -> bool:
    """Whether Notebook 7 is beside us; Debian has 6, which is no part of JupyterLab's server."""
    found = find_spec("notebook")
    return bool(found and found.origin and Path(found.origin).with_name("app.py").exists())


def make(python: Path, directory: Path, wheels: Path, *packages: str, clear: bool = False) -> None:
    """Make one at *directory*, with pip and *packages* of *wheels* in it, or (:data:`BRINGS_NOTHING`) the system's.

    :param clear: remove first what is there.
    :raises FileNotFoundError: there is no pip in *wheels*, and there should be.
    :raises ProcessFailed: it cannot be made.
    """
    options = [*(["--clear"] if clear else []), *(["--system-site-packages"] if BRINGS_NOTHING else [])]
    run(python, "-I", "-m", "venv", "--without-pip", *options, directory)
    if BRINGS_NOTHING:
        return
    install(directory / "bin/python", wheels, "pip", *packages)


def install(python: Path, wheels: Path, *packages: str, timeout: float | None = None) -> None:
    """Install *packages* of *wheels* into the environment of *python*, which need not have a pip.

    :param timeout: in seconds.
    :raises FileNotFoundError: there is no pip in *wheels*.
    :raises ProcessFailed: they cannot be installed.
    """
    pip = next(wheels.glob("pip-*.whl"), None)
    if pip is None:
        raise FileNotFoundError(f"no pip in {wheels}")
    # The owner's own pip.conf may ask for a mirror, for --user, or for a virtual environment.
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    options = ("--isolated", "--no-input", "install", "--quiet", "--no-index", f"--find-links={wheels}")
    run(python, "-I", pip / "pip", *options, *packages, env=offline, timeout=timeout)
