"""Readiness, the watchdog, and a stop that loses no request."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import notebook
import pytest
import websocket
from running import SOURCES, Running, say

from tests.client import PATIENCE


def test_ready_means_that_a_request_is_answered(server: Running):
    server.start().wait_for("READY=1")
    with server.visitor() as browser:
        assert browser.get("api").json()["version"]


def test_a_request_before_the_server_is_up_waits_instead_of_failing(server: Running):
    with server.visitor() as browser:
        waiting = say(browser, ["GET /jupyter/api HTTP/1.1", "Host: box.test", "Connection: close"])
        server.start()
        assert waiting.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_the_watchdog_is_fed_from_the_event_loop(server: Running):
    server.start(watchdog=0.6).wait_until_ready()
    for _ in range(3):
        server.wait_for("WATCHDOG=1")


def test_a_server_that_hangs_falls_silent(server: Running):
    server.start(watchdog=0.6).wait_until_ready()
    server.wait_for("WATCHDOG=1")
    server.signal(signal.SIGSTOP)
    server.reports.settimeout(1.2)
    with pytest.raises(TimeoutError):
        # One may have been on its way.
        server.reports.recv(4096)
        server.reports.recv(4096)
    server.signal(signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(server: Running, number: signal.Signals):
    server.start().wait_until_ready()
    server.signal(number)
    server.wait_for("STOPPING=1")
    assert server.wait() == 0


def test_it_ends_whatever_a_thread_of_it_waits_for():
    # As one of AnyIO's did, in one of twenty stops soon after a start.
    waits = (
        "import runpy, sys, threading\n"
        "from jupyter_remote.server import app\n"
        "app.serve = lambda path: threading.Thread(target=threading.Event().wait).start() or 42\n"
        "sys.argv[1:] = ['server.json']\n"
        "runpy.run_module('jupyter_remote.server', run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    assert subprocess.run([sys.executable, "-c", waits], env=environment, timeout=PATIENCE).returncode == 42


def test_a_request_that_was_begun_is_answered_while_the_server_stops(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        body = json.dumps({"type": "file", "format": "text", "content": "x" * 1000}).encode()
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar)
        upload = say(
            browser,
            [
                "PUT /jupyter/api/contents/saved.txt HTTP/1.1",
                "Host: box.test",
                f"Cookie: {cookies}",
                f"X-XSRFToken: {browser._cookie('_xsrf')}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
            ],
            body[:10],
        )
        # An answer on a later connection: the headers above have been read.
        assert browser.get("api").status_code == 200
        server.signal()
        server.wait_for("STOPPING=1")
        upload.sendall(body[10:])
        answer = upload.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 201"), answer
    assert server.wait() == 0
    assert (server.home / "saved.txt").read_text() == "x" * 1000


def test_a_request_during_a_restart_waits_for_the_next_server(server: Running):
    server.start().wait_until_ready()
    server.signal()
    server.wait_for("STOPPING=1")
    with server.visitor() as browser:
        waiting = say(browser, ["GET /jupyter/api HTTP/1.1", "Host: box.test", "Connection: close"])
        assert server.wait() == 0
        server.start()
        assert waiting.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_websockets_are_told_that_the_server_restarts(server: Running):
    server.keep_kernels().start().wait_until_ready()
    with server.owner() as browser:
        kernel, terminal, events = browser.start_kernel(), browser.open_terminal(), browser.events()
        terminal.run("echo ready")
        server.signal()
        assert _closing_code(events) == 1012
        assert server.wait() == 0
        # The kernel's and the terminal's are not the server's.
        assert terminal.run("echo alive") == "alive"
        assert kernel.execute("6 * 7").value == "42"


def _closing_code(channel: websocket.WebSocket) -> int:
    while True:
        opcode, data = channel.recv_data(control_frame=False)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(data[:2], "big")


def test_the_shut_down_request_ends_it_in_order(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        assert browser.send("POST", "api/shutdown").status_code == 200
    assert server.wait() == 0


def test_it_serves_on_a_loopback_port(server: Running):
    port = server.listen_on_port()
    server.start().wait_until_ready()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /jupyter/api HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_without_a_socket_it_says_how_it_is_started(server: Running):
    server.start(passes_socket=False)
    assert server.wait() == 71
    assert "sudo systemctl start jupyter-remote" in server.log.read_text()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"interface": "emacs"}, "interface is 'emacs', but must be"),
        ({"base_url": "jupyter"}, "base_url is 'jupyter', but must be"),
        ({"cull_idle": "1h"}, "cull_idle is '1h', but must be"),
        ({"idle_stop": -1}, "idle_stop is -1, but must be"),
        ({"notebook_dir": "/not/there"}, "The directory for notebooks, /not/there, is not there."),
        ({"server_names": "box.test"}, "server_names is 'box.test', but must be"),
        ({"behind_tls": 1}, "behind_tls is 1, but must be"),
    ],
)
def test_settings_that_make_no_sense_are_named(server: Running, change: dict[str, object], complaint: str):
    server.settings.update(change)
    server.start()
    assert server.wait() == 78
    said = server.log.read_text()
    assert complaint in said
    assert "Traceback" not in said


def test_the_page_of_the_interface_that_was_chosen_comes_first(make_server: Callable[[], Running]):
    for interface, page in (("lab", "/jupyter/lab"), ("notebook", "/jupyter/tree")):
        server = make_server()
        server.settings["interface"] = interface
        server.start().wait_until_ready()
        with server.owner() as browser:
            assert browser.get("").url.path == page
            # The other one is there too.
            assert "JupyterLab" in browser.get("lab").text
            assert "Jupyter Notebook" in browser.get("tree").text
        server.stop()


def test_files_of_lab_and_notebook_with_the_same_name_are_both_served(shared: Running):
    where = "from jupyterlab.commands import get_app_dir; print(get_app_dir())"
    lab = Path(shared.run_as_server("-c", where).strip()) / "static"
    other = Path(notebook.__file__).parent / "static"
    same = {path.name for path in lab.iterdir()} & {path.name for path in other.iterdir()}
    same -= {"index.html"}
    assert same
    with shared.visitor() as browser:
        for name in same:
            assert browser.get(f"static/lab/{name}").status_code == 200
            assert browser.get(f"static/notebook/{name}").status_code == 200
