"""What we use of Jupyter and tornado beyond their documented interfaces, each name once.

``tests/unit/server/test_upstream.py`` fails, name by name, when a new version has changed one of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from jupyter_client.manager import KernelManager
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.prometheus.metrics import KERNEL_CURRENTLY_RUNNING_TOTAL
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from jupyter_server_terminals.terminalmanager import TerminalManager
from tornado import httputil, iostream
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from . import late

#: For a handler of files that may be links. Before it was asked for (Debian 13's jupyter_server) all were followed.
FOLLOW_LINKS = {"follow_dir_symlinks": True} if hasattr(FileFindHandler, "follow_dir_symlinks") else {}


def import_lab() -> None:
    """Import JupyterLab's server part.

    Where Node.js is installed, that runs it (to ask yarn for the address of a registry that only a
    build would need): 0.4 s. It is not found while we import.
    """
    path = os.environ.get("PATH")
    os.environ["PATH"] = os.devnull
    try:
        import jupyterlab.labapp  # noqa: F401
    finally:
        late.end()
        if path is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = path


def websocket_of(delegate: httputil.HTTPMessageDelegate) -> WebSocketHandler | None:
    """The websocket handler that tornado's application made for a request, once the request is complete."""
    handler = getattr(delegate, "handler", None)
    return handler if isinstance(handler, WebSocketHandler) else None


def forget_body(delegate: httputil.HTTPMessageDelegate) -> None:
    """Free what was sent with a request that has been answered: handlers are garbage that is collected when it is."""
    handler = getattr(delegate, "handler", None)
    if handler is not None and handler._finished:
        delegate.chunks = bytearray()  # type: ignore[attr-defined]
        handler.request.body = b""


def is_connected(websocket: WebSocketHandler) -> bool:
    """Whether the websocket has not been closed by both sides yet."""
    return websocket.ws_connection is not None


def cut(websocket: WebSocketHandler, code: int, reason: str) -> None:
    """Close a websocket without waiting for the browser to say that it does so too."""
    assert websocket.ws_connection is not None
    stream = websocket.ws_connection.stream
    websocket.close(code, reason)
    if stream is not None:
        stream.close()


def stream_of(connection: HTTP1Connection | HTTP1ServerConnection) -> iostream.IOStream | None:
    """The connection's stream; None after a websocket has taken it over."""
    return connection.stream


def has_sent(connection: HTTP1Connection, size: int) -> None:
    """So many bytes of the answer's body have been written to the connection's socket, past its stream."""
    if connection._expected_content_remaining is not None:
        connection._expected_content_remaining -= size


def end_keep_alive(server: HTTPServer) -> None:
    """Close each connection of the server after the answer to the next request."""
    server.conn_params.no_keep_alive = True


def complete_headers(connection: HTTP1Connection, complete: Callable[[httputil.HTTPHeaders], None]) -> None:
    """Have *complete* see the headers of the answer before they leave, whichever handler wrote it."""
    write = connection.write_headers

    def write_completed(
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        complete(headers)
        return write(start_line, headers, chunk)

    connection.write_headers = write_completed  # type: ignore[method-assign]


def end_pings(websocket: WebSocketMixin) -> None:
    """Jupyter's own pings, which would keep the handler for half a minute after its connection was taken."""
    if websocket.ping_callback is not None:
        websocket.ping_callback.stop()


async def take_over(websocket: WebSocketHandler) -> tuple[int, bytes]:
    """Take the connection of a websocket away from tornado, once the handshake's answer has left.

    Nothing is sent to the browser. To tornado it looks as if the browser had gone.

    :returns: the socket's descriptor, and what was read from it already.
    :raises StreamClosedError: the browser has gone.
    """
    assert websocket.ws_connection is not None
    stream = websocket.ws_connection.stream
    assert isinstance(stream, iostream.IOStream)
    await stream.write(b"")
    # From here on in one go, so that nothing more is read.
    early = bytes(stream._read_buffer)
    file = os.dup(stream.socket.fileno())
    stream.close()
    return file, early


def has_connection_file(kernel: KernelManager, has_one: bool) -> None:
    """Whether the kernel's connection file is written, and is to be removed after its end."""
    kernel._connection_file_written = has_one


def has_been_started(kernel: KernelManager, arguments: dict[str, Any]) -> None:
    """The manager need not start its kernel: it was, with these arguments, which a restart uses again."""
    kernel._launch_args = arguments
    kernel._attempted_start = True
    kernel._ready = asyncio.Future(loop=IOLoop.current().asyncio_loop)  # type: ignore[attr-defined]
    kernel._ready.set_result(None)


def add_kernel(kernels: AsyncMappingKernelManager, kernel_id: str, kernel: ServerKernelManager) -> None:
    """What Jupyter does at the end of a kernel's start."""
    kernels._kernels[kernel_id] = kernel
    kernels._kernel_connections[kernel_id] = 0
    kernels._kernel_ports[kernel_id] = kernel.ports
    kernels.start_watching_activity(kernel_id)  # type: ignore[no-untyped-call]
    died = partial(kernels._handle_kernel_died, kernel_id)
    kernels.add_restart_callback(kernel_id, died, "dead")
    KERNEL_CURRENTLY_RUNNING_TOTAL.labels(type=kernel.kernel_name).inc()


def forget_kernel(kernels: AsyncMappingKernelManager, kernel_id: str, kernel: ServerKernelManager) -> None:
    """The contrary."""
    kernels._kernels.pop(kernel_id, None)
    kernels._kernel_connections.pop(kernel_id, None)
    kernels._kernel_ports.pop(kernel_id, None)
    KERNEL_CURRENTLY_RUNNING_TOTAL.labels(type=kernel.kernel_name).dec()


def set_connections(kernels: AsyncMappingKernelManager, kernel_id: str, number: int) -> None:
    """How many are connected to a kernel, as the list of kernels says it."""
    if kernel_id in kernels._kernel_connections:
        kernels._kernel_connections[kernel_id] = number


def all_kernels(kernels: AsyncMappingKernelManager) -> Iterable[KernelManager]:
    """All that there are."""
    return list(kernels._kernels.values())


def free_name(terminals: TerminalManager) -> str:
    """The first number that no terminal has."""
    return str(terminals._next_available_name())


def begin_culling(terminals: TerminalManager) -> None:
    """Look now and then for terminals that have done nothing for long, if the owner wants it."""
    terminals._initialize_culler()


def add_first(application: Application, pattern: str, handler: type[RequestHandler], arguments: dict[str, Any]) -> None:
    """Have *handler* answer before those that were there already; ``add_handlers`` has it answer after them."""
    application.add_handlers(".*$", [(pattern, handler, arguments)])
    rules = application.default_router.rules
    rules.insert(0, rules.pop(-2))


class StaticFiles(FileFindHandler):
    """Static files of several applications.

    The original remembers where a file is by its relative path alone. JupyterLab and Notebook 7 have
    38 files of the same name, and whichever application asked second got 403.
    """

    _static_paths: dict[Any, str] = {}  # noqa: RUF012 - the original's own, not shared with it

    @classmethod
    def get_absolute_path(cls, roots: Any, path: str) -> str:
        # A list where a page is written, a tuple where a file is sent.
        key = (tuple(roots), path)
        found = cls._static_paths.get(key, "")
        if not found:
            FileFindHandler._static_paths.pop(path, None)
            found = FileFindHandler.get_absolute_path(roots, path)
            FileFindHandler._static_paths.pop(path, None)
            if found:
                cls._static_paths[key] = found
        return found
