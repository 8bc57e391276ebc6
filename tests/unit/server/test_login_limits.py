"""The limits, as browsers meet them at a server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from running import PASSWORD, Browser, Running, say
from test_login import new_link
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import create_signed_value

from jupyter_remote.server import pages
from jupyter_remote.server.limits import FREE
from jupyter_remote.server.marks import Marks


@pytest.fixture(scope="module")
def attacked(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server of this module's own: what it remembers of attempts is no other test's business."""
    server = make_server().start().wait_until_ready()
    yield server
    server.close()


def guess(browser: Browser, password: str = "wrong") -> httpx.Response:
    """Send the form, without having asked for it before."""
    return browser.http.post(
        f"{browser.url}/login",
        data={"password": password, "_xsrf": "x", "next": "/jupyter/lab/tree/a"},
        headers={"Cookie": "_xsrf=x"},
        follow_redirects=False,
    )


def refusals(server: Running, address: str) -> list[str]:
    """What the log says of an address."""
    return [line.partition("] ")[2] for line in server.log.read_text().splitlines() if address in line]


def provoke(server: Running, address: str) -> httpx.Response:
    """Fail until nothing is compared any more; the answer then."""
    with server.visitor(address=address) as browser:
        for _ in range(FREE + 20):
            if (answer := guess(browser)).status_code != 401:
                return answer
    raise AssertionError("no limit")


def test_who_fails_too_often_is_told_when_to_come_again_and_the_right_password_does_not_help(attacked: Running):
    answer = provoke(attacked, "198.51.100.1")
    told = time.monotonic()
    assert answer.status_code == 429
    seconds = int(answer.headers["retry-after"])
    assert f"possible in {pages.in_words(seconds)}" in answer.text
    assert "jupyter-remote url" in answer.text
    with attacked.visitor(address="198.51.100.1") as browser:
        status = guess(browser, PASSWORD).status_code
        # A machine may be so slow that the time has come meanwhile.
        assert status == 429 or time.monotonic() - told > seconds - 1


def test_each_refusal_is_one_line_with_the_address(attacked: Running):
    with attacked.visitor(address="198.51.100.2") as browser:
        for count in range(1, FREE + 6):
            guess(browser)
            assert len(refusals(attacked, "198.51.100.2")) == count
    for line in refusals(attacked, "198.51.100.2"):
        assert re.fullmatch(
            r"Login refused from 198\.51\.100\.2: (wrong password|too many attempts, wait \d+ s)\.", line
        )


def test_the_owner_gets_in_while_others_are_refused(attacked: Running):
    provoke(attacked, "198.51.100.3")
    # From another address,
    with attacked.visitor(address="203.0.113.77") as browser:
        answer = guess(browser, PASSWORD)
        while answer.status_code == 429:
            answer = guess(browser, PASSWORD)
        assert answer.status_code == 302
        session = browser.http.cookies
    # with the browser that was in before, also where the attacker is,
    with attacked.visitor(address="198.51.100.3") as browser:
        browser.http.cookies = session
        assert browser.logged_in
        browser.get("logout")
        assert not browser.logged_in
        assert browser.try_login(PASSWORD)
    # and there with a login link.
    provoke(attacked, "198.51.100.5")
    with attacked.visitor(address="198.51.100.5") as browser:
        assert browser.follow(f"{browser.url}/login?link#token={new_link(attacked)}")


def request_with(cookie: str) -> HTTPServerRequest:
    line = RequestStartLine("POST", "/jupyter/login", "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "box.test", "Cookie": cookie}))


def test_a_mark_of_somebody_elses_making_is_none():
    marks, others = Marks("known", b"key"), Marks("known", b"another key")
    genuine = create_signed_value(b"key", "known", "A" * 16).decode()
    assert marks.of(request_with(f"known={genuine}")) == "A" * 16
    assert others.of(request_with(f"known={genuine}")) is None
    of_another_cookie = create_signed_value(b"key", "login", "A" * 16).decode()
    old = create_signed_value(b"key", "known", "A" * 16, clock=lambda: time.time() - 181 * 86400).decode()
    odd = create_signed_value(b"key", "known", "A" * 15 + "\n").decode()
    for bad in (of_another_cookie, old, odd, genuine[:-1], "x", ""):
        assert marks.of(request_with(f"known={bad}")) is None


def test_a_mark_opens_nothing(attacked: Running):
    with attacked.visitor(address="203.0.113.78") as browser:
        assert browser.follow(f"{browser.url}/login?link#token={new_link(attacked)}")
        mark = browser._cookie("__Secure-jupyter-remote-jupyter-known")
        assert mark
    with attacked.visitor() as browser:
        for name in ("__Secure-jupyter-remote-jupyter-known", "__Secure-jupyter-remote-jupyter"):
            answer = browser.http.get(f"{browser.url}/api/status", headers={"Cookie": f"{name}={mark}"})
            assert answer.status_code == 403


def test_many_at_once_are_answered_at_once_and_the_server_goes_on(attacked: Running):
    def one(number: int) -> int:
        with attacked.visitor(address=f"192.0.2.{number}") as browser:
            return guess(browser).status_code

    with ThreadPoolExecutor(30) as crowd:
        answers = list(crowd.map(one, range(60)))
    assert set(answers) == {401, 429}
    with attacked.visitor(address="203.0.113.79") as browser:
        assert browser.follow(f"{browser.url}/login?link#token={new_link(attacked)}")
        browser.get("logout")
        assert browser.try_login(PASSWORD)


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 192.0.2.200",
        "X-Real-IP: 192.0.2.200%0a[W 2026-01-01 00:00:00.000 JupyterRemote] Login refused from 192.0.2.200: x",
        "X-Real-IP: 127.1",
        "User-Agent: Login refused from 192.0.2.200: wrong password.",
        "Referer: https://box.test/\u2028Login refused from 192.0.2.200: wrong password.",
        "Cookie: __Secure-jupyter-remote-jupyter=Login refused from 192.0.2.200: wrong password.",
        "Origin: https://192.0.2.200/",
    ],
)
def test_no_request_can_put_another_address_into_a_line_of_the_log(attacked: Running, header: str):
    before = len(attacked.log.read_text())
    with attacked.visitor() as browser:
        body = b"password=wrong%0A[W%202026-01-01%20JupyterRemote]%20Login%20refused%20from%20192.0.2.200&_xsrf=x"
        own = "X-Real-IP: 198.51.100.9"
        lines = [
            "POST /jupyter/login?x=Login%0Arefused HTTP/1.1",
            "Host: box.test",
            "X-Forwarded-Proto: https",
            f"Content-Length: {len(body)}",
            "Content-Type: application/x-www-form-urlencoded",
            "Cookie: _xsrf=x",
            "Connection: close",
            header,
            # Apache's own is the only one of its name.
            *([] if header.startswith("X-Real-IP") else [own]),
        ]
        say(browser, lines, body).makefile("rb").read()
    said = attacked.log.read_text()[before:]
    pattern = r"^\[W [\d-]+ [\d:.]+ JupyterRemote\] Login refused from (\S+): (?:wrong|too)"
    assert set(re.findall(pattern, said, re.M)) <= {"198.51.100.9", "0.0.0.0", "unknown"}
