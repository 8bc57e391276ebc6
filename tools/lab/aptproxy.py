"""A small caching HTTP proxy on the bridge, so that apt works in boxes and repeats are quick.

It fetches the way this machine's apt does: through the same proxy, trusting the same certificates.
It serves package archives only, and listens on the bridge only. ``ensure()`` starts it in the
background; it ends by itself when no box has been up and nothing was asked for a while.

An ``https://`` source is written ``http://HOST:443/`` for it (:func:`through`): apt would tunnel
past any cache otherwise.
"""

from __future__ import annotations

import email.utils
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from jupyter_remote.run import EX_UNAVAILABLE, die, run
from lab import cache, network

PORT = 3142
#: seconds for which an index is served without asking whether it changed
FRESH = 300
#: seconds without a request and without a box after which the proxy ends
IDLE = 900
#: days after which a file that nobody asked for is removed
KEEP_DAYS = 30
#: how often a file is asked for when the archive does not answer, or is too busy to
ATTEMPTS = 4
#: headers of an archive's answer that apt looks at
KEPT_HEADERS = ("Content-Type", "Last-Modified", "ETag", "Content-Length")


def ensure() -> str:
    """The address of the running proxy, ``http://IP:PORT``; starts it when it is not there.

    :raises Mistake: it cannot be started.
    """
    network.ensure_bridge()
    address = f"http://{network.GATEWAY}:{PORT}"
    if _answers():
        return address
    directory = cache.directory() / "apt"
    directory.mkdir(exist_ok=True)
    with cache.locked(directory / "start"):
        if _answers():
            return address
        with (directory / "log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "lab.aptproxy", str(directory)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
        for _ in range(100):
            if _answers():
                return address
            time.sleep(0.05)
    die("the lab's apt proxy does not start", hint=f"see {directory / 'log'}", code=EX_UNAVAILABLE)


def through(source: str) -> str:
    """A ``deb …`` line as a box must spell it to go through the proxy."""
    words = source.split()
    for position, word in enumerate(words):
        if word.startswith("https://"):
            parts = urlsplit(word)
            words[position] = f"http://{parts.hostname}:{parts.port or 443}{parts.path}"
    return " ".join(words)


def _answers() -> bool:
    try:
        socket.create_connection((network.GATEWAY, PORT), timeout=1).close()
    except OSError:
        return False
    return True


class _Archive:
    """The files fetched so far, below *directory*."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "files"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.partial = directory / "partial"
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir()
        self.locks: dict[str, threading.Lock] = {}
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler(_proxies()))
        for body in self.directory.iterdir():
            if time.time() - body.stat().st_mtime > KEEP_DAYS * 86400:
                body.unlink(missing_ok=True)

    def get(self, url: str) -> tuple[int, dict[str, str], Path | None]:
        """Status, headers and body of *url*, from the cache where it is known to be the same."""
        name = hashlib.sha256(url.encode()).hexdigest()
        body, head = self.directory / name, self.directory / f"{name}.json"
        with self.locks.setdefault(name, threading.Lock()):
            known = json.loads(head.read_text()) if body.exists() and head.exists() else None
            if known and (_never_changes(url) or time.time() - known["checked"] < FRESH):
                os.utime(body)
                os.utime(head)
                return 200, known["headers"], body
            headers: dict[str, str] = {}
            for attempt in range(ATTEMPTS):
                time.sleep(attempt)
                status, headers = self._fetch(url, known["headers"].get("Last-Modified") if known else None, body)
                if status in (200, 304):
                    break
                print(f"{url}: {status}", file=sys.stderr, flush=True)
                if status < 429:
                    return status, {}, None
            else:
                return 502, {}, None
            if status == 304 and known:
                headers = known["headers"]
            headers["Content-Length"] = str(body.stat().st_size)
            head.write_text(json.dumps({"url": url, "checked": time.time(), "headers": headers}))
            return 200, headers, body

    def _fetch(self, url: str, since: str | None, body: Path) -> tuple[int, dict[str, str]]:
        """Status and headers of *url*; what it holds goes to *body* when it came whole. 599: no answer."""
        request = urllib.request.Request(url, headers={"User-Agent": "jupyter-remote-lab"})
        if since:
            request.add_header("If-Modified-Since", since)
        part = self.partial / f"{body.name}-{threading.get_ident()}"
        try:
            with self.opener.open(request, timeout=120) as answer, part.open("wb") as file:
                headers = {key: answer.headers[key] for key in KEPT_HEADERS if key in answer.headers}
                shutil.copyfileobj(answer, file, 1 << 20)
        except urllib.error.HTTPError as error:
            return error.code, {}
        except (OSError, http.client.HTTPException) as error:
            print(f"{url}: {error}", file=sys.stderr, flush=True)
            return 599, {}
        if part.stat().st_size != int(headers.get("Content-Length", part.stat().st_size)):
            return 599, {}
        part.rename(body)
        return 200, headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def do_GET(self) -> None:
        self.server.last_request = time.monotonic()
        parts = urlsplit(self.path)
        if not parts.hostname or not {"dists", "pool"} & set(parts.path.split("/")):
            self.send_error(403, "package archives only")
            return
        scheme = "https" if parts.port == 443 else "http"
        status, headers, body = self.server.archive.get(parts._replace(scheme=scheme).geturl())
        if body is None:
            self.send_error(status)
            return
        since, changed = self.headers.get("If-Modified-Since"), headers.get("Last-Modified")
        if since and changed and _seconds(since) >= _seconds(changed):
            self.send_response(304)
            self.end_headers()
            return
        with body.open("rb") as file:
            self.send_response(200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            shutil.copyfileobj(file, self.wfile, 1 << 20)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of what went well."""


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, archive: _Archive) -> None:
        super().__init__((network.GATEWAY, PORT), _Handler)
        self.archive = archive
        self.last_request = time.monotonic()

    def service_actions(self) -> None:
        boxes = any(Path(f"/sys/class/net/{network.BRIDGE}/brif").glob("*"))
        if not boxes and time.monotonic() - self.last_request > IDLE:
            threading.Thread(target=self.shutdown).start()


def _never_changes(url: str) -> bool:
    return "/by-hash/" in url or "/pool/" in url


def _seconds(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp()


def _proxies() -> dict[str, str]:
    """The proxies that this machine's apt uses: its own setting, else the environment's."""
    proxies = urllib.request.getproxies()
    for line in run(
        "apt-config", "shell", "http", "Acquire::http::Proxy", "https", "Acquire::https::Proxy"
    ).stdout.split():
        scheme, _, address = line.partition("=")
        if address.strip("'") not in ("", "DIRECT", "false"):
            proxies[scheme] = address.strip("'")
    return proxies


def main() -> None:
    """Serve until idle. The one argument is the directory to keep files in."""
    directory = Path(sys.argv[1])
    with (directory / "running.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _Proxy(_Archive(directory)).serve_forever(poll_interval=10)


if __name__ == "__main__":
    main()
