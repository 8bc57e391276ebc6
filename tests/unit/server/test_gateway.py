"""Kernels on another machine: a stock Jupyter server as the gateway, by https, with a token, and a line that is cut."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from running import Browser, Running, not_root

from tests.client import wait_until

TOKEN = "s3cret-of-the-gateway"


@dataclass
class Line:
    """A TCP connection's way, that somebody cuts. Bytes are passed on as they come."""

    target: int
    listening: socket.socket = field(default_factory=socket.socket)
    open: set[socket.socket] = field(default_factory=set)
    is_cut: bool = False

    def __post_init__(self) -> None:
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(50)
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self.listening.accept()
            except OSError:
                return
            if self.is_cut:
                here.close()
                continue
            there = socket.create_connection(("127.0.0.1", self.target))
            self.open |= {here, there}
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        for end in (one, other):
            self.open.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.is_cut = True
        for end in list(self.open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False


@dataclass
class Remote:
    """The gateway: its own address, and the one by way of the line."""

    port: int
    ca: Path
    line: Line

    @property
    def url(self) -> str:
        return f"https://localhost:{self.line.port}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """As somebody who sits there."""
        request = urllib.request.Request(
            f"https://localhost:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"token {TOKEN}"},
            method=method,
        )
        context = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return json.loads(answer.read() or "null")

    def kernels(self) -> list[str]:
        return [one["id"] for one in self.ask("GET", "/api/kernels")]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    home = tmp_path_factory.mktemp("gateway")
    home.chmod(0o755)
    make = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout {home}/key.pem"
    subprocess.run(
        f"{make} -out {home}/ca.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost".split(),
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"port": port, "port_retries": 0, "certfile": home / "ca.pem", "keyfile": home / "key.pem"}
    words = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--IdentityProvider.token={TOKEN}"]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "JUPYTER_PREFER_ENV_PATH": "1"}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [*not_root(), *words, *(f"--ServerApp.{name}={value}" for name, value in options.items())],
            env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    gateway = Remote(port, home / "ca.pem", Line(port))

    def answers() -> bool:
        assert server.poll() is None, (home / "log").read_text()
        with contextlib.suppress(OSError):
            return gateway.kernels() == []
        return False

    wait_until(answers, lambda: (home / "log").read_text())
    yield gateway
    for kernel in gateway.kernels():
        gateway.ask("DELETE", f"/api/kernels/{kernel}")
    server.terminate()
    server.wait(20)
    gateway.line.listening.close()


@pytest.fixture
def server(make_server: Callable[[], Running], remote: Remote) -> Iterator[Running]:
    made = make_server().keep_kernels()
    token = made.home / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    made.settings |= {
        "gateway_url": remote.url,
        "gateway_token_file": str(token),
        "gateway_ca_file": str(remote.ca),
    }
    yield made.start().wait_until_ready()
    remote.line.mend()
    made.close()


@pytest.fixture
def browser(server: Running) -> Iterator[Browser]:
    with server.owner() as visitor:
        yield visitor


def there(browser: Browser) -> dict[str, Any]:
    """The kernels that the gateway offers, when it does."""

    def offered() -> dict[str, Any]:
        found = browser.api("GET", "kernelspecs")["kernelspecs"]
        return {name: one["spec"] for name, one in found.items() if name.startswith("gateway-")}

    return wait_until(offered, "the gateway's kernels are not offered")


def test_its_kernels_are_offered_beside_those_of_this_machine(browser: Browser) -> None:
    assert there(browser)["gateway-python3"]["display_name"] == "Python 3 (ipykernel) (localhost)"
    assert "python3" in browser.api("GET", "kernelspecs")["kernelspecs"]
    # The token is in no list, and in nobody's arguments.
    assert TOKEN not in json.dumps(browser.api("GET", "kernelspecs"))


def test_a_kernel_there_is_a_kernel_here(server: Running, browser: Browser, remote: Remote) -> None:
    there(browser)
    kernel = browser.start_kernel("gateway-python3")
    assert kernel.execute("6 * 7").value == "42"
    (its_id,) = remote.kernels()
    assert kernel.execute("import os; os.environ['HOME']").value == f"'{remote.ca.parent}'"
    assert kernel.execute("1 / 0").error == "ZeroDivisionError: division by zero"
    assert kernel.execute("for n in range(3000): print(n)").text == "".join(f"{n}\n" for n in range(3000))
    assert kernel.execute("from IPython.display import Image, display; display(Image(b'x' * 300_000, format='png'))")
    # Ctrl+C
    long = kernel.submit("import time; print('begun'); time.sleep(1000)")
    wait_until(lambda: kernel.receive()["msg_type"] == "stream", "it does not begin")
    kernel.interrupt()
    assert kernel.result(long).error.startswith("KeyboardInterrupt")
    # A question
    asking = kernel.submit("input('your name? ')")
    while (message := kernel.receive())["msg_type"] != "input_request":
        pass
    assert message["content"]["prompt"] == "your name? "
    kernel.send("stdin", "input_reply", {"value": "alice"})
    assert kernel.result(asking).value == "'alice'"
    # It outlives the server, as they all do.
    kernel.execute("kept = 1")
    long = kernel.submit("for n in range(20): print(n, flush=True); time.sleep(0.1)")
    server.restart()
    assert kernel.result(long).text.split() == [str(n) for n in range(20)]
    assert kernel.execute("kept").value == "1"
    kernel.shut_down()
    wait_until(lambda: its_id not in remote.kernels(), "the kernel there runs on")


def test_a_line_that_is_cut_costs_nothing_that_was_printed(browser: Browser, remote: Remote) -> None:
    there(browser)
    kernel = browser.start_kernel("gateway-python3")
    kernel.execute("import time; kept = 1")
    long = kernel.submit("for n in range(40): print(n, flush=True); time.sleep(0.1)\n'done'")
    wait_until(lambda: kernel.receive()["msg_type"] == "stream", "it does not begin")
    time.sleep(0.5)
    remote.line.cut()
    time.sleep(2)
    remote.line.mend()
    done = kernel.result(long)
    assert done.value == "'done'"
    said = [line for line in done.text.splitlines() if "localhost" in line]
    assert [("is lost" in line, "is back" in line) for line in said] == [(True, False), (False, True)]
    printed = [int(line) for line in done.text.splitlines() if line.isdigit()]
    assert printed == list(range(printed[0], 40))
    # What is asked for meanwhile is done when it can be.
    remote.line.cut()
    wait_until(lambda: not remote.line.open, "it is not cut")
    later = kernel.submit("kept + 1")
    time.sleep(1)
    remote.line.mend()
    assert kernel.result(later).value == "2"
    kernel.shut_down()


def test_a_kernel_that_is_gone_there_is_started_again_and_its_cell_says_so(browser: Browser, remote: Remote) -> None:
    there(browser)
    kernel = browser.start_kernel("gateway-python3")
    kernel.execute("kept = 1")
    (its_id,) = remote.kernels()
    kernel.submit("import time; time.sleep(1000)")
    wait_until(lambda: kernel.receive()["content"].get("execution_state") == "busy", "it does not begin")
    remote.ask("DELETE", f"/api/kernels/{its_id}")
    said: list[str] = []

    def is_gone() -> bool:
        message = kernel.receive()
        said.append(message["content"].get("text", ""))
        return message["content"].get("execution_state") in ("restarting", "autorestarting", "dead")

    wait_until(is_gone, "nobody notices")
    assert "is gone, with all that it knew" in "".join(said)
    wait_until(lambda: [one for one in remote.kernels() if one != its_id], "no other is started")
    assert kernel.execute("'kept' in globals()").value == "False"
    kernel.shut_down()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"token": "wrong"}, "does not take a token such as the one in"),
        ({"token": ""}, "wants a token"),
        ({"gateway_ca_file": ""}, "shows a certificate that is not trusted here"),
        ({"gateway_ca_file": "/etc/passwd"}, "gateway.ca_file /etc/passwd is no certificate"),
        ({"line": "cut"}, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_said_where_a_kernel_is_wanted(
    server: Running, browser: Browser, remote: Remote, change: dict[str, str], says: str
) -> None:
    # It has been well once, and a notebook wants that kernel.
    there(browser)
    if "token" in change:
        (server.home / "token").write_text(change["token"])
    elif "line" in change:
        remote.line.cut()
    else:
        server.settings |= change
    server.restart()
    with server.owner() as again:
        answer = again.send("POST", "api/kernels", {"name": "gateway-python3"})
        assert answer.status_code == 500
        assert says in answer.json()["message"], answer.text
    remote.line.mend()
    assert remote.kernels() == []
