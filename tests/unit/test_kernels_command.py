"""`jupyter-remote kernels`, on keepers that run."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_remote import kernels
from jupyter_remote.keeper import wire
from jupyter_remote.kernels import Kept, Silent
from jupyter_remote.run import Mistake

SOURCES = Path(__file__).resolve().parents[2] / "src"

#: seconds without an answer after which something hangs
PATIENCE = 60

#: A program that is kept: it says when it is interrupted, and goes on.
PROGRAM = "import signal\nsignal.signal(signal.SIGINT, lambda *_: open('interrupted', 'w').close())\n" + (
    "open('ready', 'w').close()\nwhile True:\n    signal.pause()"
)


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts keepers as the server does: ``keep("an id", memo={…})``."""
    made = []

    def start(name: str, **memo: Any) -> subprocess.Popen[bytes]:
        ours, its = socket.socketpair()
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "HOME": str(tmp_path)}
        words = [sys.executable, "-P", "-m", "jupyter_remote.keeper"]
        made.append(subprocess.Popen(words, stdin=its, env=environment, start_new_session=True))
        its.close()
        ours.settimeout(PATIENCE)
        home = tmp_path / name
        home.mkdir()
        order = {
            "wire": wire.WIRE, "kind": "kernel", "id": name, "runtime": str(tmp_path / "run/kernels" / name),
            "state": str(tmp_path / "state/kernels" / name), "key": "k", "login": "l", "journal_bytes": 1 << 20,
            "memory_limit": None,
            "start": {"argv": [sys.executable, "-c", PROGRAM], "env": environment, "cwd": str(home), "memo": memo},
        }  # fmt: skip
        with ours:
            ours.sendall(json.dumps(order).encode() + b"\n")
            assert "error" not in json.loads(ours.makefile().readline())
        wait_for(home / "ready")
        return made[-1]

    yield start
    for process in made:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE)


def wait_for(path: Path) -> None:
    """:raises AssertionError: it does not come."""
    tick = threading.Event()
    for _ in range(PATIENCE * 20):
        if path.exists():
            return
        tick.wait(0.05)
    raise AssertionError(f"{path} does not come")


def found(top: Path) -> list[Kept]:
    return kernels.find(top / "run", top / "state/sessions.sqlite")


def test_what_runs_is_listed_with_its_notebook(tmp_path: Path, keep: Callable[..., Any]) -> None:
    keep("0123456789ab", kernel_name="python3", spec={"display_name": "Python 3 (own)"})
    keep("fedcba987654", kernel_name="ir")
    with sqlite3.connect(tmp_path / "state/sessions.sqlite") as base:
        base.execute("CREATE TABLE session (session_id, path, name, type, kernel_id)")
        base.execute("INSERT INTO session VALUES ('s', 'work/a.ipynb', 'a', 'notebook', '0123456789ab')")
    first, second = found(tmp_path)
    assert (first.id, first.environment, first.notebook) == ("0123456789ab", "Python 3 (own)", "work/a.ipynb")
    assert (second.id, second.environment, second.notebook) == ("fedcba987654", "ir", "")
    assert first.pid and first.started
    table = kernels.as_text([first, second], first.started + 90)
    assert [line.split()[0] for line in table.splitlines()] == ["ID", "01234567", "fedcba98"]
    assert "1min" in table and "work/a.ipynb" in table


def test_an_interrupt_arrives_and_a_stop_leaves_nothing(tmp_path: Path, keep: Callable[..., Any]) -> None:
    keeper = keep("one", kernel_name="python3")
    (one,) = found(tmp_path)
    kernels.interrupt(tmp_path / "run", one)
    wait_for(tmp_path / "one/interrupted")
    kernels.ask(tmp_path / "run/kernels/one/control", op="end", to_the_end=True)
    assert found(tmp_path) == []
    assert not (tmp_path / "run/kernels/one").exists() and not (tmp_path / "state/kernels/one").exists()
    assert keeper.wait(PATIENCE) == 0


def test_a_kernel_that_wants_a_message_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zmq
    from jupyter_client.session import Session

    directory = tmp_path / "run/kernels/one"
    directory.mkdir(parents=True)
    memo = {"key": "secret", "spec": {"interrupt_mode": "message"}}
    monkeypatch.setattr(kernels, "ask", lambda control, **line: {"memo": memo})
    with zmq.Context() as context, context.socket(zmq.ROUTER) as kernel:
        kernel.bind(f"ipc://{directory}/{wire.FRONT}-4")
        asked = threading.Thread(target=kernels.interrupt, args=(tmp_path / "run", Kept("one", "kernel", "", "", "")))
        asked.start()
        assert kernel.poll(PATIENCE * 1000)
        names, message = Session(key=b"secret").recv(kernel)
        assert message["msg_type"] == "interrupt_request"
        Session(key=b"secret").send(kernel, "interrupt_reply", content={"status": "ok"}, ident=names)
        asked.join(PATIENCE)
        assert not asked.is_alive()


def test_what_a_killed_keeper_left_behind_is_not_listed(tmp_path: Path, keep: Callable[..., Any]) -> None:
    keeper = keep("one")
    (one,) = found(tmp_path)
    keeper.kill()
    keeper.wait()
    assert (tmp_path / "run/kernels/one/control").exists()
    assert found(tmp_path) == []
    with pytest.raises(Silent):
        kernels.interrupt(tmp_path / "run", one)


def test_a_keeper_that_hangs_is_named_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_PATIENCE", 0.2)
    control = tmp_path / "run/kernels/one/control"
    control.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(control))
        listening.listen()
        (one,) = found(tmp_path)
        assert (one.id, one.state) == ("one", "hangs")
        with pytest.raises(Silent) as silent:
            kernels.ask(control, op="end")
        assert silent.value.keeper == os.getpid()


def test_the_beginning_of_an_id_is_enough_where_it_is_one() -> None:
    both = [Kept("abc1", "kernel", "", "", ""), Kept("abd2", "kernel", "", "", ""), Kept("abc", "terminal", "", "", "")]
    assert kernels.named(["abd", "abd2"], both, *kernels.WHICH) == [both[1]]
    assert kernels.named(["abc"], both, *kernels.WHICH) == [both[2]], "a whole id is that one"
    for text, said in (("ab", "Type more of it: abc1, abd2, abc"), ("x", "There is no kernel 'x'"), ("", "no kernel")):
        with pytest.raises(Mistake) as caught:
            kernels.named([text], both, *kernels.WHICH)
        assert said in str(caught.value)


def test_ids_are_shown_as_short_as_they_can_be_told_apart() -> None:
    text = kernels.as_text([Kept(f"same-begin-{n}-and-more", "kernel", "", "", "idle") for n in "ab"], 0)
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["same-begin-a", "same-begin-b"]


def test_a_notebooks_name_cannot_move_the_cursor() -> None:
    assert "\x1b" not in kernels.as_text([Kept("1", "kernel", "a\x1b[2J.ipynb", "", "idle")], 0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (61, "1min"), (7260, "2h 1min"), (3 * 86400 + 7200, "3d 2h")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert kernels.age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(512, "512"), (300 << 20, "300M"), (3 << 29, "1.5G"), (8 << 30, "8G"), (1000 << 20, "1G")]
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert kernels.size(count) == text
