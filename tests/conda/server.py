"""A small HTTP server that fails on demand: serves a directory, in a test's own process or in a box.

In a box: ``python3 server.py PORT DIRECTORY STATE``. STATE is a directory with ``faults.json``, read at each
request, and ``requests.log``, a JSON object a line. It needs the standard library only.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

HTML = b"<!DOCTYPE html><title>Welcome</title><p>Please log in to use this network.\n"
CHUNK = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong. Several can go wrong at once."""

    #: answer with this status instead of the file
    status: int = 0
    #: answer 200 with a page that is not the file, as networks that want a login do
    html: bool = False
    #: close the connection after so many bytes of the body; Content-Length says that there are more
    truncate: int | None = None
    #: send nothing more after so many bytes, and keep the connection open
    stall: int | None = None
    #: right length, wrong bytes: one in the middle is another
    corrupt: bool = False
    #: bytes a second
    rate: int = 0
    #: the address to go to instead
    redirect: str = ""
    #: say nothing about the length; the end of the connection is the end of the file
    no_length: bool = False
    #: send all of the file to whoever asks for a part of it
    ignore_ranges: bool = False
    #: only so many requests meet it, then all is well; 0: all
    times: int = 0


class Request(NamedTuple):
    """A request as it is logged. *sent* is the number of bytes of the body that were sent."""

    method: str
    path: str
    status: int
    sent: int
    range: str = ""


@dataclass(frozen=True)
class State:
    """The faults and the log, in files, so that they can be reached from outside a box."""

    directory: Path

    def fault(self, path: str, **what: Any) -> None:
        """From now on this goes wrong with *path* (a pattern as the shell's: ``*/repodata.json``).

        :param what: fields of :class:`Fault`.
        :raises TypeError: it has no such field.
        """
        faults = self._read()
        faults[path] = asdict(Fault(**what))
        self._write(faults)

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self._write({})

    def requests(self) -> list[Request]:
        """The requests so far, each logged when its answer has ended."""
        log = self.directory / "requests.log"
        return [Request(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    def forget(self) -> None:
        """Begin a new log."""
        (self.directory / "requests.log").unlink(missing_ok=True)

    def at(self, path: str) -> Iterator[tuple[str, Fault]]:
        """The faults that *path* has, each with its pattern."""
        for pattern, what in self._read().items():
            if fnmatch.fnmatchcase(path, pattern):
                yield pattern, Fault(**what)

    def _read(self) -> dict[str, dict[str, Any]]:
        file = self.directory / "faults.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def _write(self, faults: dict[str, dict[str, Any]]) -> None:
        new = self.directory / "faults.json.new"
        new.write_text(json.dumps(faults))
        new.rename(self.directory / "faults.json")


class Server(ThreadingHTTPServer):
    """Serves *directory*; see :class:`State` for what can be done to it."""

    daemon_threads = True
    #: a test that starts it again gets the port that it had
    allow_reuse_address = True

    def __init__(self, port: int, directory: Path, state: State) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.directory = directory
        self.state = state
        self._met: Counter[str] = Counter()
        self._lock = threading.Lock()

    def fault(self, path: str) -> Fault:
        """What goes wrong with this request; counts it for ``times``."""
        for pattern, fault in self.state.at(path):
            with self._lock:
                self._met[pattern] += 1
                if not fault.times or self._met[pattern] <= fault.times:
                    return fault
        return Fault()

    def handle_error(self, *_: Any) -> None:
        """Whoever went away in the middle had enough, which is no error here."""

    def log(self, request: Request) -> None:
        """Note what was asked and answered."""
        with self._lock, (self.state.directory / "requests.log").open("a") as log:
            log.write(json.dumps(request._asdict()) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.server.fault(path)
        try:
            status, sent = self._answer(path, fault)
        except (BrokenPipeError, ConnectionResetError):
            status, sent = 0, 0
        self.server.log(Request(self.command, path, status, sent, self.headers.get("Range", "")))

    def _answer(self, path: str, fault: Fault) -> tuple[int, int]:
        """Answer; status and bytes sent."""
        file = (self.server.directory / path.lstrip("/")).resolve()
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if fault.redirect:
            return self._send(302, headers | {"Location": fault.redirect}, b"", fault)
        if fault.html:
            return self._send(200, {"Content-Type": "text/html"}, HTML, fault)
        if fault.status or not file.is_file() or not file.is_relative_to(self.server.directory.resolve()):
            return self._send(fault.status or 404, {"Content-Type": "text/plain"}, b"no\n", fault)
        data = file.read_bytes()
        if fault.corrupt:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if fault.ignore_ranges:
            del headers["Accept-Ranges"]
        elif wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            if first > last:
                return self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"", fault)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return self._send(206, headers, data[first : last + 1], fault)
        return self._send(200, headers, data, fault)

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> tuple[int, int]:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if not fault.no_length:
            self.send_header("Content-Length", str(len(body)))
        self.close_connection = fault.no_length or fault.truncate is not None
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return status, 0
        ends = [limit for limit in (fault.truncate, fault.stall) if limit is not None]
        body = body[: min(ends, default=len(body))]
        pieces = CHUNK if not fault.rate else max(fault.rate // 10, 1)
        for start in range(0, len(body), pieces):
            self.wfile.write(body[start : start + pieces])
            if fault.rate:
                time.sleep(pieces / fault.rate)
        if fault.stall is not None:
            # until the other side has enough of it
            while self.connection.recv(CHUNK):
                pass
        return status, len(body)

    def log_message(self, *_: Any) -> None:
        """:class:`Server` has a log of its own."""


@dataclass
class Serving:
    """A server in this process, which can be stopped and started."""

    directory: Path
    state: State
    port: int = 0
    _server: Server | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = Server(self.port, self.directory, self.state)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Nobody listens at the address any more; :meth:`start` takes it again."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._server = None


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Serving]:
    """Serve *directory* on a free port of this machine's loopback for the length of a ``with`` block."""
    state = State(Path(tempfile.mkdtemp(prefix="serving-")))
    server = Serving(directory, state)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(state.directory)


if __name__ == "__main__":
    Server(int(sys.argv[1]), Path(sys.argv[2]), State(Path(sys.argv[3]))).serve_forever()
