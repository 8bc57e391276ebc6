"""Scripts of extensions that the owner installs, compressed when they appear and not for each browser anew.

What the package brings is compressed with it (debian/compress-static), and Apache sends it. These are in the owner's
home, where Apache may not look: the server sends them, and what Apache would make of them on the way is a sixth bigger.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from logging import Logger
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from jupyter_server.base.handlers import FileFindHandler

#: Seconds between two looks at what there is.
EVERY = 10

#: As in debian/compress-static: below a kilobyte the headers of an answer weigh more.
KINDS = (".js", ".css", ".svg", ".json")
LEAST = 1024


class Compressed:
    """Compressed copies, in a directory of the owner's, of files in directories of extensions."""

    def __init__(self, directory: Path, places: Iterable[str], log: Logger) -> None:
        """
        :param directory: for the copies; made when there is one.
        :param places: where extensions are, ``…/share/jupyter/labextensions``.
        """
        self._directory = directory
        self._places = list(places)
        self._log = log

    def copy_of(self, file: str) -> Path | None:
        """The copy of *file* as it is now, if there is one."""
        try:
            copy = self._directory / _name(file, os.stat(file))  # noqa: PTH116 - for each file that a page loads
        except OSError:
            return None
        return copy if copy.is_file() else None

    async def run(self) -> None:
        """Compress what appears, and remove copies of what has gone, until cancelled."""
        program = shutil.which("brotli")
        if program is None:
            self._log.warning("Extensions are not compressed in advance: there is no brotli on this machine.")
            return
        seen = None
        while True:
            now = await run_sync(self._extensions)
            if now != seen:
                try:
                    await self._renew(program)
                except OSError as error:
                    # A full disk: pages come as they are, and the next extension is tried again.
                    self._log.warning("Extensions are not compressed: %s", error)
            seen = now
            await asyncio.sleep(EVERY)

    def _extensions(self) -> set[tuple[str, int, int]]:
        """Which there are: each installation and each upgrade writes a package.json."""
        found = set()
        for place in self._places:
            for file in (*Path(place).glob("*/package.json"), *Path(place).glob("@*/*/package.json")):
                with suppress(OSError):
                    info = file.stat()
                    found.add((str(file), info.st_mtime_ns, info.st_ino))
        return found

    async def _renew(self, program: str) -> None:
        wanted = dict(await run_sync(lambda: list(self._files())))
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = {path.name for path in self._directory.iterdir()}
        for name in there - wanted.keys():
            (self._directory / name).unlink(missing_ok=True)
        for name in wanted.keys() - there:
            await self._compress(program, wanted[name], self._directory / name)

    def _files(self) -> Iterator[tuple[str, str]]:
        """Each file that is worth it, with the name of its copy."""
        for place in self._places:
            for top, _, names in os.walk(place):
                for name in names:
                    file = f"{top}/{name}"
                    if file.endswith(KINDS):
                        with suppress(OSError):
                            info = os.stat(file)  # noqa: PTH116 - as above
                            if info.st_size >= LEAST:
                                yield _name(file, info), file

    async def _compress(self, program: str, file: str, copy: Path) -> None:
        partial = copy.with_suffix(".part")
        try:
            # Kernels and pages first: it takes seconds of a core.
            politely = ("nice", "-n", "19", program, "--quality=11", "--lgwin=24", "--force")
            packing = await asyncio.create_subprocess_exec(
                *(*politely, f"--output={partial}", "--", file),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                _, said = await packing.communicate()
            except asyncio.CancelledError:
                packing.kill()
                raise
            if packing.returncode:
                self._log.warning("%s could not be compressed: %s", file, said.decode(errors="replace").strip())
            # The one that was compressed, if it was not replaced meanwhile.
            elif copy.name == _name(file, Path(file).stat()):
                partial.chmod(0o600)
                partial.rename(copy)
        except OSError as error:
            self._log.warning("%s could not be compressed: %s", file, error.strerror)
        finally:
            partial.unlink(missing_ok=True)


class Extensions(FileFindHandler):
    """``/lab/extensions/…``: Jupyter's own handler, which sends the copy to browsers that can read it."""

    def initialize(self, compressed: Compressed, **how: Any) -> None:  # type: ignore[override]
        """
        :param how: what Jupyter's handler takes.
        """
        super().initialize(**how)
        self._compressed = compressed
        self._original: str | None = None

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """The file to send."""
        self._original = super().validate_absolute_path(root, absolute_path)
        if self._original is None:
            return None
        self.set_header("Vary", "Accept-Encoding")
        if not re.search(r"\bbr\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", self.request.headers.get("Accept-Encoding", "")):
            return self._original
        copy = self._compressed.copy_of(self._original)
        if copy is None:
            return self._original
        self.set_header("Content-Encoding", "br")
        return str(copy)

    def get_content_size(self) -> int:
        """Of what is sent, in bytes; tornado has looked at the original."""
        assert self.absolute_path is not None
        return Path(self.absolute_path).stat().st_size

    def get_content_type(self) -> str:
        """What it is, however it is sent."""
        sent, self.absolute_path = self.absolute_path, self._original
        try:
            return super().get_content_type()
        finally:
            self.absolute_path = sent


def _name(file: str, info: os.stat_result) -> str:
    """A name that no other file has, nor the same one after a change."""
    state = f"{file}\0{info.st_mtime_ns}\0{info.st_size}\0{info.st_ino}"
    return hashlib.sha256(state.encode(errors="surrogateescape")).hexdigest()[:40] + ".br"
