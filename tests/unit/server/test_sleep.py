"""A server that nobody uses ends, and is started again when there is something to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import select
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import websocket
from running import SOURCES, Browser, Running, say
from test_kernels_survive import ask_keeper, configure, open_notebook
from test_login_limits import guess, provoke

from jupyter_remote.run import EX_ASLEEP
from jupyter_remote.server.keepers import Hangs, Refused
from jupyter_remote.server.sleep import Sleep, first_file
from tests.client import PATIENCE, Kernel

#: Seconds. Long enough for a slow machine between two requests.
IDLE = 3


@pytest.fixture
def server(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server that ends soon when nobody uses it, with kernels that outlive it; not started."""
    running = make_server().keep_kernels()
    running.settings["idle_stop"] = IDLE
    yield running
    running.close()


def is_called(server: Running, within: float = PATIENCE) -> bool:
    """Whether somebody connects to the socket that systemd holds."""
    return bool(select.select([server.listening], [], [], within)[0])


def wake(server: Running) -> Running:
    """What systemd does then."""
    return server.start().wait_until_ready()


@contextlib.contextmanager
def connected(browser: Browser, kernel_id: str) -> Iterator[Kernel]:
    """A page with the kernel; afterwards it is gone."""
    kernel = browser.connect(kernel_id)
    yield kernel
    kernel.channels.close()


def notebook_with_a_cell(server: Running, path: str, code: str) -> None:
    cell = nbformat.v4.new_code_cell(code, id="slow")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), server.home / path)


def outputs(server: Running, path: str) -> str:
    cells = nbformat.read(server.home / path, as_version=4).cells
    return "".join(output.get("text", "") for output in cells[0].outputs)


def test_a_server_that_nobody_uses_ends_and_a_kernel_keeps_its_variables(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        with connected(browser, session["kernel"]["id"]) as kernel:
            kernel.execute("x = 41")
        assert server.wait() == EX_ASLEEP
        # Nothing has happened: nobody calls.
        assert not is_called(server, within=0)
        wake(server)
        assert [one["id"] for one in browser.api("GET", "sessions")] == [session["id"]]
        with connected(browser, session["kernel"]["id"]) as kernel:
            assert kernel.execute("x + 1").value == "42"


def test_a_request_that_comes_while_it_sleeps_is_answered(server: Running):
    server.start().wait_until_ready()
    with server.visitor() as visitor:
        assert server.wait() == EX_ASLEEP
        waiting = say(visitor, ["GET /jupyter/api HTTP/1.1", "Host: box.test", "Connection: close"])
        assert is_called(server)
        wake(server)
        assert waiting.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_the_output_of_a_cell_that_ends_meanwhile_is_written(server: Running, tmp_path: Path):
    go = tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)\nprint('it is done')"
    notebook_with_a_cell(server, "some.ipynb", code)
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        with connected(browser, session["kernel"]["id"]) as kernel:
            kernel.submit(code, cell="slow")
            while kernel.receive()["msg_type"] != "execute_input":
                pass
        assert server.wait() == EX_ASLEEP
        go.touch()
        assert is_called(server)
        wake(server)
        # It ends again only when that is written.
        assert server.wait() == EX_ASLEEP
    assert outputs(server, "some.ipynb") == "it is done\n"


def test_a_kernel_that_dies_while_the_server_sleeps_is_started_again(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        kernel_id = session["kernel"]["id"]
        with connected(browser, kernel_id) as kernel:
            kernel.execute("x = 41")
        assert server.wait() == EX_ASLEEP
        ask_keeper(server, kernel_id, "signal", number=9)
        assert is_called(server)
        wake(server)
        with connected(browser, kernel_id) as kernel:
            assert kernel.execute("'x' in globals()").value == "False"


def test_the_last_page_that_goes_wakes_the_server(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        with connected(browser, session["kernel"]["id"]) as kernel:
            kernel.execute("x = 41")
            # A page that is hidden: connected, and asks for nothing. Not even its connection for events counts.
            events = browser.events()
            assert server.wait() == EX_ASLEEP
            assert not is_called(server, within=0)
            # The connection to the kernel is the keeper's.
            assert kernel.execute("x + 1").value == "42"
        events.close()
        assert is_called(server)


def stays(server: Running, meanwhile: Callable[[], object]) -> bool:
    """Whether the server is there for longer than somebody may do nothing."""
    until = time.monotonic() + 3 * IDLE
    while time.monotonic() < until:
        meanwhile()
        time.sleep(0.2)
    assert server.process is not None
    return server.process.poll() is None


def test_a_page_in_view_keeps_the_server_and_strangers_do_not(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser, server.visitor() as stranger:
        assert stays(server, lambda: browser.api("GET", "kernels"))
        stranger.get("login")
        assert server.wait() == EX_ASLEEP


def test_a_kernel_that_prints_keeps_the_server(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        with connected(browser, session["kernel"]["id"]) as kernel:
            kernel.submit("import time\nwhile True: print('.'); time.sleep(0.3)")
        assert stays(server, lambda: None)
        browser.api("DELETE", f"sessions/{session['id']}")
        assert server.wait() == EX_ASLEEP


@pytest.mark.parametrize("setting", ["cull_idle", "TerminalManager"])
def test_what_is_to_be_ended_some_day_keeps_the_server(server: Running, setting: str):
    if setting == "cull_idle":
        server.settings["cull_idle"] = 3600
    else:
        configure(server, {setting: {"cull_inactive_timeout": 3600}})
    server.start().wait_until_ready()
    with server.owner() as browser:
        kind = "kernels" if setting == "cull_idle" else "terminals"
        one = browser.api("POST", kind, {})
        assert stays(server, lambda: None)
        browser.api("DELETE", f"{kind}/{one.get('id', one['name'])}")
    assert server.wait() == EX_ASLEEP


def test_who_has_tried_too_often_to_log_in_is_known_still(server: Running):
    server.start().wait_until_ready()
    assert provoke(server, "198.51.100.1").status_code == 429
    assert server.wait() == EX_ASLEEP
    wake(server)
    with server.visitor(address="198.51.100.1") as enemy:
        # The wait may be over meanwhile. Who is not known has five attempts.
        assert 429 in [guess(enemy).status_code for _ in range(2)]
    # Whoever has not failed is none of them.
    with server.owner() as browser:
        assert browser.logged_in


def test_a_keeper_that_cannot_wake_the_server_keeps_it(server: Running, tmp_path: Path):
    shutil.copytree(SOURCES / "jupyter_remote", tmp_path / "jupyter_remote", ignore=shutil.ignore_patterns("*.pyc"))
    module = tmp_path / "jupyter_remote/keeper/__main__.py"
    text = module.read_text()
    assert text.count('"sleep": self._sleep,') == 1
    module.write_text(text.replace('"sleep": self._sleep,', ""))
    server.take_sources(tmp_path).start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        server.take_sources(SOURCES).restart()
        assert stays(server, lambda: None)
        log = server.log.read_text()
        assert log.count("it stays: no operation 'sleep'") == 1
        browser.api("DELETE", f"sessions/{session['id']}")
    assert server.wait() == EX_ASLEEP


def test_a_terminal_goes_on(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        terminal = browser.open_terminal()
        terminal.run("x=41")
        assert server.wait() == EX_ASLEEP
        assert "42" in terminal.run("echo $((x + 1))")
        assert not is_called(server, within=0)


def test_without_a_time_or_somebody_to_start_it_again_it_stays(server: Running, make_server: Callable[[], Running]):
    server.settings["idle_stop"] = 0
    alone = make_server()
    alone.settings["idle_stop"] = 1
    try:
        for one in (server, alone):
            one.start().wait_until_ready()
        assert stays(server, lambda: None)
        assert alone.process is not None and alone.process.poll() is None
    finally:
        alone.close()


@pytest.fixture
def tmp(server: Running, tmp_path: Path) -> Path:
    """What is the server's, as long as it or a kernel is there."""
    directories = [tmp_path / name for name in ("empty", "own-tmp")]
    for directory in directories:
        directory.mkdir()
    server.environment["JUPYTER_REMOTE_TMP"] = " ".join(map(str, directories))
    return directories[1]


def test_a_file_in_tmp_that_nobody_else_holds_keeps_the_server(server: Running, tmp: Path):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        (tmp / "some").mkdir()
        (tmp / "some/table.parquet").write_text("all that was computed")
        # The kernel has it too.
        assert server.wait() == EX_ASLEEP
        wake(server)
        browser.api("DELETE", f"sessions/{session['id']}")
        assert stays(server, lambda: None)
        assert f"it stays: {tmp}/some/table.parquet would go with it." in server.log.read_text()
        (tmp / "some/table.parquet").unlink()
        assert server.wait() == EX_ASLEEP


def test_a_shell_that_ends_while_the_server_sleeps_leaves_it_what_is_in_tmp(server: Running, tmp: Path):
    server.start().wait_until_ready()
    with server.owner() as browser:
        terminal = browser.open_terminal()
        (tmp / "file").touch()
        assert server.wait() == EX_ASLEEP
        terminal.type("exit\r")
        assert is_called(server)
        assert server.kernel_socket is not None
        keeper = server.kernel_socket.keepers[0]
        assert keeper.poll() is None
        wake(server)
        assert keeper.wait(PATIENCE) == 0
        assert stays(server, lambda: None)


def test_nobody_misses_directories_sockets_and_cells_of_a_debugger(tmp_path: Path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ipykernel_17").mkdir()
    (tmp_path / "ipykernel_17/cell.py").touch()
    with contextlib.chdir(tmp_path), contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("a/socket")
    assert first_file(tmp_path) == first_file(tmp_path / "not there") == ""
    (tmp_path / "a/b/link").symlink_to("nowhere")
    assert first_file(tmp_path) == str(tmp_path / "a/b/link")


@pytest.mark.parametrize("kind", ["kernel", "terminal"])
def test_who_may_come_in_no_longer_is_disconnected_while_the_server_sleeps(server: Running, kind: str):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        server.stop()
        (login,) = (server.state / "logins").iterdir()
        known = json.loads(login.read_text())
        end = time.time() + 4 * IDLE
        login.write_text(json.dumps({**known, "expires": end}))
        server.start().wait_until_ready()
        page = (
            browser.connect(session["kernel"]["id"]).channels if kind == "kernel" else browser.open_terminal().channel
        )
        assert server.wait() == EX_ASLEEP
        assert time.time() < end
        # (Later the keeper would miss the page, which answers nobody here.)
        assert is_called(server, within=4 * IDLE)
        assert time.time() >= end
        wake(server)
        with contextlib.suppress(websocket.WebSocketConnectionClosedException):
            while page.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
                pass


def test_without_terminals_it_ends_too(server: Running):
    configure(server, {"ServerApp": {"terminals_enabled": False}})
    server.start().wait_until_ready()
    with server.owner() as browser:
        assert browser.get("api/terminals").status_code == 404
    assert server.wait() == EX_ASLEEP


def test_a_kernel_that_has_died_is_started_again_first(server: Running):
    # Jupyter looks every three seconds.
    configure(server, {"KernelRestarter": {"time_to_dead": 4.0 * IDLE}})
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        with connected(browser, session["kernel"]["id"]) as kernel:
            kernel.execute("x = 41")
        ask_keeper(server, session["kernel"]["id"], "signal", number=9)
        assert stays(server, lambda: None)


def test_what_goes_wrong_is_in_the_log(caplog: pytest.LogCaptureFixture):
    # An application of which nothing is there.
    unit = SimpleNamespace(sockets=[SimpleNamespace(getsockname=lambda: "/a/socket")])
    app = SimpleNamespace(unit=unit, keepers=SimpleNamespace(outlive_us=True), log=logging.getLogger("server"))
    asyncio.run(Sleep(app, 0.01).run())  # type: ignore[arg-type]
    assert "The server stays, whether somebody uses it or not." in caplog.text
    assert "AttributeError" in caplog.text


class Said:
    """A keeper that answers one thing."""

    def __init__(self, answer: Exception | None) -> None:
        self._answer = answer
        self.watched = False

    async def sleep(self, *_: Any) -> None:
        if self._answer:
            raise self._answer

    async def watch(self, _: str) -> None:
        self.watched = True


@pytest.mark.parametrize(
    ("answer", "is_watched"), [(Hangs("no answer"), True), (Refused("no operation 'sleep'"), False)]
)
def test_who_may_think_that_the_server_sleeps_is_told_that_it_does_not(
    monkeypatch: pytest.MonkeyPatch, answer: Exception, is_watched: bool
):
    keepers = [Said(None), Said(answer), Said(None)]
    app = SimpleNamespace(
        owner=SimpleNamespace(logins=SimpleNamespace(next_end=float("inf"))),
        all_keepers=[],
        keepers=SimpleNamespace(login=""),
        log=logging.getLogger("server"),
    )
    sleep = Sleep(app, 1)  # type: ignore[arg-type]
    monkeypatch.setattr(sleep, "_keepers", lambda: keepers)
    assert not asyncio.run(sleep._take_leave("/a/socket"))
    assert [one.watched for one in keepers] == [True, is_watched, False]
