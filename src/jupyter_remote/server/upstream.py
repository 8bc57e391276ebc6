"""What we use of Jupyter and tornado beyond their documented interfaces, each name once.

``tests/unit/server/test_upstream.py`` fails, name by name, when a new version has changed one of them.
"""

from __future__ import annotations

import os
from typing import Any

from jupyter_server.base.handlers import FileFindHandler
from tornado import httputil, iostream
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.websocket import WebSocketHandler


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
        if path is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = path


def websocket_of(delegate: httputil.HTTPMessageDelegate) -> WebSocketHandler | None:
    """The websocket handler that tornado's application made for a request, once the request is complete."""
    handler = getattr(delegate, "handler", None)
    return handler if isinstance(handler, WebSocketHandler) else None


def is_connected(websocket: WebSocketHandler) -> bool:
    """Whether the websocket has not been closed by both sides yet."""
    return websocket.ws_connection is not None


def stream_of(connection: HTTP1Connection | HTTP1ServerConnection) -> iostream.IOStream | None:
    """The connection's stream; None after a websocket has taken it over."""
    return connection.stream


def end_keep_alive(server: HTTPServer) -> None:
    """Close each connection of the server after the answer to the next request."""
    server.conn_params.no_keep_alive = True


class StaticFiles(FileFindHandler):
    """Static files of several applications.

    The original remembers where a file is by its relative path alone. JupyterLab and Notebook 7 have
    38 files of the same name, and whichever application asked second got 403.
    """

    _static_paths: dict[Any, str] = {}  # noqa: RUF012 - the original's own, not shared with it

    @classmethod
    def get_absolute_path(cls, roots: Any, path: str) -> str:
        found = cls._static_paths.get((roots, path), "")
        if not found:
            FileFindHandler._static_paths.pop(path, None)
            found = FileFindHandler.get_absolute_path(roots, path)
            FileFindHandler._static_paths.pop(path, None)
            if found:
                cls._static_paths[(roots, path)] = found
        return found
