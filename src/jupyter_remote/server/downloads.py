"""``files/PATH``: files as they are, for downloads and for what pages show of them.

Jupyter's own handler reads a file in pieces of 64 KiB in the event loop, and has no tag by which a browser could go on
with a download that was broken off. Here the kernel copies the file into the connection, beside the loop: a slow disk
or a file of 100 GB costs other requests nothing, and no more memory than a small one.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_core.paths import is_hidden
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import AuthenticatedFileHandler
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

from . import upstream
from .background import in_background

#: Bytes that are read and sent at once, without a thread.
SMALL = 64 * 1024

#: Milliseconds between looks whether the connection is still wanted, when the browser takes nothing.
LOOK = 1000

#: Bytes that go through this process where the kernel cannot copy by itself.
PIECE = 256 * 1024


class FilesHandler(AuthenticatedFileHandler):
    """Sends a file, or the range of it that was asked for."""

    _file = -1
    #: where what is to be sent begins and ends; None when nothing is
    _span: tuple[int, int] | None = None

    def initialize(self, path: str, **kwargs: Any) -> None:  # type: ignore[override]
        """:param path: the directory that everything is below."""
        del kwargs
        # Links may lead anywhere, as they may for the contents API, which gives and changes the same files.
        super().initialize(path, allowed_symlink_directory=os.sep)

    @web.authenticated
    @authorized
    async def get(self, path: str, **kwargs: Any) -> None:  # type: ignore[override]
        """Send it; with ``include_body=False`` the headers only."""
        try:
            await ensure_async(super().get(path, **kwargs))
            if self._span is not None:
                await self._send(*self._span)
        finally:
            if self._file >= 0:
                os.close(self._file)

    # -- what is sent ------------------------------------------------------------------------------

    def validate_absolute_path(self, root: str, absolute_path: str) -> str:
        """Open the file. All that is said and sent of it is of this one, also when another takes its place."""
        # By the path as it was asked for: that is what the contents API goes by.
        try:
            hidden = not self.contents_manager.allow_hidden and is_hidden(absolute_path, str(Path(root).absolute()))
        except OSError:
            # It leads to itself, or no file can have such a name.
            raise web.HTTPError(404) from None
        if hidden:
            self.log.info("Refusing to serve hidden file, via 404 Error")
            raise web.HTTPError(404)
        found = web.StaticFileHandler.validate_absolute_path(self, root, absolute_path)
        assert found is not None
        try:
            self._file = os.open(found, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except PermissionError:
            raise web.HTTPError(403, f"{self.path} is not readable") from None
        except OSError:
            raise web.HTTPError(404) from None
        self._state = os.fstat(self._file)
        if not stat.S_ISREG(self._state.st_mode):
            raise web.HTTPError(403, f"{self.path} is not a file")
        return found

    def get_content_size(self) -> int:
        """In bytes."""
        return self._state.st_size

    def get_modified_time(self) -> datetime:
        """To the second, as headers have it."""
        return datetime.fromtimestamp(int(self._state.st_mtime), UTC)

    def compute_etag(self) -> str:
        """Another one for another file, and when something was written to it."""
        return f'"{self._state.st_ino:x}-{self._state.st_mtime_ns:x}-{self._state.st_size:x}"'

    def set_headers(self) -> None:
        """And see to ``If-Range``, which tornado does not know: the rest of another file must not be sent."""
        super().set_headers()
        # A date does not tell two versions of one second apart. Whoever comes with one gets the whole file.
        if self.request.headers.get("If-Range", self.compute_etag()) != self.compute_etag():
            self.request.headers.pop("Range", None)

    def get_content(self, abspath: str, start: int | None = None, end: int | None = None) -> list[bytes]:  # type: ignore[override]
        """Nothing yet: what is to be sent comes after the headers."""
        del abspath
        self._span = (start or 0, self._state.st_size if end is None else end)
        return []

    # -- how ---------------------------------------------------------------------------------------

    async def _send(self, begin: int, end: int) -> None:
        connection = self.request.connection
        assert isinstance(connection, HTTP1Connection)
        try:
            await self.flush()
        except StreamClosedError:
            return
        stream = upstream.stream_of(connection)
        if stream is None or stream.closed():
            return
        if end - begin <= SMALL:
            self.write(os.pread(self._file, end - begin, begin))
            return
        # Tornado closes its own when it likes, and the number could be another file's then.
        socket = os.dup(stream.socket.fileno())
        try:
            await in_background(lambda: copy(self._file, socket, begin, end, stream.closed), "download")
            upstream.has_sent(connection, end - begin)
        except (BrokenPipeError, ConnectionResetError):
            # Cancelled.
            stream.close()
        except OSError as error:
            # The browser must notice that this is not all.
            self.log.warning("%s was not sent to its end: %s", ascii(self.path), error.strerror)
            stream.close()
        finally:
            os.close(socket)


def copy(file: int, socket: int, begin: int, end: int, is_over: Callable[[], bool]) -> None:
    """Send bytes *begin* to *end* of *file* into *socket*, as fast as they are taken. For a thread.

    :param socket: one that does not block.
    :param is_over: whether nobody waits for it any more.
    :raises BrokenPipeError: nobody takes it any more.
    :raises OSError: the file is shorter by now, or cannot be read.
    """
    writable = select.poll()
    writable.register(socket, select.POLLOUT)
    by_kernel = True
    while begin < end:
        if is_over():
            raise BrokenPipeError
        if not writable.poll(LOOK):
            continue
        try:
            if by_kernel:
                sent = os.sendfile(socket, file, begin, end - begin)
            else:
                piece = os.pread(file, min(PIECE, end - begin), begin)
                sent = os.write(socket, piece) if piece else 0
        except BlockingIOError:
            continue
        except OSError as error:
            # Some file systems cannot.
            if not by_kernel or error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            by_kernel = False
            continue
        if not sent:
            raise OSError(errno.EIO, "it has become shorter meanwhile")
        begin += sent
