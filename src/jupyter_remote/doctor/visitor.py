"""A browser of the doctor's: it asks Apache for pages and websockets as any other would."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import websocket

from .. import tls

#: Seconds. A kernel of an environment that is still being made takes longest.
PATIENCE = 120


@dataclass(frozen=True)
class Answer:
    """*headers* have small names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class Visitor:
    """Visits one Jupyter. Whether its certificate can be trusted is another question, and is not asked here.

    :param name: what the machine is called: it is in each request, whatever the address.
    :param address: to connect to.
    """

    def __init__(self, name: str, address: str, base_url: str, *, https: bool) -> None:
        scheme = "https" if https else "http"
        self._origin = f"{scheme}://{name}"
        #: the first page
        self.url = f"{self._origin}{base_url}/"
        self._name = name
        self._address = address
        self._base_url = base_url
        self._https = https
        self._cookies: dict[str, str] = {}

    def connect(self, port: int = 0, seconds: float = 10) -> socket.socket:
        """A connection, with TLS where pages come by https.

        :param port: 443 or 80 without it.
        :raises OSError: nobody answers, or not with TLS.
        """
        made: socket.socket
        if not self._https or port == 80:
            made = socket.create_connection((self._address, port or 80), seconds)
        else:
            made = tls.handshake(self._name, self._address, port or 443, tls.unverified(), seconds)
        made.settimeout(PATIENCE)
        return made

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, *, port: int = 0
    ) -> Answer:
        """Send one request on a connection of its own. Redirects are not followed.

        :param path: below the base URL, ``/api``.
        :raises OSError: there is no connection, or no answer.
        """
        connection = http.client.HTTPConnection(self._name)
        connection.sock = self.connect(port)
        sent = {"User-Agent": "jupyter-remote doctor", **(headers or {})}
        if self._cookies:
            sent["Cookie"] = self._cookie_header()
        with contextlib.closing(connection):
            try:
                connection.request(method, f"{self._base_url}{path}", body, sent)
                answer = connection.getresponse()
                content = answer.read()
            except http.client.HTTPException as error:
                raise OSError(str(error) or type(error).__name__) from error
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self._cookies[name] = morsel.value
        return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, content)

    def api(self, method: str, path: str, content: Any = None) -> Answer:
        """Ask Jupyter's interface, ``/api/PATH``, with JSON and the token against forged requests."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "X-XSRFToken": self._xsrf()}
        return self.ask(method, f"/api/{path}", body, headers)

    def log_in(self, token: str) -> bool:
        """Follow a login link, as the page of the link does. Whether we are in."""
        page = self.ask("GET", "/login?link")
        found = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        form = urlencode({"link": token, "_xsrf": found[1] if found else self._xsrf()}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self._origin}
        self.ask("POST", "/login?link", form, kind)
        return self.ask("GET", "/api/me").status == 200

    def log_out(self) -> None:
        """Leave no session behind."""
        with contextlib.suppress(OSError):
            self.ask("GET", "/logout")

    def websocket(self, path: str) -> websocket.WebSocket:
        """Open a websocket from a page of this Jupyter.

        :raises websocket.WebSocketException: it is refused.
        :raises OSError: there is no connection.
        """
        return websocket.create_connection(
            f"ws://{self._name}{self._base_url}{path}",
            socket=self.connect(),
            origin=self._origin,
            cookie=self._cookie_header(),
            timeout=PATIENCE,
        )

    def _cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    def _xsrf(self) -> str:
        return self._cookies.get("_xsrf", "")
