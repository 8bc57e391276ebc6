"""Names, and who is let in to what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import websocket
from running import Browser, Running, say
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest, ResponseStartLine
from tornado.iostream import IOStream
from tornado.netutil import bind_unix_socket

from jupyter_remote.server.door import Door, host_name
from jupyter_remote.server.instance import Instance


@pytest.mark.parametrize(
    "host", ["box.test", "BOX.test.", "box.test:8443", "localhost", "192.0.2.7", "[2001:db8::7]", "[::1]:443"]
)
def test_the_machines_names_and_addresses_are_answered(visitor: Browser, host: str):
    assert visitor.get("api", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.test", "box.test.evil.test", "notbox.test", "localhost.evil.test"])
def test_another_name_is_refused_with_the_command_that_adds_it(visitor: Browser, host: str):
    answer = visitor.get("api", headers={"Host": host})
    assert answer.status_code == 403
    assert f"sudo jupyter-remote config set server_name {host}" in answer.text


@pytest.mark.parametrize(
    "host", ["<script>alert(1)</script>", "a;reboot", "$(reboot)", "a b", "evil_.test'", "ü.test", "-x.test", ""]
)
def test_a_name_that_is_none_is_not_repeated(visitor: Browser, host: str):
    connection = say(visitor, ["GET /jupyter/api HTTP/1.1", f"Host: {host}", "Connection: close"])
    answer = connection.makefile("rb").read().decode()
    assert answer.split()[1] in ("400", "403")
    assert not host or host not in answer
    assert "version" not in answer


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("box.test", "box.test"),
        ("Box.Test.:80", "box.test"),
        ("[::1]:8443", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_a_host_header_is_taken_apart(header: str, name: str):
    assert host_name(header) == name


def test_a_page_leads_to_the_login_and_back(shared: Running):
    with shared.visitor() as browser:
        page = browser.get("lab/tree/a%20b?x=1&y=2")
        assert page.url.path == "/jupyter/login"
        assert page.url.params["next"] == "/jupyter/lab/tree/a%20b?x=1&y=2"
        assert 'name="password"' in page.text


@pytest.mark.parametrize("path", ["api/contents", "lab/api/settings", "files/x.txt"])
def test_what_programs_ask_for_is_refused_without_a_redirect(visitor: Browser, path: str):
    answer = visitor.get(path)
    assert answer.status_code == 403
    assert answer.json()["message"] == "Forbidden"


def test_a_file_that_exists_looks_like_one_that_does_not(shared: Running, visitor: Browser):
    (shared.home / "diary.txt").touch()
    there, not_there = (
        visitor.http.get(f"{visitor.url}/{path}", follow_redirects=False)
        for path in ("files/diary.txt", "files/nothing.txt")
    )
    assert (there.status_code, there.content) == (not_there.status_code, not_there.content)


@pytest.mark.parametrize("path", ["api/kernels/x/channels", "api/events/subscribe", "terminals/websocket/1"])
def test_websockets_are_refused_without_login(visitor: Browser, path: str):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        visitor.websocket(path)
    assert refused.value.status_code == 403


def test_websockets_of_other_sites_are_refused(owner: Browser):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        owner.websocket("api/events/subscribe", origin="https://evil.test")
    assert refused.value.status_code == 403


def test_posts_of_other_sites_are_refused(owner: Browser):
    before = owner.api("GET", "kernels")
    without_token = owner.http.post(f"{owner.url}/api/kernels", content="{}")
    assert without_token.status_code == 403
    assert _names(owner.api("GET", "kernels")) == _names(before)


def _names(listed: list[dict[str, str]]) -> list[str]:
    """Of kernels or terminals. Other tests may have left some in the shared server."""
    return [one.get("id") or one["name"] for one in listed]


#: What a browser says when a page that is not ours makes it ask.
ELSEWHERE = {
    "another site": {"Origin": "https://evil.test"},
    "a neighbour": {"Origin": "https://sub.box.test"},
    "another port": {"Origin": "https://box.test:8443"},
    "our name without https": {"Origin": "http://box.test"},
    "a page in a sandbox": {"Origin": "null"},
    "a picture": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    "a script": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
    "a frame": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
}


@pytest.mark.parametrize("who", ELSEWHERE)
def test_the_owners_cookie_is_of_no_use_to_pages_from_elsewhere(owner: Browser, who: str):
    """Also where no handler looks, and with the token against forged requests."""
    token = {"X-XSRFToken": owner._cookie("_xsrf"), "Referer": f"{owner.url}/lab"}
    before = owner.api("GET", "terminals")
    for path in ("api/contents", "lab", "files/x", "no/such/page", "logout"):
        answer = owner.get(path, headers={**token, **ELSEWHERE[who]})
        assert answer.status_code == 403, path
        assert answer.json()["reason"] == "Asked by a page of another origin"
    for path in ("api/contents", "api/terminals", "login", "logout"):
        assert owner.http.post(f"{owner.url}/{path}", headers={**token, **ELSEWHERE[who]}).status_code == 403, path
    assert owner.logged_in
    assert _names(owner.api("GET", "terminals")) == _names(before)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://box.test"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
    ids=["a program", "our page", "our script", "typed", "a link in a mail"],
)
def test_links_our_pages_and_programs_are_let_in(owner: Browser, headers: dict[str, str]):
    assert owner.get("lab", headers=headers).status_code == 200


def test_a_link_elsewhere_logs_nobody_out(owner: Browser):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert owner.get("logout", headers=link).url.path.startswith("/jupyter/lab")
    assert owner.logged_in


@pytest.mark.parametrize("path", ["login", "logout", "api", "static/x"])
def test_a_stranger_sends_no_more_than_a_form_holds(visitor: Browser, path: str):
    much = b"x" * 65537
    assert visitor.http.post(f"{visitor.url}/{path}", content=much).status_code == 413
    # In pieces, of which the first says that it is too big.
    lines = [f"POST /jupyter/{path} HTTP/1.1", "Host: box.test", "Transfer-Encoding: chunked"]
    assert say(visitor, lines, b"10001\r\n").makefile("rb").read().startswith(b"HTTP/1.1 400")


def test_a_long_address_leads_to_the_login_without_a_way_back(visitor: Browser):
    page = visitor.get(f"lab/tree/{'a/' * 2500}")
    assert page.status_code == 200
    assert str(page.url) == f"{visitor.url}/login"


@pytest.mark.parametrize(
    "path",
    ["lab", "tree", "login", "logout", "api", "api/contents", "static/favicon.ico", "files/x", "x", "robots.txt"],
)
def test_every_answer_tells_browsers_what_others_may_not(owner: Browser, visitor: Browser, path: str):
    for browser in (owner, visitor):
        for method in ("GET", "HEAD", "POST", "PROPFIND"):
            if (method, path) == ("GET", "logout"):
                continue
            answer = browser.http.request(method, f"{browser.url}/{path}", follow_redirects=False)
            policy = answer.headers["content-security-policy"]
            assert "frame-ancestors 'self'" in policy or "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "referrer-policy" in answer.headers
            in_sandbox = "sandbox" in policy
            assert ("cross-origin-opener-policy" in answer.headers) != in_sandbox
            assert ("base-uri" in policy) != in_sandbox


@pytest.mark.parametrize("name", ["robots.txt", "favicon.ico"])
def test_files_that_belong_to_the_site_are_not_ours(visitor: Browser, name: str):
    assert visitor.get(name).status_code == 404


def test_who_is_let_in_at_the_moment_of_the_stop_is_answered(tmp_path: Path):
    """The connection is there, its first task has not run yet."""
    asyncio.run(_connect_and_stop(tmp_path / "http.sock"))


async def _connect_and_stop(path: Path) -> None:
    door = _door()
    stopped: list[asyncio.Task[int]] = []

    class Server(HTTPServer):
        def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
            stopped.append(asyncio.create_task(door.close(self, 5)))
            super().handle_stream(stream, address)

    server = Server(door)
    server.add_sockets([bind_unix_socket(str(path))])
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /jupyter/api HTTP/1.1\r\nHost: box.test\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert await stopped[0] == 0


def test_to_ask_for_the_version_is_no_knock(tmp_path: Path):
    async def ask() -> None:
        async with _open(tmp_path / "http.sock") as (door, reader, writer):
            # As a monitor does, again and again.
            writer.write(b"GET /jupyter/api HTTP/1.1\r\nHost: box.test\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            assert door.knocked == door.used() == 0.0
            writer.write(b"GET /jupyter/login HTTP/1.1\r\nHost: box.test\r\n\r\n")
            await reader.readuntil(b"HTTP/1.1 200")
            assert door.knocked > 0.0

    asyncio.run(ask())


def test_what_a_stranger_does_not_end_is_no_use_of_the_owners(tmp_path: Path):
    async def begin() -> None:
        path = tmp_path / "http.sock"
        async with _open(path) as (door, reader, writer):
            writer.write(b"GET /jupyter/lab HTTP/1.1\r\nHost: box.test\r\nAuthorization: token t\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            used = door.used()
            assert used > 0.0
            _, stranger = await asyncio.open_unix_connection(path)
            stranger.write(b"POST /jupyter/login HTTP/1.1\r\nHost: box.test\r\nContent-Length: 9\r\n\r\n")
            while not door.knocked:
                await asyncio.sleep(0.01)
            assert door.used() == used
            # The owner's own upload is one.
            writer.write(
                b"PUT /jupyter/api/contents/a HTTP/1.1\r\nHost: box.test\r\nAuthorization: token t\r\n"
                b"Content-Length: 9\r\n\r\n"
            )
            while door.used() == used:
                await asyncio.sleep(0.01)
            last = door.used()
            await asyncio.sleep(0.01)
            assert door.used() > last
            stranger.close()

    asyncio.run(asyncio.wait_for(begin(), 30))


def _door() -> Door:
    told = Instance("/jupyter/", Path("/"), "lab", ("box.test",), True, 0, 0, (), "", True, "", None, 0)
    return Door(told, _Pong, lambda request: "Authorization" in request.headers, lambda request: 0, logging.getLogger())


@contextlib.asynccontextmanager
async def _open(path: Path) -> AsyncIterator[tuple[Door, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A door, and a connection to it."""
    door = _door()
    server = HTTPServer(door)
    server.add_sockets([bind_unix_socket(str(path))])
    reader, writer = await asyncio.open_unix_connection(path)
    yield door, reader, writer
    writer.close()
    await door.close(server, 0)


class _Pong(HTTPMessageDelegate):
    def __init__(self, request: HTTPServerRequest) -> None:
        self.connection = request.connection

    def finish(self) -> None:
        assert self.connection
        self.connection.write_headers(ResponseStartLine("", 200, "OK"), HTTPHeaders({"Content-Length": "0"}))
        self.connection.finish()
