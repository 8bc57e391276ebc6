"""Kernels live as long as the owner wants, and what runs them is the owner's alone."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import websocket
from lab.box import NONINTERACTIVE, Box, Person

from tests.client import PATIENCE, Client, Kernel, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

RUNTIME = "/run/jupyter-remote/alice/kernels"
STATE = "/var/lib/jupyter-remote/users/alice/kernels"
REINSTALL = "apt-get -qq install --yes --reinstall"

#: A cell that counts until a file is there.
COUNT = """
import os, time
n = 0
while not os.path.exists({stop!r}):
    print(n, flush=True)
    n += 1
    time.sleep(0.01)
"""


class Tab:
    """An open notebook: it reads all the time, and connects again, as the same page, when it loses the connection."""

    def __init__(self, visitor: Client, path: str) -> None:
        """:param path: the notebook, below the notebook directory."""
        self.visitor = visitor
        wish = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        made = visitor.api("POST", "sessions", wish)
        #: the session's id and the kernel's, as a page keeps them
        self.session, self.kernel = made["id"], made["kernel"]["id"]
        self.connected = 0
        self._page = uuid.uuid4().hex
        # as our pages do: up to this number it has everything
        self._number = 0
        #: by the request that they answer, in the order in which they came
        self._answers: defaultdict[str, list[dict]] = defaultdict(list)
        self._news = threading.Condition()
        self._closed = False
        self._channels = self._connect()
        threading.Thread(target=self._read, daemon=True).start()

    def _connect(self) -> Kernel:
        path = f"api/kernels/{self.kernel}/channels?session_id={self._page}&after={self._number}"
        connected = Kernel(self.visitor, self.kernel, self._page, self.visitor.websocket(path))
        self.connected += 1
        return connected

    def _read(self) -> None:
        while not self._closed:
            try:
                message = self._channels.receive()
            except (OSError, ValueError, AssertionError, websocket.WebSocketException):
                # as a page does: again and again
                with contextlib.suppress(OSError, websocket.WebSocketException):
                    time.sleep(0.2)
                    if not self._closed:
                        self._channels = self._connect()
                continue
            self._number = message["metadata"].get("jupyter_remote", self._number)
            with self._news:
                self._answers[message["parent_header"].get("msg_id", "")].append(message)
                self._news.notify_all()

    def submit(self, code: str) -> str:
        return self._channels.submit(code)

    def send(self, channel: str, kind: str, content: dict) -> str:
        return self._channels.send(channel, kind, content)

    def wait(self, request: str, wanted: Callable[[dict], object]) -> None:
        """Wait until an answer to that request is as wanted.

        :raises AssertionError: none comes.
        """
        with self._news:
            there = self._news.wait_for(lambda: any(map(wanted, self.answers(request))), PATIENCE)
        assert there, f"it does not come; what came: {self.answers(request)[-3:]}"

    def finished(self, request: str) -> list[dict]:
        """All answers to that request, when the kernel has done it."""
        self.wait(request, lambda message: message["msg_type"] == "execute_reply")
        self.wait(request, lambda message: message["content"].get("execution_state") == "idle")
        return self.answers(request)

    def answers(self, request: str) -> list[dict]:
        return self._answers[request]

    def text(self, request: str) -> str:
        """What it printed so far."""
        return "".join(message["content"].get("text", "") for message in self.answers(request))

    def run(self, code: str) -> str:
        """The value of an expression."""
        answers = self.finished(self.submit(code))
        return next(one["content"]["data"]["text/plain"] for one in answers if one["msg_type"] == "execute_result")

    def prints_on(self, request: str) -> None:
        """Wait for something that is printed from now on."""
        answers = self.answers(request)
        before = len(answers)
        with self._news:
            there = self._news.wait_for(lambda: any(one["msg_type"] == "stream" for one in answers[before:]), PATIENCE)
        assert there, "it prints no more"

    def lose_connection(self) -> None:
        """As when the network goes for a moment; returns when it is connected again."""
        before = self.connected
        self._channels.channels.sock.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: self.connected > before, "the page does not connect again")

    def close(self) -> None:
        self._closed = True
        self._channels.channels.close()


def server(box: Box) -> str:
    """The process id of the server."""
    return box.sh("systemctl show -P MainPID jupyter-remote.service")


def listed(person: Box | Person) -> list[dict]:
    """What `jupyter-remote kernels` says."""
    return json.loads(person.sh("jupyter-remote kernels --json"))


def keepers(box: Box) -> list[int]:
    return [process.pid for process in box.processes() if "jupyter_remote.keeper" in process.argv]


@pytest.mark.either_release
def test_a_cell_runs_on_whatever_happens_to_the_server(box: Box, deb: Path, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    tab, waiting = Tab(visitor, "a.ipynb"), Tab(visitor, "b.ipynb")
    tab.finished(tab.submit("x = 41"))
    cell = tab.submit(COUNT.format(stop="/tmp/stop"))
    queued = tab.submit("(x + 1, n)")
    asking = waiting.send("shell", "execute_request", {"code": "input('name? ')", "allow_stdin": True})
    waiting.wait(asking, lambda message: message["msg_type"] == "input_request")
    sessions = sorted((one["id"], one["kernel"]["id"]) for one in visitor.api("GET", "sessions"))
    assert len(sessions) == 2

    package = box.put(deb)
    for happens in (
        "systemctl restart jupyter-remote",
        "kill -KILL $(systemctl show -P MainPID jupyter-remote.service)",
        f"{REINSTALL} {package}",
        "systemctl daemon-reexec",
        "systemctl restart jupyter-remote-kernel.socket jupyter-remote.socket; systemctl start jupyter-remote",
    ):
        before = server(box)
        box.sh(happens, env=NONINTERACTIVE)
        tab.prints_on(cell)
        assert sorted((one["id"], one["kernel"]["id"]) for one in visitor.api("GET", "sessions")) == sessions, happens
        assert (server(box) == before) == ("reexec" in happens), happens
        assert tab.connected == waiting.connected == 1, "the page did not even notice"
        states = {one["id"]: one["execution_state"] for one in visitor.api("GET", "kernels")}
        assert states == {tab.kernel: "busy", waiting.kernel: "busy"}, happens
    box.sh("systemctl restart apache2")
    tab.prints_on(cell)
    assert tab.connected > 1

    box.sh(f"touch /proc/{server(box)}/root/tmp/stop")
    tab.finished(cell)
    numbers = tab.text(cell).splitlines()
    assert numbers == [str(number) for number in range(len(numbers))], "all, once, in order"
    values = [
        one["content"]["data"]["text/plain"] for one in tab.finished(queued) if one["msg_type"] == "execute_result"
    ]
    assert values == [f"(42, {len(numbers)})"]
    waiting.send("stdin", "input_reply", {"value": "alice"})
    assert any("'alice'" in str(message["content"]) for message in waiting.finished(asking))

    sleeping = tab.submit("import time; print('asleep', flush=True); time.sleep(10000)")
    tab.wait(sleeping, lambda message: message["msg_type"] == "stream")
    visitor.api("POST", f"kernels/{tab.kernel}/interrupt")
    assert "KeyboardInterrupt" in str(tab.finished(sleeping))
    visitor.api("POST", f"kernels/{tab.kernel}/restart")
    assert tab.run("'x' in globals()") == "False"
    visitor.api("DELETE", f"kernels/{tab.kernel}")
    assert [one["id"] for one in visitor.api("GET", "kernels")] == [waiting.kernel]
    # its unit ends a moment after it has said goodbye
    units = "systemctl list-units --plain --no-legend 'jupyter-remote-kernel@*'"
    box.sh(f"until [ $({units} | wc -l) = 1 ]; do sleep 0.1; done", timeout=60)
    tab.close()
    waiting.close()


def test_what_keeps_kernels_is_for_the_owner_alone(box: Box, alice: Person, bob: Person, client: MakeClient):
    kernel = client(box).login(PASSWORD).start_kernel()
    kernel.execute("print('a secret that was printed')")
    assert box.sh("stat -c '%U %a' /run/jupyter-remote/kernel.sock") == "alice 600"
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('{}')"
    sockets = ["/run/jupyter-remote/kernel.sock", f"{RUNTIME}/{kernel.id}/control"]
    sockets += box.sh(f"ls {RUNTIME}/{kernel.id}/front-*").split()
    assert len(sockets) == 7
    for path in sockets:
        assert "PermissionError" in bob.attempt(f'python3 -c "{connect.format(path)}"').stderr, path
    for directory in (RUNTIME, STATE, f"{RUNTIME}/{kernel.id}", f"{STATE}/{kernel.id}/journal"):
        assert box.exists(directory)
        assert "Permission denied" in bob.attempt(f"ls {directory}").stderr
        assert box.sh(f"find {directory} ! -user alice") == ""
        assert box.sh(f"find {directory} -perm /077 ! -type l ! -type s") == ""
    refused = bob.attempt("jupyter-remote kernels")
    assert refused.returncode == 77 and "sudo jupyter-remote kernels" in refused.stderr
    assert [one["id"] for one in listed(alice)] == [kernel.id]


def test_a_kernel_can_do_no_more_than_the_server(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()

    def tried(code: str) -> str:
        done = kernel.execute(code)
        return done.error or done.value or ""

    def of_process(path: str) -> dict[str, str]:
        names = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        lines = dict(line.split(":", 1) for line in box.read(path).splitlines())
        return {name: lines[name] for name in names}

    pid = next(one["pid"] for one in listed(box) if one["id"] == kernel.id)
    assert of_process(f"/proc/{pid}/status") == of_process(f"/proc/{server(box)}/status")
    assert of_process(f"/proc/{pid}/status")["NoNewPrivs"].strip() == "1"

    for path in (
        "/usr/x",
        "/etc/x",
        "/boot/x",
        "/sys/fs/cgroup/system.slice/cgroup.procs",
        "/proc/sys/kernel/hostname",
    ):
        assert re.match("OSError|PermissionError", tried(f"open({path!r}, 'w')")), path
    assert re.match("PermissionError|FileNotFound", tried("import os; os.listdir('/run/credentials')"))
    assert tried("import glob; glob.glob('/run/credentials/*/*')") == "[]"
    # the same /tmp as the server's and its terminals', and nobody else's
    tried("open('/tmp/of-a-kernel', 'w').close()")
    terminal = visitor.open_terminal()
    assert terminal.run("ls /tmp/of-a-kernel") == "/tmp/of-a-kernel"
    assert not box.exists("/tmp/of-a-kernel")
    box.sh("systemctl stop jupyter-remote; systemctl start jupyter-remote")
    assert box.sh(f"ls /proc/{server(box)}/root/tmp/of-a-kernel")
    other = visitor.start_kernel()
    assert other.execute("os = __import__('os'); os.path.exists('/tmp/of-a-kernel')").value == "True"


@pytest.mark.one_release
def test_after_a_reboot_nothing_stale_is_listed(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    tab = Tab(visitor, "a.ipynb")
    tab.finished(tab.submit("print('before')"))
    tab.close()
    box.reboot()
    assert visitor.api("GET", "kernels") == visitor.api("GET", "sessions") == []
    assert listed(box) == []
    box.sh(f'until [ -z "$(find {STATE} {RUNTIME} -mindepth 1)" ]; do sleep 0.1; done', timeout=60)
    assert visitor.start_kernel().execute("6 * 7").value == "42"


#: packages of kernels that have nothing to do with Python; a cell, what it shows, one that never ends
OTHERS = {
    "xeus-gp": ("xeus-gp", "x = 41", "x + 1", "42", "while(1,)"),
    "ir": ("r-cran-irkernel", "x <- 41", "cat(x + 1)", "42", "repeat {}"),
}


@pytest.mark.one_release
@pytest.mark.parametrize("name", OTHERS)
def test_a_kernel_of_another_language_runs_survives_and_is_interrupted(box: Box, client: MakeClient, name: str):
    package, sets, shows, answer, never_ends = OTHERS[name]
    box.sh(f"apt-get -qq update && apt-get -qq install --yes --no-install-recommends {package}", env=NONINTERACTIVE)
    kernel = client(box).login(PASSWORD).start_kernel(name)
    kernel.execute(sets)
    box.sh("systemctl restart jupyter-remote")
    assert answer in str(kernel.execute(shows).messages)
    endless = kernel.submit(never_ends)
    while kernel.receive()["content"].get("execution_state") != "busy":
        pass
    box.sh("systemctl kill --signal=KILL jupyter-remote.service")
    # An interrupt that comes before the kernel has begun is no interrupt of the cell.
    time.sleep(1)
    kernel.interrupt()
    kernel.result(endless)
    assert answer in str(kernel.execute(shows).messages)


@pytest.mark.one_release
def test_a_removed_package_leaves_no_kernel_running_and_a_purged_one_no_trace(box: Box, client: MakeClient):
    kernel = client(box).login(PASSWORD).start_kernel()
    kernel.execute("import subprocess; subprocess.Popen(['sleep', '12345'], start_new_session=True)")
    assert len(keepers(box)) == 1
    box.sh("apt-get -qq remove --yes jupyter-remote", env=NONINTERACTIVE)
    assert keepers(box) == []
    assert [process for process in box.processes() if "12345" in process.argv or "ipykernel" in str(process.argv)] == []
    assert box.sh("systemctl list-units --no-legend --plain 'jupyter-remote*' | grep -v not-found || true") == ""
    box.sh("apt-get -qq purge --yes jupyter-remote", env=NONINTERACTIVE)
    assert not box.exists("/run/jupyter-remote") and not box.exists("/var/lib/jupyter-remote")
    assert box.sh("ls -d /etc/systemd/system/jupyter-remote* 2>/dev/null || true") == ""


@pytest.mark.one_release
def test_the_command_lists_interrupts_and_stops_also_while_the_server_is_down(
    box: Box, alice: Person, client: MakeClient
):
    assert alice.sh("jupyter-remote kernels") == "No kernel runs."
    visitor = client(box).login(PASSWORD)
    tab, second = Tab(visitor, "work.ipynb"), visitor.start_kernel()
    cell = tab.submit("import time\nprint('begun', flush=True)\ntime.sleep(10000)")
    tab.wait(cell, lambda message: message["msg_type"] == "stream")
    assert "2 kernels and terminals" in alice.sh("jupyter-remote status")
    box.sh("systemctl stop jupyter-remote.socket jupyter-remote.service")

    first = next(one for one in listed(alice) if one["id"] == tab.kernel)
    assert (first["notebook"], first["state"], first["kind"]) == ("work.ipynb", "busy", "kernel")
    assert first["environment"].startswith("Python 3") and first["unit"].startswith("jupyter-remote-kernel@")
    table = alice.sh("jupyter-remote kernels")
    assert "work.ipynb" in table and tab.kernel[:8] in table
    assert {one["id"] for one in listed(box)} == {tab.kernel, second.id}, "root sees the same"

    alice.sh(f"jupyter-remote kernels interrupt {tab.kernel[:8]}")
    assert "KeyboardInterrupt" in str(tab.finished(cell))
    assert alice.attempt("jupyter-remote kernels stop nothing-like-it").returncode == 65
    assert alice.attempt("jupyter-remote kernels stop").returncode == 64
    alice.sh(f"jupyter-remote kernels stop {second.id[:8]}")
    assert [one["id"] for one in listed(alice)] == [tab.kernel]
    box.sh("systemctl start jupyter-remote.socket jupyter-remote.service")
    assert [one["id"] for one in visitor.api("GET", "kernels")] == [tab.kernel]
    # while it is up, the server hears of it, and does not start what somebody has stopped
    alice.sh("jupyter-remote kernels stop --all")
    box.sh(f'until [ -z "$(ls {RUNTIME})" ]; do sleep 0.1; done', timeout=60)
    assert visitor.api("GET", "kernels") == []
    third = visitor.start_kernel()
    assert third.execute("1 + 1").value == "2"
    box.sh("systemctl stop jupyter-remote-kernels.slice")
    assert keepers(box) == [] and listed(box) == []
    assert visitor.start_kernel().execute("2 + 2").value == "4"
    tab.close()
