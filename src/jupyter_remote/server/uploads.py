"""Uploads in pieces, as JupyterLab sends every file of more than 1 MiB: in place when the last piece has come.

Jupyter's own manager empties the old file at the first piece and appends the others to whatever has its name then:
an upload that is cancelled leaves half a file, and two at once one that is neither. Here pieces go into a file without
a name (O_TMPFILE), which takes the old one's place at the end. Until then nobody sees anything of it, and it is gone
by itself when the upload, or the server, is.

A piece says its number and the file's name, and not which upload it is of. So the last that was begun is the one that
counts. A piece with another number than the next one's is of an earlier upload, and refused: whoever sent it stops.
Where the next number is the same for both, it counts only if both have sent the same so far; else both are refused.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tornado import web

from .background import in_background
from .files import Files

#: Seconds without a next piece after which an upload is over: what it takes of the disk is free again.
SILENCE = 3600.0

#: Seconds for which a piece of an upload before may still be on its way.
ON_ITS_WAY = 120.0

#: The number of the last piece.
LAST = -1

#: Names of files where the file system knows none without a name (NFS).
PREFIX = ".jupyter-remote-upload-"


@dataclass
class _Before:
    """The upload that another one has taken the place of: its next piece, and what it had sent."""

    next: int
    digest: bytes
    time: float


@dataclass
class _Upload:
    """One upload. Whoever uses it holds ``lock``."""

    #: of the file that it will be
    target: Path
    file: int
    #: where the file is while it has another name; None while it has none
    named: Path | None
    #: whether it is to be copied into the old one: that may be written, and its directory not
    in_place: bool = False
    next: int = 1
    size: int = 0
    #: the uploads that it has taken the place of, as long as a piece of theirs may come
    before: list[_Before] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)
    #: of the last piece, in seconds of time.monotonic()
    time: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    timer: asyncio.TimerHandle | None = None

    def write(self, piece: bytes) -> None:
        """Add a piece. For a thread; OSError as the system says it."""
        self.digest.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self.file, rest) :]
        self.size += len(piece)

    def finish(self) -> None:
        """Put the file in place of the one that has its name. For a thread; OSError as the system says it."""
        if self.in_place:
            with open(self.file, "rb", closefd=False) as source, self.target.open("wb") as old:
                source.seek(0)
                shutil.copyfileobj(source, old)
            return
        if self.target.exists():
            self._take_after(self.target)
        os.fsync(self.file)
        if self.named is None:
            name = self.target.with_name(PREFIX + secrets.token_hex(8))
            directory = os.open(self.target.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # (With a directory Python asks for linkat(2), which follows the link in /proc.)
                os.link(f"/proc/self/fd/{self.file}", name.name, dst_dir_fd=directory)
            finally:
                os.close(directory)
            self.named = name
        self.named.replace(self.target)
        self.named = None

    def _take_after(self, old: Path) -> None:
        """Be for those whom the old file was for, and for nobody else."""
        state = old.stat()
        mode = stat.S_IMODE(state.st_mode)
        try:
            os.fchown(self.file, -1, state.st_gid)
        except PermissionError:
            # What its group might do is not for ours.
            os.fchmod(self.file, mode & ~stat.S_IRWXG)
            return
        os.fchmod(self.file, mode)
        # With an access list the group's bits of the mode are the most that anybody in it has: the list itself comes
        # after it.
        for name in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(self.file, name, os.getxattr(old, name))

    def close(self) -> None:
        """It is over; what has no name by now is gone."""
        if self.timer:
            self.timer.cancel()
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
        if self.named is not None:
            self.named.unlink(missing_ok=True)
            self.named = None


class LargeFiles(Files):
    """Jupyter's contents manager, with uploads in pieces that are all or nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._uploads: dict[str, _Upload] = {}
        #: of the last piece of any upload, in seconds of time.monotonic()
        self._last = 0.0

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Save a file, or take the next piece of one; returns its model without content."""
        number = model.get("chunk")
        if number is None:
            return dict(await super().save(model, path))  # type: ignore[no-untyped-call]
        path = path.strip("/")
        if type(number) is not int or (number < 1 and number != LAST):
            raise web.HTTPError(400, f"{number!r} is no number of a piece")
        if model.get("type") != "file":
            raise web.HTTPError(400, "Only files are uploaded in pieces")
        if number == 1:
            self.run_pre_save_hooks(model=model, path=path)  # type: ignore[no-untyped-call]
        piece = _decoded(model)
        if number == 1:
            await self._begin(path)
        # The handler keeps the model until its garbage is collected.
        del model["content"]
        upload = self._uploads.get(path)
        if upload is None:
            raise web.HTTPError(409, f"The upload of {path} has ended before. Upload it once more.")
        async with upload.lock:
            self._check(path, upload, number)
            return await self._take(path, upload, number, piece)

    async def file_exists(self, path: str) -> bool:
        """Whether there is such a file, or will be soon."""
        return path.strip("/") in self._uploads or bool(await super().file_exists(path))

    def end_uploads(self) -> None:
        """The server stops."""
        for path, upload in list(self._uploads.items()):
            self._end(path, upload)

    async def _begin(self, path: str) -> None:
        """The first piece of an upload is about to be taken. What there was of another one is not needed any more."""
        target = Path(os.path.realpath(self._get_os_path(path)))  # type: ignore[no-untyped-call]
        with self.perm_to_403(str(target)):
            if target.exists() and not target.is_file():
                raise web.HTTPError(400, f"{path} is no file")
            if target.exists() and not os.access(target, os.W_OK):
                raise web.HTTPError(403, f"Permission denied: {path}")
            try:
                upload = _open(target, {old.named for old in self._uploads.values() if old.named})
            except FileNotFoundError:
                raise web.HTTPError(404, f"{Path(path).parent} does not exist") from None
        old, self._uploads[path] = self._uploads.get(path), upload
        if old is not None:
            async with old.lock:
                if old.file >= 0:
                    upload.before = [*old.before, _Before(old.next, old.digest.digest(), old.time)]
                    old.close()
        self._touch(path, upload)

    def _check(self, path: str, upload: _Upload, number: int) -> None:
        """Whether this piece is the next one of this upload.

        :raises web.HTTPError: it is not, or nobody can know.
        """
        now = time.monotonic()
        upload.before = [before for before in upload.before if now - before.time < ON_ITS_WAY]
        ours = upload.file >= 0 and number in (upload.next, LAST)
        for before in upload.before:
            if number not in (before.next, LAST):
                continue
            if ours and (before.next, before.digest) != (upload.next, upload.digest.digest()):
                self._end(path, upload)
                raise web.HTTPError(409, f"{path} is uploaded twice at the same time. Upload it once more.")
            # Whoever it is of, they will not send another that could be taken for one of ours.
            upload.before.remove(before)
            break
        if not ours:
            raise web.HTTPError(409, f"Another upload of {path} has begun meanwhile.")

    async def _take(self, path: str, upload: _Upload, number: int, piece: bytes) -> dict[str, Any]:
        """Add the next piece of an upload. In its lock."""

        def work() -> None:
            upload.write(piece)
            if number == LAST:
                upload.finish()

        try:
            await in_background(work, "upload")
        except OSError as error:
            self._end(path, upload)
            self.log.error("%s was not uploaded: %s", ascii(path), error.strerror)
            raise web.HTTPError(500, f"{path} was not uploaded: {error.strerror}") from error
        if number != LAST:
            upload.next += 1
            self._touch(path, upload)
            return self._model_of(path, upload)
        self._end(path, upload)
        model: dict[str, Any] = await self.get(path, content=False)  # type: ignore[no-untyped-call]
        self.run_post_save_hooks(model=model, os_path=str(upload.target))  # type: ignore[no-untyped-call]
        self.emit(data={"action": "save", "path": path})  # type: ignore[no-untyped-call]
        return model

    def _touch(self, path: str, upload: _Upload) -> None:
        """Something has come."""
        if upload.timer:
            upload.timer.cancel()
        upload.time = self._last = time.monotonic()
        upload.timer = asyncio.get_running_loop().call_later(SILENCE, self._fall_silent, path, upload)

    def _fall_silent(self, path: str, upload: _Upload) -> None:
        """End it, unless it only waits for others: a browser sends all files at once, a piece of each in turn."""
        rest = self._last + SILENCE - time.monotonic()
        if rest > 0:
            upload.timer = asyncio.get_running_loop().call_later(rest, self._fall_silent, path, upload)
        else:
            self._end(path, upload)

    def _end(self, path: str, upload: _Upload) -> None:
        upload.close()
        if self._uploads.get(path) is upload:
            del self._uploads[path]

    def _model_of(self, path: str, upload: _Upload) -> dict[str, Any]:
        """As Jupyter describes a file, of one that is not complete."""
        changed = datetime.fromtimestamp(os.fstat(upload.file).st_mtime, UTC)
        return {
            "name": path.rpartition("/")[2],
            "path": path,
            "type": "file",
            "size": upload.size,
            "writable": True,
            "created": changed,
            "last_modified": changed,
            **dict.fromkeys(("content", "format", "mimetype", "hash", "hash_algorithm")),
        }


def _open(target: Path, in_use: set[Path]) -> _Upload:
    """Begin a file that will be at *target*, and that may be there by then.

    :param in_use: files with names of uploads that have not ended.
    :raises OSError: there is no such directory, or nothing may be made in it.
    """
    try:
        return _Upload(target, os.open(target.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666), None)
    except PermissionError:
        if not target.exists():
            raise
        # (Not in /tmp, which may be memory.)
        elsewhere = os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return _Upload(target, elsewhere, None, in_place=True)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    for left in set(target.parent.glob(PREFIX + "*")) - in_use:
        # Of a server that was killed; one on another machine may be at work.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > SILENCE:
                left.unlink()
    named = target.with_name(PREFIX + secrets.token_hex(8))
    return _Upload(target, os.open(named, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666), named)


def _decoded(model: dict[str, Any]) -> bytes:
    """What a piece has in it."""
    content = model.get("content")
    if not isinstance(content, str) or model.get("format") not in ("text", "base64"):
        raise web.HTTPError(400, "A piece has content, as text or in base64")
    try:
        return content.encode() if model["format"] == "text" else base64.b64decode(content)
    except ValueError as error:
        raise web.HTTPError(400, f"The content of a piece cannot be read: {error}") from None
