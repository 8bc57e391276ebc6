"""Web sites of somebody else, on which every address is an empty page."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from lab import network

from jupyter_remote.run import run


@dataclass(frozen=True)
class Elsewhere:
    """https sites on this machine's end of the boxes' network, all on one port."""

    ip: str
    port: int
    #: what a browser has to trust, PEM
    certificate: str


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = b"<!doctype html><title>Elsewhere</title><p>Have a look at these pictures."
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def sites(*names: str) -> Iterator[Elsewhere]:
    """Serve sites of these names."""
    network.ensure_bridge()
    with tempfile.TemporaryDirectory() as directory:
        key, certificate = Path(directory, "key.pem"), Path(directory, "cert.pem")
        run(
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere"),
            *("-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)),
            *("-keyout", key, "-out", certificate),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = ThreadingHTTPServer((network.GATEWAY, 0), _Page)
        server.daemon_threads = True
        # The handshake is each connection's own business, not the one of who accepts it.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Elsewhere(network.GATEWAY, server.server_port, certificate.read_text())
        finally:
            server.shutdown()
            server.server_close()
