"""A small Jupyter client of the tests' own: http(s) with cookies, and websockets, as a browser has them.

It shares no code with what it tests, and believes no certificate that it was not told to believe.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import websocket

#: seconds without any answer after which something hangs
PATIENCE = 120

#: for websockets: what they get is decoded, which finds what is no UTF-8; looking for it before takes 1 s a MB
QUICK = {"skip_utf8_validation": True}


def wait_until(what: Callable[[], Any], why: str | Callable[[], str]) -> Any:
    """The first true answer.

    :raises AssertionError: there is none; with *why*, which may have to be found out then.
    """
    give_up = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < give_up, why if isinstance(why, str) else why()
        time.sleep(0.05)
    return answer


class _At(httpx.HTTPTransport):
    """Sends every request to one address, whatever the name in its URL."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        # Apache ends a connection that has been quiet for 5 s, which is httpx's own time too: it would send on one
        # that ends at this moment. Browsers send such a request again, httpx fails.
        super().__init__(verify=context, limits=httpx.Limits(keepalive_expiry=2))
        self.address = address

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        there = httpx.Request(
            request.method,
            request.url.copy_with(host=self.address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": request.url.host},
        )
        return super().handle_request(there)


class Client:
    """A visitor of one Jupyter.

    :param address: IP address to connect to.
    :param url: what a browser would be given, ``https://box.test/jupyter``.
    :param ca: PEM text of the authority to believe; without it, those that this machine believes.
    """

    def __init__(self, address: str, url: str, ca: str | None = None) -> None:
        self.address = address
        self.url = url.rstrip("/")
        self.context = ssl.create_default_context(cadata=ca)
        self.http = httpx.Client(
            transport=_At(address, self.context), follow_redirects=True, timeout=PATIENCE, trust_env=False
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    # -- pages -----------------------------------------------------------------------------------

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Fetch *path* below Jupyter's own address, ``api/status``. Redirects are followed."""
        return self.http.get(f"{self.url}/{path}", **more)

    def send(self, method: str, path: str, body: object = None) -> httpx.Response:
        """POST, PUT, PATCH or DELETE with a JSON body, and with the token against forged requests."""
        content = None if body is None else json.dumps(body)
        return self.http.request(
            method, f"{self.url}/{path}", content=content, headers={"X-XSRFToken": self._cookie("_xsrf")}
        )

    def api(self, method: str, path: str, body: object = None) -> Any:
        """As :meth:`send` to ``api/PATH``, and its JSON answer. GET too.

        :raises httpx.HTTPStatusError: the answer is an error.
        """
        answer = self.get(f"api/{path}") if method == "GET" else self.send(method, f"api/{path}", body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    # -- logging in ------------------------------------------------------------------------------

    def login(self, password: str) -> Client:
        """Log in, and return the client itself.

        :raises AssertionError: the password is not taken.
        """
        assert self.try_login(password), "the password is not taken"
        return self

    def try_login(self, password: str) -> bool:
        """Fill the login page in, as a browser does. Whether we are in afterwards."""
        page = self.get("login")
        page.raise_for_status()
        found = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        token = found.group(1) if found else self._cookie("_xsrf")
        self.http.post(f"{self.url}/login", data={"password": password, "_xsrf": token})
        return self.logged_in

    def follow(self, link: str) -> bool:
        """Open a login link, as a browser does whose script sends what is behind the ``#``. Whether we are in then."""
        page, _, fragment = link.partition("#")
        self.send_link(fragment.removeprefix("token="), page)
        return self.logged_in

    def send_link(self, token: str, page: str = "", **more: Any) -> httpx.Response:
        """What the page of a login link does; the answer to it.

        :param page: its address, if it is not the usual one.
        """
        shown = self.http.get(page or f"{self.url}/login?link")
        found = re.search(r'name="_xsrf" value="([^"]+)"', shown.text)
        fields = {"link": token, "_xsrf": found.group(1) if found else "", **more.pop("data", {})}
        return self.http.post(f"{self.url}/login?link", data=fields, **more)

    @property
    def logged_in(self) -> bool:
        """Whether the server lets us at something that is not public."""
        return self.get("api/status").status_code == 200

    def _cookie(self, name: str) -> str:
        """Of several of that name, a hub's too, the one that a server at our address would take."""
        here = urlsplit(self.url).path + "/"
        found = [one for one in self.http.cookies.jar if one.name == name]
        found.sort(key=lambda one: (here.startswith(one.path), len(one.path)))
        return found[-1].value or "" if found else ""

    # -- websockets ------------------------------------------------------------------------------

    def websocket(self, path: str, origin: str | None = None) -> websocket.WebSocket:
        """Open a websocket below Jupyter's address, from a page of its own origin.

        :param origin: pretend that the page is from elsewhere.
        :raises websocket.WebSocketBadStatusException: the server refuses; ``status_code`` says how.
        """
        parts = urlsplit(self.url)
        assert parts.hostname
        secure = parts.scheme == "https"
        plain = socket.create_connection((self.address, parts.port or (443 if secure else 80)), timeout=PATIENCE)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies.jar)
        # As browsers do: else what is typed waits until the other side has acknowledged the last pong.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return websocket.create_connection(
            f"{'wss' if secure else 'ws'}://{parts.netloc}{parts.path}/{path}",
            socket=self.context.wrap_socket(plain, server_hostname=parts.hostname) if secure else plain,
            cookie=cookies,
            origin=origin or f"{parts.scheme}://{parts.netloc}",
            timeout=PATIENCE,
            **QUICK,
        )

    def start_kernel(self, name: str | None = None) -> Kernel:
        """Start a kernel, the default one without *name*, and connect to it."""
        made = self.api("POST", "kernels", {"name": name} if name else {})
        return self.connect(made["id"])

    def connect(self, kernel_id: str) -> Kernel:
        """Connect to a kernel that runs."""
        session = uuid.uuid4().hex
        return Kernel(
            self, kernel_id, session, self.websocket(f"api/kernels/{kernel_id}/channels?session_id={session}")
        )

    def open_terminal(self) -> TerminalSocket:
        """Start a terminal on the server."""
        name = self.api("POST", "terminals")["name"]
        return TerminalSocket(name, self.websocket(f"terminals/websocket/{quote(name)}"))

    def events(self) -> websocket.WebSocket:
        """Subscribe to the server's events."""
        return self.websocket("api/events/subscribe")


@dataclass
class Executed:
    """What came of a cell."""

    #: everything it printed
    text: str = ""
    #: the last expression's value, as text
    value: str | None = None
    #: name and message of the exception that ended it
    error: str | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Kernel:
    """A connection to a kernel."""

    client: Client
    id: str
    session: str
    channels: websocket.WebSocket

    def submit(self, code: str, cell: str = "") -> str:
        """Send *code* and do not wait; returns the message's id.

        :param cell: the id of the notebook's cell that it is, as JupyterLab tells it.
        """
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": True}
        return self.send("shell", "execute_request", content, {"cellId": cell} if cell else {})

    def send(self, channel: str, kind: str, content: dict[str, Any], metadata: dict[str, Any] | None = None) -> str:
        """Send any message; returns its id."""
        name = uuid.uuid4().hex
        header = {"msg_id": name, "msg_type": kind, "username": "", "session": self.session, "version": "5.3"}
        message = {
            "header": header,
            "parent_header": {},
            "metadata": metadata or {},
            "content": content,
            "channel": channel,
        }
        self.channels.send(json.dumps({**message, "buffers": []}))
        return name

    def execute(self, code: str) -> Executed:
        """Run *code* and wait until it is done.

        :raises AssertionError: nothing comes for two minutes.
        """
        return self.result(self.submit(code))

    def result(self, request: str) -> Executed:
        """What comes of a request sent before; waits for its end."""
        done = Executed()
        printed: list[str] = []
        replied = idle = False
        while not (replied and idle):
            message = self.receive()
            if message["parent_header"].get("msg_id") != request:
                continue
            done.messages.append(message)
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "execute_result":
                done.value = content["data"]["text/plain"]
            elif kind == "error":
                done.error = f"{content['ename']}: {content['evalue']}"
            elif kind == "execute_reply":
                replied = True
            elif kind == "status":
                idle = content["execution_state"] == "idle"
        done.text = "".join(printed)
        return done

    def receive(self) -> dict[str, Any]:
        """The next message of any channel."""
        try:
            frame = self.channels.recv()
        except websocket.WebSocketTimeoutException:
            raise AssertionError(f"nothing came from kernel {self.id} for {PATIENCE} s") from None
        message: dict[str, Any] = json.loads(frame)
        return message

    def interrupt(self) -> None:
        """What the square button does."""
        self.client.api("POST", f"kernels/{self.id}/interrupt")

    def shut_down(self) -> None:
        """End it."""
        self.channels.close()
        self.client.api("DELETE", f"kernels/{self.id}")


@dataclass
class TerminalSocket:
    """A terminal on the server."""

    name: str
    channel: websocket.WebSocket

    def type(self, text: str) -> None:
        """Type *text*; ``\\r`` is Enter."""
        self.channel.send(json.dumps(["stdin", text]))

    def run(self, line: str) -> str:
        """Run a shell line and return what it printed."""
        begin, end = uuid.uuid4().hex, uuid.uuid4().hex
        # in two halves, since what is typed is echoed among what is printed
        marks = [f"printf %s%s\\\\n {mark[:8]} {mark[8:]}" for mark in (begin, end)]
        self.type(f"{marks[0]}; {line}; {marks[1]}\r")
        printed = self.read_until(end).rpartition(end)[0].partition(begin)[2]
        return printed.replace("\r", "").strip("\n")

    def read_until(self, text: str) -> str:
        """All that appears until *text* does.

        :raises AssertionError: it does not.
        """
        seen = ""
        give_up = time.monotonic() + PATIENCE
        while text not in seen:
            if time.monotonic() > give_up:
                raise AssertionError(f"{text!r} does not appear in the terminal:\n{seen}")
            kind, *values = json.loads(self.channel.recv())
            if kind == "stdout":
                seen += values[0]
        return seen


class Page:
    """A websocket of a page: it is read all the time, and opened again as soon as it has ended, as JupyterLab does."""

    def __init__(self, visitor: Client, path: str) -> None:
        self._visitor, self._path = visitor, path
        self.opened = 0
        self._closed = False
        self._channel = self._open()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _open(self) -> websocket.WebSocket:
        channel = self._visitor.websocket(self._path)
        self.opened += 1
        return channel

    def _read(self) -> None:
        while not self._closed:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                while self._channel.recv():
                    pass
            self._channel.shutdown()
            with contextlib.suppress(OSError, websocket.WebSocketException):
                time.sleep(0.01)
                if not self._closed:
                    self._channel = self._open()
        self._channel.shutdown()

    def close(self) -> None:
        self._closed = True
        # By who reads it: else another connection may have its number already.
        with contextlib.suppress(OSError, AttributeError):
            self._channel.sock.shutdown(socket.SHUT_RDWR)
        self._reading.join()
