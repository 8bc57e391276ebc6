"""The owner's default environment: where ``!pip`` and ``%pip install`` put things in the first minute.

A virtual environment in the state directory, made offline at the first start from wheels that the
package brings. It belongs to the owner: we make it once and never touch it again while it works.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from pathlib import Path

from .. import venv
from ..run import ProcessFailed
from .background import in_background

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

#: A file in the environment that says that nothing of it is missing. Environments cannot be moved
#: into place when they are done: their scripts name their own path.
COMPLETE = "jupyter-remote-complete"


class EnvironmentFailed(Exception):
    """The environment could not be made; the text says why, and what to do."""


class DefaultEnvironment:
    """The environment at *path*, being made in the background if it has to be."""

    def __init__(self, path: Path, wheels: Path | None, log: logging.Logger) -> None:
        """
        :param path: named after the Python version, so that a new one gets an environment of its own.
        :param wheels: a directory of wheels; by default the package's.
        """
        self.path = path
        self.python = path / "bin/python"
        self._wheels = wheels or venv.WHEELS
        self._log = log
        self._building: asyncio.Future[None] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it is all there and its interpreter still exists."""
        return (self.path / COMPLETE).is_file() and os.access(self.python, os.X_OK)

    @property
    def is_being_made(self) -> bool:
        """Whether somebody is at it."""
        return self._building is not None and not self._building.done()

    def start(self) -> None:
        """Begin to make it, unless it is complete or somebody is at it. Must be called in the event loop."""
        if self.is_complete or self.is_being_made:
            return

        def build() -> None:
            try:
                self._build()
            except EnvironmentFailed as failed:
                self._log.error("%s", failed)
                raise

        # What is half made when the server stops is made anew.
        self._building = in_background(build, "environment")

    async def ready(self) -> None:
        """Wait until it can be used. After a failure every call tries again.

        :raises EnvironmentFailed: it cannot be made.
        """
        self.start()
        if self._building is not None and not self.is_complete:
            await asyncio.shield(self._building)

    def _build(self) -> None:
        """
        :raises EnvironmentFailed: always with a sentence for the owner.
        """
        base = Path(sys.base_prefix) / f"bin/python{VERSION}"
        if not venv.BRINGS_NOTHING and not any(self._wheels.glob("ipykernel-*.whl")):
            raise EnvironmentFailed(
                f"The files for the default Python environment are not in {self._wheels}. "
                "Reinstall them: sudo apt install --reinstall jupyter-remote"
            )
        self._log.info("Making the default Python environment, %s.", self.path)
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
            venv.make(base, self.path, self._wheels, "ipykernel")
            (self.path / COMPLETE).touch()
        except (ProcessFailed, OSError) as error:
            said = error.output if isinstance(error, ProcessFailed) else str(error)
            reason = next((line for line in reversed(said.splitlines()) if line.strip()), str(error)).strip()
            raise EnvironmentFailed(
                f"The default Python environment, {self.path}, could not be made: {reason} "
                "The next start of a kernel tries again."
            ) from error
        self._log.info("The default Python environment is complete.")
