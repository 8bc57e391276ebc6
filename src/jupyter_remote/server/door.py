"""The way in: what is asked of a request before any handler of Jupyter or of an extension sees it.

Three questions: does the browser call us by a name that is ours, is somebody logged in, and is it our own
page that asks, or a person who follows a link, and not somebody else's page that makes a browser ask. Handlers
ask the last two again, each for itself; asking here first means that a handler which forgets to is not an
open door.

Behind Apache only Apache can connect, and what it says about the client (``X-Real-IP``,
``X-Forwarded-Proto``) is true. With ``listen`` set to a port, every local user can connect and claim
to be any address; it is used for the log only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from http.client import responses
from urllib.parse import quote

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.websocket import WebSocketHandler

from ..keeper.wire import HOUR
from . import headers, pages, upstream
from .instance import Instance

#: Addresses whose X-Forwarded-For entry is a proxy of this machine and never the client.
LOCAL_PROXIES = ["127.0.0.1", "::1"]

#: Below the base URL, without login: the login itself, what its page needs, and the version number.
PUBLIC = re.compile(r"(login|logout|api)|static/.+", re.DOTALL)

#: Those of them that do something. The others give the same to everybody, whatever page asks.
DOES_SOMETHING = ("login", "logout")

#: Bytes that somebody who is not logged in may send to them: a form with a password. Handlers keep what they are
#: sent in memory.
STRANGERS_BODY = 64 * 1024

#: Browsers and robots ask for these at the root of the site. Here upstream's handler for them fails.
NOT_HERE = ("favicon.ico", "robots.txt")

#: What browsers say of a request that a page of another origin has caused.
ELSEWHERE = ("cross-site", "same-site")

_LONGEST_WAY_BACK = 4000

_PORT = re.compile(r":[0-9]*\Z")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")

Find = Callable[[httputil.HTTPServerRequest], httputil.HTTPMessageDelegate]


class Door(httputil.HTTPServerConnectionDelegate):
    """Stands in front of tornado's application, and knows who is inside."""

    def __init__(
        self,
        instance: Instance,
        inside: Find,
        is_logged_in: Callable[[httputil.HTTPServerRequest], bool],
        has_to_wait: Callable[[httputil.HTTPServerRequest], int],
        log: logging.Logger,
    ) -> None:
        """
        :param inside: the application's own way to find the handler of a request.
        :param is_logged_in: whether a request comes from somebody who has logged in.
        :param has_to_wait: how many seconds somebody has to wait who tries to log in; 0 when they need not.
        """
        self.instance = instance
        self.log = log
        self._inside = inside
        self._is_logged_in = is_logged_in
        self._has_to_wait = has_to_wait
        self._names = {*instance.server_names, "localhost"}
        self._visits: weakref.WeakKeyDictionary[HTTP1ServerConnection, _Visit] = weakref.WeakKeyDictionary()
        #: with the time at which each was opened
        self._websockets: weakref.WeakKeyDictionary[WebSocketHandler, float] = weakref.WeakKeyDictionary()
        self._used = 0.0
        #: when somebody has asked last who is not logged in, on the clock of time.monotonic()
        self.knocked = 0.0

    # -- who may come in ----------------------------------------------------------------------------

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        assert isinstance(server_conn, HTTP1ServerConnection)
        assert isinstance(request_conn, HTTP1Connection)
        self.on_close(server_conn)
        visit = _Visit(self, server_conn, request_conn, first=server_conn not in self._visits)
        self._visits[server_conn] = visit
        return visit

    def on_close(self, server_conn: object) -> None:
        """The last request of this connection, if there was one, has been answered, or nobody waits for it.

        What was sent with it is freed. (One with ``Connection: close`` has not been answered when tornado says this.)
        """
        assert isinstance(server_conn, HTTP1ServerConnection)
        if visit := self._visits.get(server_conn):
            visit.forget()

    def find(self, request: httputil.HTTPServerRequest, visit: _Visit) -> httputil.HTTPMessageDelegate:
        """Whoever answers this request: the application, or a refusal."""
        host = host_name(request.host)
        if not self._is_ours(host):
            shown = host if _NAME.fullmatch(host) else ""
            self.log.warning(
                "Refused: %s asked for the name %s, which is not one of this server's.",
                request.remote_ip,
                shown or ascii(host)[:80],
            )
            return _Answer(request, 403, pages.unknown_name(shown))
        base = self.instance.base_url
        below = request.path.startswith(base)
        name = request.path[len(base) :] if below else ""
        if name in NOT_HERE:
            return _Answer(request, 404)
        is_inside = self._is_logged_in(request)
        if is_inside:
            self._used = time.monotonic()
        elif name != "api":
            # (That is the version, which programs ask for to see whether all is well.)
            self.knocked = time.monotonic()
        visit.is_owners = is_inside
        is_public = below and bool(PUBLIC.fullmatch(name))
        if (name in DOES_SOMETHING or (is_inside and not is_public)) and self._is_from_elsewhere(request):
            return self._refuse(request, "Asked by a page of another origin")
        if name == "logout" and request.headers.get("Sec-Fetch-Site") in ELSEWHERE:
            # A link on another site logs nobody out.
            return _Answer(request, 302, headers={"Location": base})
        if is_public and not is_inside:
            if _announced(request.headers) > STRANGERS_BODY:
                return _Answer(request, 413)
            # As much of what is not announced.
            assert isinstance(request.connection, HTTP1Connection)
            request.connection.set_max_body_size(STRANGERS_BODY)
        # A login link is no guess. (With a password in it, the handler counts it as one.)
        is_guess = request.method == "POST" and name == "login" and "link" not in request.query_arguments
        if is_guess and (wait := self._has_to_wait(request)):
            return _Answer(request, 429, pages.wait(host, base, wait, base), {"Retry-After": str(wait)})
        if is_public or is_inside:
            return self._inside(request)
        if request.method in ("GET", "HEAD") and not is_for_programs(request, base):
            wanted = quote(_without_token(request), safe="")
            # Longer than that and it does not fit into a header on its way through Apache.
            way_back = f"?next={wanted}" if below and len(wanted) < _LONGEST_WAY_BACK else ""
            return _Answer(request, 302, headers={"Location": f"{base}login{way_back}"})
        return self._refuse(request, "Not logged in")

    def _refuse(self, request: httputil.HTTPServerRequest, why: str) -> _Answer:
        self.log.info(
            "Refused: %s %s from %s: %s.", request.method, ascii(request.path)[1:-1], request.remote_ip, why.lower()
        )
        body = json.dumps({"message": "Forbidden", "reason": why})
        return _Answer(request, 403, body, {"Content-Type": "application/json"})

    def _is_ours(self, host: str) -> bool:
        if host in self._names:
            return True
        try:
            # DNS rebinding needs a name; an address cannot lie about who is asked.
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _is_from_elsewhere(self, request: httputil.HTTPServerRequest) -> bool:
        """Whether a page that is not ours makes a browser ask this, with the owner's cookie.

        The cookie's SameSite is not enough: another host of the same domain is the same site, and so is another
        port of this one. What programs send has neither of these headers, and no page of another origin can send
        ``Authorization``, for which a browser asks first and is not given leave.
        """
        headers = request.headers
        if "Authorization" in headers:
            return False
        origin = headers.get("Origin")
        if origin is not None:
            # Of each websocket, and of whatever changes something.
            scheme, _, host = origin.lower().partition("://")
            # (By a port of `listen` our own pages have come without https, as an ssh tunnel brings them.)
            return host != request.host.lower() or (request.protocol == "https" and scheme != "https")
        if headers.get("Sec-Fetch-Site") not in ELSEWHERE:
            return False
        is_link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        return not is_link or request.method not in ("GET", "HEAD")

    # -- how they leave -----------------------------------------------------------------------------

    async def close(self, server: HTTPServer, patience: float, grace: float = 1.0) -> int:
        """Let nobody in any more, answer whoever is inside, close the websockets with 1012.

        The listening sockets are closed in this process only. systemd holds them: who connects from
        now on waits there for the next process.

        :param patience: seconds that requests which are being answered get.
        :param grace: seconds for a connection that was accepted, but has not said anything yet.
        :returns: how many requests were not answered in that time.
        """
        server.stop()
        upstream.end_keep_alive(server)
        # Who was let in a moment ago becomes a visit in the loop's next turn.
        await asyncio.sleep(0)
        told: set[WebSocketHandler] = set()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (waited := loop.time() - began) < patience:
            talking = self.talking()
            # Each time round: a handshake may have been under way.
            for websocket in talking:
                if websocket not in told:
                    told.add(websocket)
                    # 1012, service restart: Jupyter's clients connect again by themselves.
                    with contextlib.suppress(Exception):
                        websocket.close(1012, "The server restarts")
            if not talking and not any(visit.is_inside(waited < grace) for visit in self._all()):
                break
            await asyncio.sleep(0.005)
        left = sum(visit.is_inside(False) for visit in self._all())
        await server.close_all_connections()
        return left

    def _all(self) -> Iterator[_Visit]:
        return iter(list(self._visits.values()))

    def welcome(self, websocket: WebSocketHandler) -> None:
        """Remember a websocket, so that it can be closed in order."""
        self._websockets[websocket] = time.monotonic()

    def renew(self) -> None:
        """Have pages open those again that are an hour old."""
        for websocket, opened in list(self._websockets.items()):
            if time.monotonic() - opened > HOUR and upstream.is_connected(websocket):
                websocket.close(1012, "Connect again")

    def hang_up(self, is_gone: Callable[[httputil.HTTPServerRequest], bool]) -> None:
        """Close websockets; those that were given to keepers are not here any more.

        :param is_gone: whether who has opened one may not come in any more.
        """
        for websocket in self.talking():
            if is_gone(websocket.request):
                # 1008, policy: whoever connects again is asked who they are.
                websocket.close(1008, "logged out")

    def cut(self, is_meant: Callable[[httputil.HTTPServerRequest], bool]) -> None:
        """Close websockets at once, since the web server in between is about to end; pages open them again.

        :param is_meant: whether it is to be closed.
        """
        for websocket in self.talking():
            if is_meant(websocket.request):
                upstream.cut(websocket, 1012, "connect again")

    def talking(self) -> list[WebSocketHandler]:
        """The websockets that are open."""
        return [websocket for websocket in list(self._websockets) if upstream.is_connected(websocket)]

    def has_websockets(self, but: type[WebSocketHandler] | tuple[()] = ()) -> bool:
        """Whether somebody has one open: a page, at least.

        :param but: those of this handler do not count.
        """
        return any(not isinstance(each, but) for each in self.talking())

    def used(self) -> float:
        """When somebody who is logged in has last asked for something, or waited for it, on the clock of
        time.monotonic(); 0 when nobody has."""
        if any(visit.is_owners and visit.is_inside(False) for visit in self._all()):
            self._used = time.monotonic()
        return self._used


class _Visit(httputil.HTTPMessageDelegate):
    """One request, from the moment its connection is ready for it until the next one."""

    def __init__(
        self, door: Door, server_conn: HTTP1ServerConnection, request_conn: HTTP1Connection, first: bool
    ) -> None:
        self._door = door
        # Weak: the door's dictionary is keyed by it.
        self._server_conn = weakref.ref(server_conn)
        self._request_conn = request_conn
        upstream.complete_headers(request_conn, headers.complete)
        self._first = first
        self._delegate: httputil.HTTPMessageDelegate | None = None
        #: whether it comes from somebody who is logged in
        self.is_owners = False

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, httputil.RequestStartLine)
        if "Cookie" in headers:
            headers["Cookie"] = first_cookies(headers["Cookie"])
        request = httputil.HTTPServerRequest(
            connection=self._request_conn,
            server_connection=self._server_conn(),
            start_line=start_line,
            headers=headers,
        )
        self._delegate = self._door.find(request, self)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        assert self._delegate is not None
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        assert self._delegate is not None
        self._delegate.finish()
        websocket = upstream.websocket_of(self._delegate)
        if websocket is not None:
            self._door.welcome(websocket)

    def on_connection_close(self) -> None:
        if self._delegate is not None:
            self._delegate.on_connection_close()

    def forget(self) -> None:
        """Free what was sent with it, if it has been answered."""
        if self._delegate is not None:
            upstream.forget_body(self._delegate)

    def is_inside(self, count_silent: bool) -> bool:
        """Whether somebody waits for an answer.

        :param count_silent: also who has just connected and not sent a request yet.
        """
        stream = upstream.stream_of(self._request_conn)
        if stream is None or stream.closed():
            return False
        return self._delegate is not None or stream.writing() or (self._first and count_silent)


class _Answer(httputil.HTTPMessageDelegate):
    """A small answer that needs no handler; what the client sends is thrown away."""

    def __init__(
        self,
        request: httputil.HTTPServerRequest,
        status: int,
        body: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        self._request = request
        self._status = status
        self._body = body.encode()
        self._headers = httputil.HTTPHeaders(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Cache-Control": "no-store",
                **pages.HEADERS,
                **(headers or {}),
                "Content-Length": str(len(self._body)),
            }
        )

    def data_received(self, chunk: bytes) -> None:
        del chunk

    def finish(self) -> None:
        connection = self._request.connection
        assert connection is not None
        connection.write_headers(
            httputil.ResponseStartLine("HTTP/1.1", self._status, responses[self._status]),
            self._headers,
            b"" if self._request.method == "HEAD" else self._body,
        )
        connection.finish()


def _announced(headers: httputil.HTTPHeaders) -> int:
    """How many bytes a request says that it has; 0 when it does not say."""
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else 0


def host_name(host: str) -> str:
    """The name or address in a Host header: without port, brackets, case and the root's dot.

    >>> host_name("[::1]:8443"), host_name("Box.Test.:80")
    ('::1', 'box.test')
    """
    name = _PORT.sub("", host).lower()
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1]
    # An IPv6 address without brackets loses its last group above; no browser sends one.
    return name.removesuffix(".")


def is_for_programs(request: httputil.HTTPServerRequest, base_url: str) -> bool:
    """No page that a person looks at: a redirect to the login page would only confuse."""
    return (
        request.path.removeprefix(base_url).startswith(("api/", "lab/api/", "files/"))
        or request.headers.get("Upgrade", "").lower() == "websocket"
        or request.headers.get("Sec-Fetch-Mode", "navigate") not in ("navigate", "nested-navigate")
    )


def first_cookies(header: str) -> str:
    """Of several cookies of one name the first, which is the one of the longest path (RFC 6265, 5.4).

    Another Jupyter on the same host, at ``/``, sets an ``_xsrf`` that browsers send to us too. tornado would take
    the last one, and JupyterLab sends the first.

    >>> first_cookies("_xsrf=ours; a=b; _xsrf=theirs")
    '_xsrf=ours; a=b'
    """
    kept: dict[str, str] = {}
    for chunk in header.split(";"):
        kept.setdefault(chunk.partition("=")[0].strip(), chunk.strip())
    return "; ".join(kept.values())


def _without_token(request: httputil.HTTPServerRequest) -> str:
    """What was asked for, as it may be shown in an address bar."""
    path, _, query = (request.uri or request.path).partition("?")
    kept = "&".join(part for part in query.split("&") if part.partition("=")[0] != "token")
    return f"{path}?{kept}" if kept else path
