"""Who comes over the network and has no password: bytes that no browser sends, and more of them than it would."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import ssl
from collections.abc import Callable

import pytest
from lab.box import Box

from tests import wire
from tests.client import Client, wait_until
from tests.installed import PASSWORD
from tests.website import Website

MakeClient = Callable[..., Client]


def log(box: Box) -> str:
    return box.journal("jupyter-remote.service")


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.one_release
def test_only_our_own_names_are_answered(box: Box):
    for ours in ("box.test", "BOX.test", "box.test.", "box.test:443", "box.test:1", "localhost", "[::1]", "192.0.2.1"):
        assert wire.status(wire.ask(box, wire.get("/jupyter/api", ours))) == 200, ours
    # a name that somebody has made to mean this machine: DNS rebinding
    for theirs in ("evil.test", "box.test.evil.test", "xbox.test", "xn--bx-fka.test"):
        answer = wire.ask(box, wire.get("/jupyter/api", theirs))
        assert wire.status(answer) == 403, theirs
        assert b"Which Jupyter?" in answer, theirs
        assert b"version" not in answer.partition(b"\r\n\r\n")[2], theirs
    for none in ("", "user@box.test", "box.test@evil.test", "box.test, evil.test", "box.test evil.test", "box.test/x"):
        assert wire.status(wire.ask(box, wire.get("/jupyter/api", none))) == 400, none
    for lines in (
        "GET /jupyter/api HTTP/1.0",
        "GET /jupyter/api HTTP/1.1",
        "GET /jupyter/api HTTP/1.1\r\nHost: box.test\r\nHost: evil.test",
        "GET /jupyter/api HTTP/1.1\r\nHost: evil.test\r\nHost: box.test",
    ):
        assert wire.status(wire.ask(box, f"{lines}\r\nConnection: close\r\n\r\n".encode())) == 400, lines
    # the name in the request line is the one that counts, in HTTP/2 the authority
    assert wire.status(wire.ask(box, wire.get("https://evil.test/jupyter/api", "box.test"))) == 403
    assert wire.ask_h2(box, h2(authority="evil.test")).status == 403
    assert wire.ask_h2(box, h2()).status == 200


def h2(path: str = "/jupyter/api", method: str = "GET", authority: str = "box.test") -> list[tuple[bytes, bytes]]:
    fields = {":method": method, ":scheme": "https", ":path": path, ":authority": authority}
    return [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]


@pytest.mark.one_release
def test_a_client_says_nothing_about_itself_that_is_believed(box: Box, client: MakeClient):
    lies = [
        "X-Real-IP: 203.0.113.99",
        "X-Forwarded-For: 203.0.113.99",
        "Forwarded: for=203.0.113.99;proto=http;host=evil.test",
        "X-Forwarded-Proto: http",
        "X-Scheme: http",
        "X-Forwarded-Scheme: http",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Server: evil.test",
        "X-Original-URL: /jupyter/api",
        "X-Rewrite-URL: /jupyter/api",
        "X-HTTP-Method-Override: DELETE",
    ]
    # also with a header that asks the proxy to drop ours
    for more in ([], ["Connection: close, X-Real-IP, X-Forwarded-Proto, Host"]):
        page = wire.ask(box, wire.get("/jupyter/login", "box.test", *lies, *more))
        assert wire.status(page) == 200
        assert b"evil.test" not in page
        assert re.search(rb"Set-Cookie: _xsrf=[^\n]*; Secure", page)
        assert wire.status(wire.ask(box, wire.get("/jupyter/api/contents", "box.test", *lies, *more))) == 403
    # a password typed past all of this makes one line, with the address that is true
    assert not client(box).try_login("wrong")
    assert re.search(r"Login refused from 10\.77\.0\.1: wrong password", log(box))
    assert "203.0.113.99" not in log(box)
    assert "evil.test" not in wire.ask(box, wire.get("/jupyter", "box.test", *lies)).decode()
    # nor does a redirect take in what the address holds
    answer = wire.ask(box, wire.get("/jupyter/login%0d%0aX-Evil:1"), tls=False)
    assert wire.status(answer) == 302
    assert b"\nX-Evil" not in answer


# --- one request in another --------------------------------------------------------------------------

#: What must never arrive: nobody has asked Apache for it.
INNER = "GET /jupyter/api/smuggled-{} HTTP/1.1\r\nHost: box.test\r\nX-Real-IP: 203.0.113.99\r\n\r\n"

#: header lines, and what follows them; @ is the inner request, N its length
SMUGGLED = [
    ("Content-Length: M\r\nTransfer-Encoding: chunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", "N\r\n@\r\n0\r\n\r\n"),
    ("Content-Length: 0\r\nContent-Length: M", "@"),
    ("Content-Length: 0, M", "@"),
    ("Content-Length: +0", "@"),
    ("Content-Length: 0x0", "@"),
    ("Content-Length: -1", "@"),
    ("Content-Length : 0", "@"),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n@"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked\x0b", "0\r\n\r\n@"),
    ("Transfer-Encoding: \tchunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: CHUNKED", "0\r\n\r\n@"),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n@"),
    ("Transfer-Encoding : chunked", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "0\r\n\r\n@"),
    ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "0\r\n\r\n@"),
    ("Transfer_Encoding: chunked\r\nContent-Length: M", "0\r\n\r\n@"),
    ("Transfer-Encoding: chunked", '5;a="\r\n\r\n"\r\nhello\r\n0\r\n\r\n@'),
    ("Transfer-Encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n@"),
    ("Transfer-Encoding: chunked", "ffffffffffffffff0\r\nhello\r\n0\r\n\r\n@"),
    ("Transfer-Encoding: chunked", "5\nhello\n0\n\n@"),
    ("Transfer-Encoding: chunked", "0\r\nContent-Length: M\r\n\r\n@"),
    ("X: y\nContent-Length: 0", "@"),
    ("X: y\rContent-Length: 0\rZ: 1", "@"),
    (" X: y\r\nContent-Length: 0", "@"),
    ("Connection: Content-Length\r\nContent-Length: M", "@"),
    ("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "0\r\n\r\n@"),
    ("Content-Length: M\r\nExpect: 100-continue", "@"),
    ("Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: M", "@"),
]


@pytest.mark.either_release
def test_no_request_hides_in_another(box: Box):
    def arrived() -> list[str]:
        return [line for line in log(box).splitlines() if "smuggled" in line or "203.0.113.99" in line]

    # What arrives is seen.
    wire.ask(box, wire.get("/jupyter/api/smuggled-openly"))
    assert wait_until(arrived, "it is not in the log")
    for number, (head, body) in enumerate(SMUGGLED):
        for method, path in (("POST", "/jupyter/login"), ("GET", "/jupyter/api")):
            inner = INNER.format(f"{number}-{method}")
            lengths = head.replace("M", str(len(inner) + 5)), body.replace("N", f"{len(inner):x}").replace("M", "9")
            request = f"{method} {path} HTTP/1.1\r\nHost: box.test\r\nConnection: close\r\n{lengths[0]}\r\n\r\n"
            heard = wire.ask(box, (request + lengths[1].replace("@", inner)).encode("latin-1"))
            # refused, or one answer to the one request that it was
            assert len(wire.statuses(heard.replace(b"100 Continue", b""))) <= 2, (head, heard)
    wire.ask(box, wire.get("/jupyter/api/the-last"))
    wait_until(lambda: "the-last" in log(box), "it is not in the log")
    assert [line for line in arrived() if "smuggled-openly" not in line] == []


def test_http2_carries_nothing_into_http1(box: Box):
    line = "\r\nX-Real-IP: 203.0.113.99\r\n\r\nGET /jupyter/api/smuggled HTTP/1.1\r\nHost: box.test\r\n\r\n"
    for name, value in (
        ("x-a", f"b{line}"), ("x-a", "b\nX-Real-IP: 203.0.113.99"), ("x-a", "b\rc"), ("x-a", "b\0c"),
        ("x-a: b\r\nx-c", "d"), ("x:a", "b"), ("X-Upper", "b"), ("", "b"), ("x a", "b"),
        ("connection", "upgrade"), ("transfer-encoding", "chunked"), ("upgrade", "h2c"),
        (":path", "/jupyter/api/contents"), (":evil", "x"),
    ):  # fmt: skip
        answer = wire.ask_h2(box, [*h2(), (name.encode(), value.encode())])
        assert answer.status in (0, 400), (name, value, answer)
    for path in (f"/jupyter/api HTTP/1.1{line}", "/jupyter/api x", "jupyter/api", "", "*"):
        assert wire.ask_h2(box, h2(path=path)).status in (0, 400), path
    for method in (f"GET /jupyter/api HTTP/1.1{line}GET", "GE T", ""):
        assert wire.ask_h2(box, h2(method=method)).status in (0, 400, 405), method
    # a body that is longer or shorter than it says
    for length, body in (("0", line), ("1000", "x"), ("0, 5", "x"), ("+1", "x")):
        fields = [*h2("/jupyter/login", "POST"), (b"content-length", length.encode())]
        # 403: answered by its fields alone, as a form without its token, before the body came.
        assert wire.ask_h2(box, fields, body.encode()).status in (0, 400, 403), length
    wire.ask(box, wire.get("/jupyter/api/the-last"))
    wait_until(lambda: "the-last" in log(box), "it is not in the log")
    assert "smuggled" not in log(box)
    assert "203.0.113.99" not in log(box)


_WEBSOCKET = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
_H2C = ["HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"]


def test_no_upgrade_opens_a_tunnel_to_a_stranger(box: Box):
    upgrades: list[tuple[str, list[str]]] = [
        ("websocket", _WEBSOCKET), ("websocket", []), ("WebSocket", _WEBSOCKET), ("h2c", _H2C),
        ("websocket, h2c", [*_H2C, *_WEBSOCKET]), ("h2c, websocket", [*_H2C, *_WEBSOCKET]), ("h2", _H2C),
        ("TLS/1.2", []), ("anything", []),
    ]  # fmt: skip
    paths = ("/jupyter/api", "/jupyter/login", "/jupyter/api/events/subscribe")
    for path, (upgrade, more) in itertools.product(paths, upgrades):
        lines = [f"GET {path} HTTP/1.1", "Host: box.test", f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings"]
        request = "\r\n".join([*lines, *more, "", ""]).encode()
        for tls in (True, False):
            # What would go through a tunnel: Apache must see it, and count it as a request of its own.
            heard = wire.ask(box, request + wire.get("/jupyter/api/contents", "box.test"), tls=tls)
            assert 101 not in wire.statuses(heard), (upgrade, heard)
            assert b"Forbidden" in heard or not tls
    for method, path in itertools.product(("CONNECT", "TRACE", "TRACK"), paths):
        heard = wire.ask(box, f"{method} {path} HTTP/1.1\r\nHost: box.test\r\nConnection: close\r\n\r\n".encode())
        assert wire.status(heard) in (400, 403, 405), heard
    heard = wire.ask(box, b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\nConnection: close\r\n\r\n")
    assert wire.status(heard) in (302, 400, 403, 405)
    assert b"SSH-" not in heard


# --- paths -------------------------------------------------------------------------------------------

PATHS = [
    "//jupyter/api/contents", "/jupyter//api/contents", "/x/../jupyter/api/contents", "/jupyter/./api/contents",
    "/%6aupyter/api/contents", "/jupyter%2fapi/contents", "/jupyter/%2e%2e/jupyter/api/contents",
    "/JUPYTER/api/contents", "/jupyter;x/api/contents", "/jupyter/;x/api/contents", "/jupyter/api;x/contents",
    "/jupyter/api/contents%00", "/jupyter/api%00/contents", "/jupyter\\api\\contents", "/jupyter/api\\contents",
    "/jupyter/login/../api/contents", "/jupyter/login/%2e%2e/api/contents", "/jupyter/login/..%2fapi/contents",
    "/jupyter/static/../api/contents", "/jupyter/static/%2e%2e/api/contents", "/jupyter/static/..%2fapi/contents",
    "/jupyter/static/%252e%252e/api/contents", "/jupyter/static/..%5capi/contents", "/jupyter/static//etc/passwd",
    "/jupyter/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd", "/jupyter/static/lab/../../../../../../etc/passwd",
    "/jupyter/api/contents/%2e%2e/%2e%2e/etc/passwd", "/jupyter/files/..%2f..%2fetc%2fpasswd",
    "/jupyterx/api/contents", "/jupyter.x/api/contents", "/jupyter/api/contents/%ff", "/jupyter/api/%0d%0aX:%20y",
    "/jupyter/login%3f/api/contents", "/jupyter/api%2fcontents", "/jupyter/api/contents?login",
    "/jupyter/api/#/contents",
    f"/jupyter/api/contents?{'a' * 8000}", f"/jupyter/{'a' * 9000}", f"/jupyter/{'a/' * 4000}",
    f"/{'../' * 2000}jupyter/lab",
]  # fmt: skip


@pytest.mark.one_release
def test_no_spelling_of_a_path_leads_past_the_login_or_out_of_the_location(box: Box):
    Website.set_up(box)
    box.write("/home/alice/diary.txt", "dear diary", owner="alice")
    for path in PATHS:
        for answer in (wire.ask(box, wire.get(path)), wire.ask(box, wire.get(path), tls=False)):
            assert wire.status(answer) in (0, 302, 400, 403, 404, 414), (path, answer)
            assert not re.search(rb"diary|root:x:0|\"content\"|version", answer), path
            if wire.status(answer) == 302:
                where = re.findall(rb"(?i)\r\nlocation: ([^\r]*)", answer)[0]
                assert re.match(rb"(https://box\.test)?/jupyter/|/jupyter/login", where), (path, where)
    # Of the other site nothing is open that was not: its protection holds for every way to it.
    for path in ("/private/", "/jupyter/../private/", "/jupyter/%2e%2e/private/", "/jupyter//../private/"):
        assert wire.status(wire.ask(box, wire.get(path, "shop.test"), tls=False)) == 401, path
    for path in ("/jupyter/..%2fprivate/", "/jupyter/..;/private/"):
        assert wire.status(wire.ask(box, wire.get(path, "shop.test"), tls=False)) in (302, 404), path
    # Who asked, whatever the spelling.
    assert set(re.findall(r"Refused: .* from (\S+): ", log(box))) == {"10.77.0.1"}


# --- too much of it ----------------------------------------------------------------------------------


def most_memory(box: Box) -> int:
    """The most that the server has had so far, in KiB."""
    pid = box.sh("systemctl show -P MainPID jupyter-remote.service")
    return int(box.sh(f"grep VmHWM /proc/{pid}/status").split()[1])


@pytest.mark.one_release
def test_huge_headers_are_refused(box: Box):
    for huge in (
        [f"X-{'a' * 9000}: b"], [f"X-A: {'b' * 9000}"], [f"Cookie: __Secure-jupyter-remote-jupyter={'b' * 9000}"],
        [f"X-{n}: b" for n in range(1000)], [f"X-{n}: {'b' * 8000}" for n in range(99)],
    ):  # fmt: skip
        assert wire.status(wire.ask(box, wire.get("/jupyter/api", "box.test", *huge))) in (0, 400, 431), huge[0][:40]
        fields = [(name.lower().encode(), value.encode()) for name, value in (line.split(": ") for line in huge)]
        assert wire.ask_h2(box, [*h2(), *fields]).status in (0, 400, 431), huge[0][:40]
    assert wire.ask_h2(box, h2()).status == 200


@pytest.mark.one_release
def test_a_strangers_upload_fills_no_memory(box: Box, client: MakeClient):
    client(box).try_login("wrong")
    before = most_memory(box)
    box.sh("head -c 150M /dev/zero > /var/tmp/zeros")
    send = "curl -sk --http1.1 -o /dev/null -w '%{http_code}' -X POST -T /var/tmp/zeros"
    for headers in ("-H Expect:", "-H 'Transfer-Encoding: chunked' -H 'Content-Length:'"):
        for path in ("login", "logout", "api", "static/x", "api/contents/x"):
            assert box.attempt(f"{send} {headers} https://localhost/jupyter/{path}").stdout in (
                "400", "403", "405", "413", "502", "503", "000",
            ), (path, headers)  # fmt: skip
    assert most_memory(box) - before < 32 * 1024
    # the owner's may be as big
    owner = client(box).login(PASSWORD)
    owner.api("PUT", "contents/big.txt", {"type": "file", "format": "text", "content": "y" * 5_000_000})
    assert box.sh("stat -c %s /home/alice/big.txt") == "5000000"


@pytest.mark.one_release
def test_slow_strangers_lose_their_connections_and_the_others_are_answered(box: Box):
    """More of them than Apache has workers for."""
    begun = {
        "does not speak TLS": None,
        "says nothing": b"",
        "begins a header": b"GET /jupyter/api HTTP/1.1\r\nHost: box.test\r\nX: ",
        "begins a body": b"POST /jupyter/login HTTP/1.1\r\nHost: box.test\r\nContent-Length: 1000\r\n\r\nx",
        "keeps its connection": b"GET /jupyter/api HTTP/1.1\r\nHost: box.test\r\n\r\n",
    }
    with contextlib.ExitStack() as held:
        slow = []
        for request in begun.values():
            for _ in range(40):
                if request is None:
                    connection = held.enter_context(socket.create_connection((box.ip, 443)))
                else:
                    connection = held.enter_context(wire.connect(box))
                    connection.sendall(request)
                slow.append(connection)
        assert wire.status(wire.ask(box, wire.get("/jupyter/api"), silence=120)) == 200
        for connection in slow:
            # until Apache has closed it
            connection.settimeout(120)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while connection.recv(65536):
                    pass
    assert wire.status(wire.ask(box, wire.get("/jupyter/api"))) == 200


# --- what browsers are told --------------------------------------------------------------------------


@pytest.mark.one_release
def test_every_answer_says_that_no_other_site_may_frame_it(box: Box, client: MakeClient):
    owner = client(box).login(PASSWORD)
    box.write("/home/alice/page.html", "<script>document.title = origin</script>", owner="alice")
    for path in ("lab", "tree", "login", "api", "api/contents", "static/favicon.ico", "no/such/page", "api/kernels/x"):
        answer = owner.get(path)
        assert re.search(r"frame-ancestors '(self|none)'", answer.headers["content-security-policy"]), path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] in ("same-origin", "strict-origin-when-cross-origin"), path
        assert answer.headers["cross-origin-opener-policy"] == "same-origin-allow-popups", path
    page = owner.get("files/page.html", headers={"Referer": f"{owner.url}/lab"})
    assert page.status_code == 200
    assert "sandbox allow-scripts" in page.headers["content-security-policy"]
    assert "allow-same-origin" not in page.headers["content-security-policy"]
