"""Terminals outlive the server, as kernels do, and what a person does to them afterwards works."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import websocket
from running import HASH, OLD_HASH, Browser, Running

from jupyter_remote import kernels
from tests.client import PATIENCE, TerminalSocket, wait_until

RESTARTS = {
    "planned": lambda server: server.stop(),
    "killed": lambda server: (server.signal(signal.SIGKILL), server.wait()),
}


@pytest.fixture
def server(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server whose terminals outlive it, running."""
    running = make_server().keep_kernels().start().wait_until_ready()
    yield running
    running.close()


@pytest.fixture
def browser(server: Running) -> Iterator[Browser]:
    with server.owner() as browser:
        yield browser


def names(browser: Browser) -> list[str]:
    return [terminal["name"] for terminal in browser.api("GET", "terminals")]


def connect(browser: Browser, name: str) -> TerminalSocket:
    """Another tab."""
    return TerminalSocket(name, browser.websocket(f"terminals/websocket/{quote(name)}"))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def left_over(server: Running) -> list[Path]:
    return [*server.runtime.glob("terminals/*"), *server.state.glob("terminals/*")]


def configure(server: Running, config: dict[str, Any]) -> None:
    """The owner's own configuration."""
    directory = server.home / ".jupyter"
    directory.mkdir(exist_ok=True)
    (directory / "jupyter_server_config.json").write_text(json.dumps(config))


# -- survival ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", RESTARTS)
def test_an_open_terminal_goes_on(server: Running, browser: Browser, how: str):
    terminal = browser.open_terminal()
    shell = terminal.run("echo $$")
    terminal.type("for n in {1..2000}; do echo line-$n-; sleep 0.001; done; echo the-$((1 + 1))-end\r")
    terminal.read_until("line-10-")
    for _ in range(2):
        RESTARTS[how](server)
        # While there is no server:
        terminal.read_until("-")
        server.start().wait_until_ready()
        assert names(browser) == [terminal.name]
    # The same connection, and nothing is missing.
    seen = terminal.read_until("the-2-end\r\n")
    numbers = [int(part.partition("-")[0]) for part in seen.split("\nline-")[1:]]
    assert numbers == list(range(numbers[0], 2001))
    assert terminal.run("echo $$") == shell
    again = connect(browser, terminal.name)
    seen = again.read_until("the-2-end\r\n")
    assert seen.count("line-1-\r\n") == seen.count("line-2000-\r\n") == 1
    assert again.run("echo $$") == shell


def test_names_and_their_order_are_as_before(server: Running, browser: Browser):
    opened = [browser.open_terminal().name for _ in range(2)]
    opened.append(browser.api("POST", "terminals", {"name": "mine"})["name"])
    opened += [browser.api("POST", "terminals")["name"] for _ in range(8)]
    browser.api("DELETE", "terminals/2")
    opened.remove("2")
    assert names(browser) == opened == ["1", "mine", *map(str, range(3, 11))]
    server.restart()
    assert names(browser) == opened
    # The first that is free, as Jupyter has it.
    assert browser.api("POST", "terminals")["name"] == "2"
    server.restart()
    assert names(browser) == [*opened, "2"]


def test_the_time_of_the_last_activity_is_as_before(server: Running, browser: Browser):
    terminal = browser.open_terminal()
    terminal.run("echo x")
    # The keeper tells it once a second.
    time.sleep(1.5)
    (before,) = browser.api("GET", "terminals")
    server.restart()
    (after,) = browser.api("GET", "terminals")
    assert after["last_activity"] >= before["last_activity"]
    time.sleep(1.5)
    assert browser.api("GET", f"terminals/{terminal.name}") == after
    terminal.run("echo x")
    wait_until(
        lambda: browser.api("GET", f"terminals/{terminal.name}")["last_activity"] > after["last_activity"],
        "it is not told",
    )


def test_a_shell_that_ends_while_there_is_no_server_is_not_there_afterwards(server: Running, browser: Browser):
    terminal, other = browser.open_terminal(), browser.open_terminal()
    server.signal(signal.SIGKILL)
    server.wait()
    terminal.type("exit\r")
    wait_until(lambda: not (server.runtime / "terminals" / terminal.name).exists(), "it does not end")
    server.start().wait_until_ready()
    assert names(browser) == [other.name]
    assert sorted(path.name for path in left_over(server)) == [other.name] * 2


def test_a_keeper_that_was_killed_leaves_nothing(server: Running, browser: Browser):
    terminal = browser.open_terminal()
    shell = int(terminal.run("echo $$"))
    (keeper,) = [keeper for keeper in server.kernel_socket.keepers if keeper.poll() is None]
    # As root of the tests, it is unshare's child that keeps; without, it is the child itself.
    parent = int(Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    keeper.wait(PATIENCE)
    wait_until(lambda: names(browser) == [], "it is still listed")
    assert left_over(server) == []
    wait_until(lambda: not is_running(shell), "the shell has lost its terminal")
    assert browser.open_terminal().run("echo alive") == "alive"


def test_what_is_found_after_a_reboot_is_removed(server: Running, browser: Browser):
    server.stop()
    for top in (server.runtime, server.state):
        (top / "terminals" / "7").mkdir(parents=True)
    server.start().wait_until_ready()
    assert names(browser) == []
    assert left_over(server) == []


# -- the end -----------------------------------------------------------------------------------------


def test_the_command_lists_and_ends_terminals_too(server: Running, browser: Browser):
    terminal = browser.open_terminal()
    shell = int(terminal.run("echo $$"))
    (kept,) = kernels.find(server.runtime, server.state / "sessions.sqlite")
    assert (kept.kind, kept.id, kept.connections, kept.state) == ("terminal", terminal.name, 1, "idle")
    kernels.ask(server.runtime / "terminals" / kept.id / "control", op="end", to_the_end=True)
    assert not is_running(shell)
    wait_until(lambda: names(browser) == [], "it is still listed")
    assert left_over(server) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_terminal_that_is_deleted_takes_all_along(server: Running, browser: Browser, restarted: bool):
    terminal = browser.open_terminal()
    pids = [int(terminal.run("echo $$"))]
    pids.append(int(terminal.run("(trap '' HUP TERM INT; exec sleep 1000) & echo $!").split()[-1]))
    assert all(map(is_running, pids))
    if restarted:
        server.restart()
    assert browser.send("DELETE", f"api/terminals/{terminal.name}").status_code == 204
    wait_until(lambda: not any(map(is_running, pids)), "something still runs")
    assert _last(terminal) == (["disconnect", 1], 1000)
    assert names(browser) == []
    assert left_over(server) == []
    for method in ("GET", "DELETE"):
        assert browser.send(method, f"api/terminals/{terminal.name}").status_code == 404
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(browser, terminal.name)
    assert refused.value.status_code == 404


def test_a_shells_end_is_told_to_all_and_its_name_is_free(server: Running, browser: Browser):
    terminal = browser.open_terminal()
    other = connect(browser, terminal.name)
    other.run("echo ready")
    terminal.type("exit\r")
    for tab in (terminal, other):
        assert _last(tab) == (["disconnect", 1], 1000)
    assert names(browser) == []
    for tab in (terminal, other):
        tab.channel.shutdown()
    for keeper in server.kernel_socket.keepers:
        assert keeper.wait(PATIENCE) == 0
    assert left_over(server) == []
    assert names(browser) == []
    assert browser.open_terminal().name == terminal.name


def test_without_systemd_terminals_end_with_the_server(make_server: Callable[[], Running]):
    server = make_server().start().wait_until_ready()
    with server.owner() as browser:
        terminal = browser.open_terminal()
        pid = int(terminal.run("echo $$"))
        assert server.stop() == 0
        assert not is_running(pid)
        assert left_over(server) == []
    server.close()


def test_the_shut_down_request_ends_terminals(server: Running, browser: Browser):
    pid = int(browser.open_terminal().run("echo $$"))
    assert browser.send("POST", "api/shutdown").status_code == 200
    assert server.wait() == 0
    assert not is_running(pid)


def test_idle_terminals_are_culled_also_those_of_an_earlier_server(server: Running, browser: Browser):
    configure(server, {"TerminalManager": {"cull_inactive_timeout": 2, "cull_interval": 1}})
    kept = browser.open_terminal()
    pid = int(kept.run("echo $$"))
    server.restart()
    assert names(browser) == [kept.name]
    wait_until(lambda: names(browser) == [], "it is not culled")
    assert not is_running(pid)


# -- who may -----------------------------------------------------------------------------------------


def test_only_the_owner_connects(server: Running, browser: Browser):
    name = browser.open_terminal().name
    with server.visitor() as stranger, pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(stranger, name)
    assert refused.value.status_code == 403
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        browser.websocket(f"terminals/websocket/{name}", origin="https://elsewhere.test")
    assert refused.value.status_code == 403


def test_a_new_password_closes_the_terminals_of_those_who_were_logged_in(server: Running, browser: Browser):
    terminal = browser.open_terminal()
    pid = terminal.run("echo $$")
    server.stop()
    server.set_hash(OLD_HASH)
    server.start().wait_until_ready()
    assert _last(terminal)[1] == 1001
    with server.owner() as again:
        assert connect(again, terminal.name).run("echo $$") == pid
    server.set_hash(HASH)


def test_only_the_owner_can_get_at_anything(server: Running, browser: Browser):
    browser.open_terminal().run("echo x")
    for top in (server.runtime / "terminals", server.state / "terminals"):
        assert len(list(top.rglob("*"))) >= 1
        for path in (top, *top.rglob("*")):
            assert not path.lstat().st_mode & 0o077, path


@pytest.mark.parametrize("name", ["../x", "x/y", "x y", ".", "x" * 41, "ä", "x\n"])
def test_names_that_are_none_are_refused(server: Running, browser: Browser, name: str):
    answer = browser.send("POST", "api/terminals", {"name": name})
    assert answer.status_code == 400
    assert "name" in answer.json()["message"]
    assert left_over(server) == []


# -- a start -----------------------------------------------------------------------------------------


def test_a_name_that_runs_already_is_that_terminal(browser: Browser):
    terminal = browser.open_terminal()
    pid = terminal.run("echo $$")
    assert browser.api("POST", "terminals", {"name": terminal.name})["name"] == terminal.name
    assert connect(browser, terminal.name).run("echo $$") == pid
    assert names(browser) == [terminal.name]


def test_a_terminal_begins_where_it_was_asked_for(server: Running, browser: Browser):
    (server.home / "sub").mkdir()
    home, sub = str(server.home), str(server.home / "sub")
    for wanted, expected in (("sub", sub), (sub, sub), ("", home), ("/not/there", home)):
        name = browser.api("POST", "terminals", {"cwd": wanted})["name"]
        assert connect(browser, name).run("pwd") == expected


def test_the_shell_is_the_one_that_the_owner_has_configured(server: Running, browser: Browser):
    configure(server, {"ServerApp": {"terminado_settings": {"shell_command": ["/bin/sh"]}}})
    server.restart()
    assert browser.open_terminal().run("echo $0") == "/bin/sh"


def test_it_is_said_why_a_terminal_does_not_start(server: Running, browser: Browser):
    configure(server, {"ServerApp": {"terminado_settings": {"shell_command": ["/not/there"]}}})
    server.restart()
    answer = browser.send("POST", "api/terminals")
    assert answer.status_code == 500
    assert "/not/there" in answer.json()["message"]
    assert names(browser) == []
    # Its keeper said that, and ends.
    wait_until(lambda: not left_over(server), "something is left of it")


def test_terminals_can_be_switched_off(server: Running, browser: Browser):
    configure(server, {"ServerApp": {"terminals_enabled": False}})
    server.restart()
    assert browser.send("POST", "api/terminals").status_code == 404
    assert server.stop() == 0


def _last(terminal: TerminalSocket) -> tuple[Any, int]:
    """The last message, and the code that the connection is closed with."""
    last = None
    while True:
        # Not answered: the keeper may have gone by now.
        frame = terminal.channel.recv_frame()
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            return last, int.from_bytes(frame.data[:2], "big")
        if frame.opcode == websocket.ABNF.OPCODE_TEXT:
            last = json.loads(frame.data)
