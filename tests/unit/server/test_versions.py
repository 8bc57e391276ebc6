"""Servers and keepers of different versions, as upgrades and downgrades leave them: our sources with another number."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import SOURCES, Browser, Running
from websocket import ABNF, WebSocketBadStatusException

from jupyter_remote import kernels
from jupyter_remote.keeper import wire
from tests.client import TerminalSocket, wait_until

LATER = wire.WIRE + 1


@pytest.fixture
def server(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server whose kernels outlive it, not started."""
    running = make_server().keep_kernels()
    yield running
    running.close()


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are when the wire's next version is there."""
    sources = tmp_path_factory.mktemp("later")
    shutil.copytree(SOURCES / "jupyter_remote", sources / "jupyter_remote", ignore=shutil.ignore_patterns("*.pyc"))
    module = sources / "jupyter_remote/keeper/wire.py"
    text = module.read_text()
    assert text.count(f"\nWIRE = {wire.WIRE}\n") == 1
    module.write_text(text.replace(f"\nWIRE = {wire.WIRE}\n", f"\nWIRE = {LATER}\n"))
    return sources


class Work:
    """A notebook with a variable, and a terminal."""

    def __init__(self, browser: Browser, name: str = "work") -> None:
        self.browser = browser
        body = {"path": f"{name}.ipynb", "name": name, "type": "notebook", "kernel": {"name": "python3"}}
        self.session = browser.api("POST", "sessions", body)
        self.kernel = browser.connect(self.session["kernel"]["id"])
        self.kernel.execute("x = 41")
        self.terminal = browser.open_terminal()
        self.shell = self.terminal.run("echo $$")

    def goes_on(self) -> None:
        """In the tab that is open."""
        assert self.kernel.execute("x + 1").value == "42"
        assert self.terminal.run("echo $$") == self.shell
        assert [one["id"] for one in self.browser.api("GET", "sessions")] == [self.session["id"]]

    def can_be_reached(self) -> None:
        """From a new tab, with all that a person does there."""
        another = self.browser.connect(self.kernel.id)
        assert another.execute("x + 1").value == "42"
        sleeping = another.submit("import time; print('asleep', flush=True); time.sleep(600)")
        while another.receive()["msg_type"] != "stream":
            pass
        another.interrupt()
        assert str(another.result(sleeping).error).startswith("KeyboardInterrupt")
        name = self.terminal.name
        again = TerminalSocket(name, self.browser.websocket(f"terminals/websocket/{name}"))
        assert again.run("echo $$") == self.shell
        again.channel.close()
        another.channels.close()

    def model(self) -> dict[str, Any]:
        return next(one for one in self.browser.api("GET", "kernels") if one["id"] == self.kernel.id)

    def is_there(self) -> bool:
        """Whether the server lists either of them."""
        kept = [one["id"] for one in self.browser.api("GET", "kernels")]
        kept += [one["name"] for one in self.browser.api("GET", "terminals")]
        return self.kernel.id in kept or self.terminal.name in kept


def versions(server: Running) -> dict[str, int]:
    """Of each keeper."""
    controls = server.runtime.glob(f"*/*/{wire.CONTROL}")
    return {control.parent.name: kernels.ask(control, op="status")["wire"] for control in controls}


def listed(server: Running) -> dict[str, kernels.Kept]:
    """By `jupyter-remote kernels`."""
    return {one.id: one for one in kernels.find(server.runtime, server.state / "sessions.sqlite")}


def test_the_version_before_is_understood():
    assert wire.UNDERSTOOD[-1] == wire.WIRE
    assert wire.UNDERSTOOD == (wire.WIRE,) if wire.WIRE == 1 else (wire.WIRE - 1, wire.WIRE)


def test_what_the_version_before_has_started_goes_on_in_every_way(server: Running, later: Path):
    server.start().wait_until_ready()
    with server.owner() as browser:
        work = Work(browser)
        server.stop()
        server.take_sources(later).start().wait_until_ready()
        work.goes_on()
        work.can_be_reached()
        new = browser.start_kernel()
        assert new.execute("6 * 7").value == "42"
        assert versions(server) == {work.kernel.id: wire.WIRE, work.terminal.name: wire.WIRE, new.id: LATER}
        browser.api("POST", f"kernels/{work.kernel.id}/restart")
        assert work.kernel.execute("'x' in globals()").value == "False"
        browser.send("DELETE", f"api/sessions/{work.session['id']}").raise_for_status()
        browser.send("DELETE", f"api/terminals/{work.terminal.name}").raise_for_status()
        assert versions(server) == {new.id: LATER}


def test_what_another_version_has_started_runs_on_and_it_is_said_why_it_cannot_be_reached(server: Running, later: Path):
    server.take_sources(later).start().wait_until_ready()
    with server.owner() as browser:
        work = Work(browser)
        server.stop()
        server.take_sources(SOURCES).start().wait_until_ready()
        work.goes_on()
        model = work.model()
        assert (model["name"], model["execution_state"]) == ("python3", "unknown")
        assert "another version" in model["reason"]
        assert f"jupyter-remote kernels stop {work.kernel.id}" in server.log.read_text()
        with pytest.raises(WebSocketBadStatusException) as refused:
            browser.connect(work.kernel.id)
        assert refused.value.status_code == 501
        answer = browser.send("POST", f"api/kernels/{work.kernel.id}/interrupt")
        assert (answer.status_code, answer.json()["message"]) == (501, model["reason"])
        # Jupyter's own words, and in the log ours
        assert browser.send("POST", f"api/kernels/{work.kernel.id}/restart").status_code == 500
        assert [one["name"] for one in browser.api("GET", "terminals")] == [work.terminal.name]

        assert {one.state for one in listed(server).values()} == {"other version"}
        shown = kernels.as_text(list(listed(server).values()), 0)
        assert "work.ipynb" in shown and "2 of them: started by another version" in shown
        with pytest.raises(kernels.Silent, match="another version"):
            kernels.interrupt(server.runtime, listed(server)[work.kernel.id])

        new, terminal = browser.start_kernel(), browser.open_terminal()
        assert new.execute("6 * 7").value == "42"
        assert terminal.name != work.terminal.name
        work.goes_on()

        server.stop()
        server.take_sources(later).start().wait_until_ready()
        work.goes_on()
        work.can_be_reached()
        assert work.model()["execution_state"] != "unknown"
        assert new.execute("6 * 7").value == "42"


def test_what_cannot_be_reached_can_be_ended(server: Running, later: Path):
    server.take_sources(later).start().wait_until_ready()
    with server.owner() as browser:
        closed, changed, stopped = (Work(browser, name) for name in ("closed", "changed", "stopped"))
        server.stop()
        server.take_sources(SOURCES).start().wait_until_ready()

        browser.send("DELETE", f"api/sessions/{closed.session['id']}").raise_for_status()
        browser.send("DELETE", f"api/terminals/{closed.terminal.name}").raise_for_status()
        assert not {closed.kernel.id, closed.terminal.name} & listed(server).keys()

        answer = browser.send("PATCH", f"api/sessions/{changed.session['id']}", {"kernel": {"name": "python3"}})
        answer.raise_for_status()
        assert browser.connect(answer.json()["kernel"]["id"]).execute("'x' in globals()").value == "False"
        assert changed.kernel.id not in listed(server)

        for one in (stopped.kernel.id, stopped.terminal.name):
            kernels.stop(server.runtime, listed(server)[one])
        wait_until(lambda: not stopped.is_there(), "it is still listed")
        assert [one["id"] for one in browser.api("GET", "sessions")] == [changed.session["id"]]
        assert browser.api("GET", "terminals")[0]["name"] == changed.terminal.name
        assert browser.open_terminal().run("echo there") == "there", "a name is free again"

        browser.get("logout").raise_for_status()
        while changed.terminal.channel.recv_data()[0] != ABNF.OPCODE_CLOSE:
            pass


def test_a_kernel_about_which_a_later_server_has_noted_something_else_is_listed_too(server: Running):
    home, name = str(server.home), "00000000-0000-0000-0000-000000000001"
    start = {"argv": ["/bin/sleep", "600"], "env": {}, "cwd": home, "memo": {"kernel_name": "other"}}
    order = {"wire": wire.WIRE, "kind": "kernel", "id": name, "key": "k", "login": "", "journal_bytes": 1 << 20,
             "runtime": str(server.runtime / "kernels" / name), "state": str(server.state / "kernels" / name),
             "memory_limit": None, "start": start}  # fmt: skip
    for directory in (server.runtime, server.state):
        (directory / "kernels").mkdir()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(server.top / "kernel.sock"))
        asking.sendall(json.dumps(order).encode() + b"\n")
        assert json.loads(asking.makefile().readline())["wire"] == wire.WIRE
    server.start().wait_until_ready()
    with server.owner() as browser:
        (model,) = browser.api("GET", "kernels")
        assert (model["id"], model["name"], model["execution_state"]) == (name, "other", "unknown")
        browser.send("DELETE", f"api/kernels/{name}").raise_for_status()
        assert browser.api("GET", "kernels") == [] and listed(server) == {}


def test_a_server_whose_files_were_replaced_says_why_no_kernel_starts(server: Running, later: Path):
    server.start().wait_until_ready()
    server.take_sources(later)
    with server.owner() as browser:
        answer = browser.send("POST", "api/kernels", {})
        assert answer.status_code == 500
        assert "an upgrade is going on, try again" in answer.json()["message"]
        server.restart()
        assert browser.start_kernel().execute("6 * 7").value == "42"


def test_what_hangs_while_the_server_starts_is_not_given_up(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        work = Work(browser)
        assert server.kernel_socket is not None
        stopped = [one.pid for one in server.kernel_socket.keepers]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        server.restart()
        assert "does not answer" in work.model()["reason"]
        assert [one["id"] for one in browser.api("GET", "sessions")] == [work.session["id"]]
        assert browser.open_terminal().name != work.terminal.name
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        server.restart()
        work.goes_on()
        work.can_be_reached()
