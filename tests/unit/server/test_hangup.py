"""Apache stops: all websockets are closed, whoever has them, and pages open them again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
import websocket
from running import Browser, Running

from jupyter_remote.keeper import hangup
from jupyter_remote.keeper.wire import CONTROL, Lines


def closing_code(channel: websocket.WebSocket) -> int:
    while True:
        # Not what answers a goodbye by itself: nobody is there for that.
        frame = channel.recv_frame()
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(frame.data[:2], "big")


def look_once(server: Running) -> None:
    somebody = os.pidfd_open(os.getpid())
    assert hangup.hang_up(1.0, somebody, str(server.top))
    os.close(somebody)


def opened(browser: Browser) -> list[websocket.WebSocket]:
    """A kernel's, a terminal's, that for events."""
    kernel, terminal = browser.start_kernel(), browser.open_terminal()
    assert kernel.execute("x = 41").error is None
    terminal.run("echo ready")
    return [kernel.channels, terminal.channel, browser.events()]


def keeper_of(server: Running, kernel: str) -> int:
    """The process id of a kernel's keeper."""
    with contextlib.closing(Lines(socket.socket(socket.AF_UNIX))) as control:
        control.connection.connect(str(server.runtime / "kernels" / kernel / CONTROL))
        control.send({"op": "status"})
        ((status, _),) = control.receive()
    return int(status["keeper"])


def test_all_websockets_are_closed_and_can_be_opened_again(server: Running):
    server.keep_kernels().start().wait_until_ready()
    with server.owner() as browser:
        channels = opened(browser)
        look_once(server)
        # 1012, service restart: pages connect again by themselves.
        assert [closing_code(channel) for channel in channels] == [1012] * 3
        (kernel,) = browser.api("GET", "kernels")
        assert browser.connect(kernel["id"]).execute("x + 1").value == "42"
        browser.events().close()


def test_a_keeper_that_hangs_keeps_its_own_websockets_and_no_other(server: Running):
    server.keep_kernels().start().wait_until_ready()
    with server.owner() as browser:
        _, terminal, events = opened(browser)
        (listed,) = browser.api("GET", "kernels")
        keeper = keeper_of(server, listed["id"])
        os.kill(keeper, signal.SIGSTOP)
        try:
            look_once(server)
            assert closing_code(terminal) == closing_code(events) == 1012
        finally:
            os.kill(keeper, signal.SIGCONT)
        assert browser.connect(listed["id"]).execute("x + 1").value == "42"


@pytest.mark.parametrize("told", [[], ["MainPID={}\n"], ["Job=\n", "MainPID={}\n"], ["Job=7\n", "MainPID=0\n"]])
def test_while_apache_stays_nobody_is_disturbed(told: list[str], tmp_path: Path):
    """Our unit was stopped alone; or there was no Apache."""
    with Listening(tmp_path) as calls:
        assert hangup.main([line.format(os.getpid()) for line in told], str(tmp_path)) == 0
    assert not calls.number


def test_it_looks_again_until_apache_has_gone(tmp_path: Path):
    with Listening(tmp_path) as calls, subprocess.Popen(["sleep", "1000"]) as apache:
        calls.third = apache.kill
        try:
            assert hangup.main(["Job=7\n", f"MainPID={apache.pid}\n"], str(tmp_path)) == 0
        finally:
            apache.kill()
        assert apache.wait() == -signal.SIGKILL
    assert calls.number >= 3


class Listening:
    """A keeper's place, where calls are counted and never answered."""

    def __init__(self, run: Path) -> None:
        (run / "alice").mkdir()
        self.number = 0
        #: called when there were three
        self.third = lambda: None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(run / "alice" / CONTROL))
        self._socket.listen()
        self._accepting = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.number += 1
                connection.close() if self.number % 2 else self._kept.append(connection)
                if self.number == 3:
                    self.third()

    def __enter__(self) -> Listening:
        self._kept: list[socket.socket] = []
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        # Ends the accept.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._socket.close()
        for connection in self._kept:
            connection.close()
