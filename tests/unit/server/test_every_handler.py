"""Every address that the running server has, asked for without a login."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import httpx
import pytest
from running import Browser, Running

#: What may be seen without a login: pattern of the path below the base URL, methods.
PUBLIC = {
    r"/login": {"GET", "HEAD", "POST"},
    r"/login/link\.js": {"GET"},
    r"/logout": {"GET"},
    r"/api": {"GET", "OPTIONS"},
    r"/static/.+": {"GET", "HEAD"},
}

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")

LIST_HANDLERS = """
import json, os, sys
from pathlib import Path
from jupyter_remote.server import app
def walk(router):
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from walk(rule.target)
        else:
            yield rule.matcher.regex.pattern, rule.target.__name__
made = app.make(Path(sys.argv[1]))
print(json.dumps(sorted(set(walk(made.web_app.default_router)))), flush=True)
os._exit(0)
"""


def example(pattern: str) -> str:
    """A text that the regular expression matches."""

    def build(parsed: Any) -> Iterator[str]:
        for kind, value in parsed:
            if kind is sre.LITERAL:
                yield chr(value)
            elif kind in (sre.ANY, sre.NOT_LITERAL):
                yield "x"
            elif kind is sre.IN:
                yield next(char for char in "x1-_/.:~ " if re.fullmatch(f"(?:{_class(value)})", char))
            elif kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
                least, most, inner = value
                yield "".join(build(inner)) * max(least, min(1, most))
            elif kind is sre.SUBPATTERN:
                yield from build(value[-1])
            elif kind is sre.BRANCH:
                yield from build(value[1][0])
            elif kind not in (sre.AT, sre.ASSERT, sre.ASSERT_NOT):
                raise AssertionError(f"{pattern}: {kind}")

    return "".join(build(parser.parse(pattern)))


def _class(items: Any) -> str:
    names = {sre.CATEGORY_WORD: r"\w", sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_SPACE: r"\s"}
    text = ""
    for kind, value in items:
        if kind is sre.NEGATE:
            text += "^"
        elif kind is sre.LITERAL:
            text += re.escape(chr(value))
        elif kind is sre.RANGE:
            text += f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        else:
            text += names[value]
    return f"[{text}]"


@pytest.fixture(scope="module")
def patterns(make_server: Any) -> list[str]:
    """The patterns of all handlers, extensions' too."""
    server: Running = make_server()
    output = server.run_as_server("-c", LIST_HANDLERS, str(server.top / "server.json"))
    found = {pattern for pattern, _ in json.loads(output.splitlines()[-1])}
    assert len(found) > 60
    return sorted(found)


#: An address of each part of the server and of each extension that comes with it: all of them are asked.
PARTS = (
    "/jupyter/api/contents", "/jupyter/terminals/websocket", "/jupyter/api/events/subscribe", "/jupyter/lab",
    "/jupyter/lab/api/settings", "/jupyter/lsp/status", "/jupyter/lsp/ws", "/jupyter/tree", "/jupyter/notebooks",
    "/jupyter/nbconvert", "/jupyter/files", "/jupyter/api/terminals", "/jupyter/metrics", "/jupyter/api/shutdown",
    "/jupyter/api/kernels/", "/jupyter/api/security/csp-report",
)  # fmt: skip


def public_methods(path: str) -> set[str]:
    """What may be asked of an address without a login."""
    below = path.removeprefix("/jupyter") if path.startswith("/jupyter/") else ""
    return {method for address, methods in PUBLIC.items() for method in methods if re.fullmatch(address, below)}


def is_refusal(answer: httpx.Response) -> bool:
    """Whether it says no, and no more than that."""
    sent_to_login = answer.status_code == 302 and answer.headers["location"].startswith("/jupyter/login")
    return (sent_to_login or answer.status_code in (403, 404, 405)) and not _tells(answer.text)


def test_nothing_is_answered_without_a_login_but_the_public_list(patterns: list[str], visitor: Browser):
    answered = []
    asked = set()
    for pattern in patterns:
        path = example(pattern)
        if not path.startswith("/"):
            continue
        asked.add(path)
        # Also where it would be if there were no base URL.
        for address in {path, path.removeprefix("/jupyter")} - {""}:
            for method in set(METHODS) - public_methods(address):
                answer = visitor.http.request(method, f"https://box.test{address}", follow_redirects=False)
                if not is_refusal(answer):
                    answered.append(f"{method} {address} ({pattern}): {answer.status_code}")
    assert answered == []
    for expected in PARTS:
        assert any(path.startswith(expected) for path in asked), (expected, sorted(asked))


def test_no_address_becomes_a_websocket_without_a_login(patterns: list[str], visitor: Browser):
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    handshake |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    opened = []
    for path in map(example, patterns):
        for origin in ("https://box.test", "https://evil.test", None) if path.startswith("/") else ():
            headers = handshake | ({"Origin": origin} if origin else {})
            answer = visitor.http.get(f"https://box.test{path}", headers=headers, follow_redirects=False)
            if not is_refusal(answer) and not (answer.status_code == 200 and "GET" in public_methods(path)):
                opened.append(f"{path}: {answer.status_code}")
    assert opened == []


def _tells(text: str) -> bool:
    return "kernel_id" in text or "root_dir" in text or "serverRoot" in text


def test_what_is_public_says_little(visitor: Browser):
    assert set(visitor.get("api").json()) == {"version"}


@pytest.mark.parametrize(
    "path",
    [
        "login/../lab",
        "login/x",
        "login;x",
        "api/",
        "api//contents",
        "api/contents/",
        "//jupyter/api/contents",
        "static",
        "static/",
        "static/../api/contents",
        "static/%2e%2e/api/contents",
        "staticx/y",
        "login%2f..%2fapi/contents",
        "%61pi/contents",
        "LAB",
        "lab?login",
    ],
)
def test_no_spelling_of_a_path_gets_round_the_login(visitor: Browser, path: str):
    # As it is written: a client that tidies the path would hide the question.
    request = visitor.http.build_request("GET", f"{visitor.url}/")
    request.url = request.url.copy_with(raw_path=f"/jupyter/{path}".encode())
    answer = visitor.http.send(request, follow_redirects=False)
    to_login = answer.headers.get("location", "").startswith("/jupyter/login")
    assert to_login or answer.status_code in (403, 404, 405), answer.text[:200]
