"""What a page's websockets cost: bytes on the line, and threads of Apache."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab.box import Box

from tests.browser.browser import Browser
from tests.client import wait_until
from tests.installed import PASSWORD

PRINTS = "for n in range(20000): print(n, 'of', 20000, 'lines')"


def listen(browser: Browser) -> list[dict[str, Any]]:
    """The answers to the page's handshakes, as they come."""
    answers: list[dict[str, Any]] = []
    session = browser.context.new_cdp_session(browser.page)
    session.send("Network.enable")
    session.on("Network.webSocketHandshakeResponseReceived", lambda event: answers.append(event["response"]))
    return answers


def extensions(answer: dict[str, Any]) -> str:
    """What was agreed on."""
    return {name.lower(): value for name, value in answer["headers"].items()}.get("sec-websocket-extensions", "")


@pytest.mark.either_release
def test_what_a_kernel_prints_comes_compressed_and_whole(browser: Browser):
    answers = listen(browser)
    browser.login(PASSWORD, "lab")
    browser.new_notebook()
    assert any(extensions(answer).startswith("permessage-deflate") for answer in answers)
    # What a cell shows is drawn in parts; a hash says it all.
    browser.run_cell(PRINTS)
    lines = browser.page.evaluate(
        """() => [...document.querySelectorAll(".jp-OutputArea-output pre")].map(pre => pre.textContent).join("")"""
    )
    assert "19999 of 20000 lines" in lines
    shown = browser.run_cell("import hashlib; text = str(list(range(100000))); display({'text/plain': text}, raw=True)")
    assert shown == str(list(range(100_000)))


@pytest.mark.one_release
def test_a_laptop_that_has_vanished_gives_its_threads_back(browser: Browser, box: Box):
    box.write(
        "/home/alice/.jupyter/jupyter_server_config.json",
        '{"ServerApp": {"websocket_ping_interval": 2, "websocket_ping_timeout": 2}}',
        owner="alice",
    )
    box.sh("systemctl restart jupyter-remote")
    browser.login(PASSWORD, "lab")
    browser.new_notebook()
    assert connections(box) == 1
    # Of the kernel, and of the server's events; the third is the question's own.
    assert busy_threads(box) >= 3
    with browser.offline():
        wait_until(lambda: connections(box) == 0, "the keeper waits for a laptop that has vanished")
        wait_until(lambda: busy_threads(box) == 1, "Apache keeps threads for a laptop that has vanished")
    # The page comes back by itself.
    wait_until(lambda: connections(box) == 1, "the page does not connect again")
    assert browser.run_cell("6 * 7") == "42"


@pytest.mark.one_release
def test_apache_does_not_wait_for_a_page_that_connects_again(browser: Browser, box: Box):
    browser.login(PASSWORD, "lab")
    browser.new_notebook()
    assert connections(box) == 1
    for _ in range(2):
        box.sh("systemctl restart apache2")
        assert "sending a SIGKILL" not in box.read("/var/log/apache2/error.log")
        wait_until(lambda: connections(box) == 1, "the page does not connect again")
    assert browser.run_cell("6 * 7") == "42"


def busy_threads(box: Box) -> int:
    """Apache's threads that are at work for somebody."""
    return int(box.sh("curl -sf 'http://localhost/server-status?auto' | sed -n 's/^BusyWorkers: //p'"))


def connections(box: Box) -> int:
    """Websockets that keepers have open."""
    return sum(kernel["connections"] for kernel in json.loads(box.sh("jupyter-remote kernels --json")))


@pytest.mark.one_release
def test_an_apache_with_websockets_over_http2_changes_nothing_for_us(browser: Browser, box: Box):
    """Ours have connections of their own, where a download is not in front of them."""
    box.write("/etc/apache2/conf-available/websockets.conf", "H2WebSockets on\n")
    # The module is loaded with our site, which Apache reads later.
    box.sh("a2enmod -q http2 && a2enconf -q websockets && systemctl restart apache2")
    answers = listen(browser)
    browser.login(PASSWORD, "lab")
    browser.new_notebook()
    assert {answer["status"] for answer in answers} == {101}
    assert browser.run_cell("6 * 7") == "42"
