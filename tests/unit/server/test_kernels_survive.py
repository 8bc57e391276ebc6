"""Kernels, their sessions and their websockets outlive the server; what a person does to them afterwards works."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import websocket
from jupyter_client.blocking.client import BlockingKernelClient
from running import PASSWORD, Browser, Running, say

from jupyter_remote.server.watcher import PAUSE
from tests.client import PATIENCE, Kernel, wait_until

RESTARTS = {
    "planned": lambda server: server.stop(),
    "killed": lambda server: (server.signal(signal.SIGKILL), server.wait()),
}


@pytest.fixture
def server(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server whose kernels outlive it, not started."""
    running = make_server().keep_kernels()
    yield running
    running.close()


def ask_keeper(server: Running, kernel_id: str, op: str = "status", **fields: Any) -> dict[str, Any]:
    """What the keeper itself says."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(server.runtime / "kernels" / kernel_id / "control"))
        connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def kernels(browser: Browser) -> dict[str, dict[str, Any]]:
    return {kernel["id"]: kernel for kernel in browser.api("GET", "kernels")}


def open_notebook(browser: Browser, path: str = "some.ipynb", name: str = "python3") -> dict[str, Any]:
    """A session, as JupyterLab makes one for a notebook."""
    body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": name}}
    return browser.api("POST", "sessions", body)


def add_spec(server: Running, name: str, environment: Path, **more: Any) -> Path:
    """A kernelspec of the owner's, for the Python environment."""
    directory = server.home / ".local/share/jupyter/kernels" / name
    directory.mkdir(parents=True)
    argv = [str(environment / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": name, "language": "python", **more}
    (directory / "kernel.json").write_text(json.dumps(spec))
    return directory


def configure(server: Running, config: dict[str, Any]) -> None:
    """The owner's own configuration."""
    directory = server.home / ".jupyter"
    directory.mkdir(exist_ok=True)
    (directory / "jupyter_server_config.json").write_text(json.dumps(config))


# -- survival ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", RESTARTS)
def test_a_running_cell_goes_on_in_an_open_tab(server: Running, how: str):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        kernel = browser.connect(session["kernel"]["id"])
        assert kernel.execute("x = 41").error is None
        running = kernel.submit("import time\nfor i in range(300): print(i, flush=True); time.sleep(0.01)")
        queued = kernel.submit("x + 1")
        while (first := kernel.receive())["msg_type"] != "stream":
            pass
        before = kernels(browser)[kernel.id]
        for _ in range(2):
            RESTARTS[how](server)
            server.start().wait_until_ready()
            after = browser.api("GET", "sessions")
            assert [item["id"] for item in after] == [session["id"]]
            assert after[0]["path"] == "some.ipynb"
            assert after[0]["kernel"]["id"] == kernel.id
            assert after[0]["kernel"]["name"] == before["name"]
            assert after[0]["kernel"]["connections"] == 1
        lines = (first["content"]["text"] + kernel.result(running).text).split()
        assert lines == [str(i) for i in range(300)]
        assert kernel.result(queued).value == "42"


def test_input_waits_over_a_restart(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        content = {"code": "name = input('who? ')\nprint('hello', name)", "silent": False, "allow_stdin": True}
        asked = kernel.send("shell", "execute_request", content)
        while (message := kernel.receive())["msg_type"] != "input_request":
            pass
        assert message["content"]["prompt"] == "who? "
        server.restart()
        kernel.send("stdin", "input_reply", {"value": "you"})
        assert "hello you" in kernel.result(asked).text


def until(kernel: Kernel, kind: str, **content: Any) -> dict[str, Any]:
    """The content of the next message of this kind whose content has these values."""
    while True:
        message = kernel.receive()
        found = message["content"]
        if message["msg_type"] == kind and all(found.get(name) == value for name, value in content.items()):
            return found


def test_widgets_and_the_debugger_go_on_after_a_restart(server: Running):
    """What they are made of: a comm that the kernel has opened, and the debugger's requests and events."""
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.submit(
            "from comm import create_comm\nwidget = create_comm(target_name='widget', data={'value': 1})\n"
            "widget.on_msg(lambda message: widget.send({'got': message['content']['data']}))"
        )
        comm = until(kernel, "comm_open")["comm_id"]
        starts = kernel.execute("import debugpy.server.api; debugpy.server.api._config['python']").value
        assert "debug-adapter.sh" in starts
        kernel.send("control", "debug_request", request(1, "initialize", {"adapterID": "", "pathFormat": "path"}))
        assert until(kernel, "debug_reply", request_seq=1)["success"]
        kernel.send("control", "debug_request", request(2, "attach", {}))
        until(kernel, "debug_event", event="initialized")
        server.restart()
        kernel.send("shell", "comm_msg", {"comm_id": comm, "data": {"value": 2}})
        assert until(kernel, "comm_msg")["data"] == {"got": {"value": 2}}
        source = "x = 1\ny = x + 1"
        kernel.send("control", "debug_request", request(3, "dumpCell", {"code": source}))
        file = until(kernel, "debug_reply", request_seq=3)["body"]["sourcePath"]
        where = {"source": {"path": file}, "breakpoints": [{"line": 2}], "sourceModified": False}
        kernel.send("control", "debug_request", request(4, "setBreakpoints", where))
        assert until(kernel, "debug_reply", request_seq=4)["success"]
        kernel.send("control", "debug_request", request(5, "configurationDone", {}))
        until(kernel, "debug_reply", request_seq=5)
        cell = kernel.submit(source)
        stopped = until(kernel, "debug_event", event="stopped")["body"]
        assert stopped["reason"] == "breakpoint"
        kernel.send("control", "debug_request", request(6, "continue", {"threadId": stopped["threadId"]}))
        assert kernel.result(cell).error is None


def request(number: int, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Of the Debug Adapter Protocol."""
    return {"type": "request", "seq": number, "command": command, "arguments": arguments}


def test_a_new_tab_talks_to_a_kernel_of_before(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("x = 41")
        kernel.channels.close()
        server.restart()
        assert browser.connect(kernel.id).execute("x + 1").value == "42"


def test_what_is_known_of_a_kernel_is_known_after_a_restart(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("1")
        idle = wait_until(
            lambda: (model := kernels(browser)[kernel.id])["execution_state"] == "idle" and model, "never idle"
        )
        server.restart()
        assert kernels(browser) == {kernel.id: idle}
        go_on = server.home / "go on"
        busy = kernel.submit(f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)")
        wait_until(lambda: kernels(browser)[kernel.id]["execution_state"] == "busy", "never busy")
        server.restart()
        assert kernels(browser)[kernel.id]["execution_state"] == "busy"
        go_on.touch()
        kernel.result(busy)
        wait_until(lambda: kernels(browser)[kernel.id]["execution_state"] == "idle", "never idle")
        assert kernels(browser)[kernel.id]["last_activity"] > idle["last_activity"]
        kernel.channels.close()
        wait_until(lambda: kernels(browser)[kernel.id]["connections"] == 0, "the connection is still counted")


def test_the_server_stops_while_a_kernel_is_busy(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        asked = kernel.submit("import time; time.sleep(2); print('done')")
        assert server.stop() == 0
        # Nobody serves, and still:
        assert kernel.result(asked).text == "done\n"
        assert kernel.execute("6 * 7").value == "42"


def test_without_anybody_to_keep_them_kernels_end_with_the_server(make_server: Callable[[], Running]):
    server = make_server()
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        pid = ask_keeper(server, kernel.id)["pid"]
        assert server.stop() == 0
    assert not Path(f"/proc/{pid}").exists()
    assert not list((server.runtime / "kernels").iterdir())
    wait_until(lambda: not list((server.state / "kernels").iterdir()), "the journal stays")
    assert not list(server.runtime.glob("kernel-*.json"))


def test_kernels_of_a_killed_server_are_taken_over_without_systemd_too(make_server: Callable[[], Running]):
    server = make_server()
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("x = 41")
        RESTARTS["killed"](server)
        server.start().wait_until_ready()
        assert kernel.execute("x + 1").value == "42"
        kernel.shut_down()
    server.close()


def test_kernels_and_terminals_stay_without_systemd_too_where_that_is_wanted(make_server: Callable[[], Running]):
    server = make_server()
    server.environment["JUPYTER_REMOTE_KEEP_KERNELS"] = "1"
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel, terminal = browser.start_kernel(), browser.open_terminal()
        kernel.execute("x = 41")
        terminal.run("x=41")
        server.restart()
        assert kernel.execute("x + 1").value == "42"
        assert terminal.run("echo $((x + 1))") == "42"
    server.close()


# -- what a person does afterwards -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["signal", "message"])
def test_interrupt_after_a_restart(server: Running, environment: Path, mode: str):
    add_spec(server, "mine", environment, interrupt_mode=mode)
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel("mine")
        kernel.execute("1")
        server.restart()
        for _ in range(2):
            asked = kernel.submit("import time; print('on', flush=True); time.sleep(600)")
            while kernel.receive()["msg_type"] != "stream":
                pass
            kernel.interrupt()
            assert str(kernel.result(asked).error).startswith("KeyboardInterrupt")


def test_a_restart_of_the_kernel_after_one_of_the_server(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser, "here.ipynb")
        kernel = browser.connect(session["kernel"]["id"])
        code = "import os; (os.getcwd(), os.environ['JPY_SESSION_NAME'], os.environ.get('JUPYTER_REMOTE_KERNELS'))"
        kernel.execute("x = 41")
        before = kernel.execute(code).value
        pid = kernel.execute("os.getpid()").value
        server.restart()
        browser.api("POST", f"kernels/{kernel.id}/restart")
        assert "NameError" in str(kernel.execute("x").error)
        assert kernel.execute(code).value == before == str((str(server.home), str(server.home / "here.ipynb"), None))
        assert kernel.execute("os.getpid()").value != pid
        assert browser.api("GET", "sessions")[0]["id"] == session["id"]


def test_shutdown_after_a_restart_leaves_nothing(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        kernel_id = session["kernel"]["id"]
        pid = ask_keeper(server, kernel_id)["pid"]
        server.restart()
        assert browser.send("DELETE", f"api/sessions/{session['id']}").status_code == 204
        assert browser.api("GET", "kernels") == browser.api("GET", "sessions") == []
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            browser.connect(kernel_id)
        assert refused.value.status_code == 404
    assert not Path(f"/proc/{pid}").exists()
    assert not list((server.runtime / "kernels").iterdir())
    wait_until(lambda: not list((server.state / "kernels").iterdir()), "the journal stays")
    assert not list(server.runtime.glob("kernel-*.json"))


def test_shutting_everything_down_ends_kernels_too(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        pid = ask_keeper(server, kernel.id)["pid"]
        server.restart()
        assert browser.send("POST", "api/shutdown").status_code == 200
    assert server.wait() == 0
    assert not Path(f"/proc/{pid}").exists()
    assert list((server.runtime / "kernels").iterdir()) == []


def test_kernels_of_before_are_culled(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("1")
        server.stop()
        server.settings["cull_idle"] = 2
        server.start().wait_until_ready()
        wait_until(lambda: not kernels(browser), "it is not culled")


def test_a_kernel_whose_spec_is_gone_runs_on(server: Running, environment: Path):
    spec = add_spec(server, "mine", environment)
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel("mine")
        kernel.execute("x = 41")
        server.stop()
        (spec / "kernel.json").unlink()
        spec.rmdir()
        server.start().wait_until_ready()
        assert kernels(browser)[kernel.id]["name"] == "mine"
        assert kernel.execute("x + 1").value == "42"
        kernel.interrupt()
        browser.api("POST", f"kernels/{kernel.id}/restart")
        assert "NameError" in str(kernel.execute("x").error)
        kernel.shut_down()
        assert kernels(browser) == {}


def test_a_new_password_closes_the_tabs_and_not_the_kernels(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("x = 41")
        server.stop()
        # Of the same password, and still another one to whoever is logged in.
        server.set_hash("sha1:0123456789ab:e4ecbc150027a63c8a6c1acd3398779f7116a2e8")
        server.start().wait_until_ready()
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            while True:
                kernel.channels.recv_frame()
        assert not browser.logged_in
        browser.login(PASSWORD)
        assert browser.connect(kernel.id).execute("x + 1").value == "42"


def test_a_console_on_the_machine_finds_the_kernel(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("x = 41")
        server.restart()
        client = BlockingKernelClient(connection_file=str(server.runtime / f"kernel-{kernel.id}.json"))
        client.load_connection_file()
        client.start_channels()
        try:
            client.wait_for_ready(PATIENCE)
            seen: list[Any] = []
            client.execute_interactive("x + 1", output_hook=seen.append, timeout=PATIENCE)
        finally:
            client.stop_channels()
    assert [message["content"]["data"]["text/plain"] for message in seen if message["msg_type"] == "execute_result"]


# -- ends that nobody asked for ----------------------------------------------------------------------


def test_a_kernel_that_dies_starts_again_and_tabs_are_told(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("x = 41")
        server.restart()
        kernel.submit("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        _wait_for_state(kernel, "restarting")
        assert "NameError" in str(kernel.execute("x").error)
        assert kernels(browser)[kernel.id]["execution_state"] in ("idle", "busy")


def test_a_kernel_that_died_while_no_server_ran_starts_again(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        kernel = browser.connect(session["kernel"]["id"])
        kernel.execute("x = 41")
        server.stop()
        os.kill(ask_keeper(server, kernel.id)["pid"], signal.SIGKILL)
        wait_until(lambda: ask_keeper(server, kernel.id)["returncode"] is not None, "it lives")
        server.start().wait_until_ready()
        assert [item["id"] for item in browser.api("GET", "sessions")] == [session["id"]]
        _wait_for_state(kernel, "restarting")
        assert "NameError" in str(kernel.execute("x").error)


def test_a_kernel_that_dies_again_and_again_is_given_up(server: Running, environment: Path):
    spec = add_spec(server, "mine", environment)
    configure(server, {"AsyncIOLoopKernelRestarter": {"time_to_dead": 0.3, "restart_limit": 1}})
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel("mine")
        kernel.execute("1")
        server.restart()
        # From now on it ends at once.
        given = json.loads((spec / "kernel.json").read_text())
        (spec / "kernel.json").write_text(json.dumps(given | {"argv": ["/bin/false"]}))
        os.kill(ask_keeper(server, kernel.id)["pid"], signal.SIGKILL)
        _wait_for_state(kernel, "dead")
        wait_until(lambda: not kernels(browser), "it is still listed")
        wait_until(lambda: not list((server.runtime / "kernels").iterdir()), "its keeper is still there")


def test_a_kernel_whose_keeper_is_killed_starts_again(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        kernel.execute("x = 41")
        keeper = ask_keeper(server, kernel.id)["keeper"]
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: _keeper_of(server, kernel.id) not in (None, keeper), "there is no new keeper")
        again = wait_until(lambda: _try_to_connect(browser, kernel.id), "nobody takes the websocket")
        assert "NameError" in str(again.execute("x").error)


def test_a_kernel_that_is_ended_past_the_server_stays_ended(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        ask_keeper(server, kernel.id, "end")
        wait_until(lambda: not kernels(browser), "it is still listed")
        assert not list(server.runtime.glob("kernel-*.json"))
    assert "Traceback" not in server.log.read_text()


def test_after_a_reboot_nothing_is_left(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        keeper = ask_keeper(server, session["kernel"]["id"])["keeper"]
        server.stop()
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: _keeper_of(server, session["kernel"]["id"]) is None, "it lives")
        server.start().wait_until_ready()
        assert browser.api("GET", "sessions") == browser.api("GET", "kernels") == []
    assert not list((server.runtime / "kernels").iterdir())
    wait_until(lambda: not list((server.state / "kernels").iterdir()), "the journal stays")
    assert not list(server.runtime.glob("kernel-*.json"))


def test_a_damaged_list_of_sessions_does_not_stop_the_server(server: Running):
    file = server.state / "sessions.sqlite"
    for damage in (b"no database", b"SQLite format 3\0" + b"\1" * 500):
        file.write_bytes(damage)
        server.start().wait_until_ready()
        with server.owner() as browser:
            session = open_notebook(browser)
            assert [item["id"] for item in browser.api("GET", "sessions")] == [session["id"]]
        server.stop()
    with sqlite3.connect(file) as connection:
        assert len(connection.execute("SELECT * FROM session").fetchall()) == 1


# -- output that nobody sees -------------------------------------------------------------------------


def write_notebook(server: Running, *sources: str) -> Path:
    """``some.ipynb`` with these cells, whose ids are c0, c1 …"""
    cells = [
        {"cell_type": "code", "id": f"c{n}", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
        for n, source in enumerate(sources)
    ]
    path = server.home / "some.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def submit_cell(kernel: Kernel, number: int, source: str) -> str:
    """Run a cell as JupyterLab does, which says which one it is; returns the request's id."""
    name = uuid.uuid4().hex
    header = {"msg_id": name, "msg_type": "execute_request", "username": "", "session": kernel.session}
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": True}
    message = {"header": header | {"version": "5.3"}, "parent_header": {}, "metadata": {"cellId": f"c{number}"}}
    kernel.channels.send(json.dumps({**message, "content": content, "channel": "shell", "buffers": []}))
    return name


def cells(path: Path) -> list[dict[str, Any]]:
    """The file's cells; none while it is being written, which Jupyter does in place."""
    try:
        return cast(list[dict[str, Any]], json.loads(path.read_text())["cells"])
    except ValueError:
        return []


def counts(path: Path) -> list[int | None]:
    """The numbers of the file's cells."""
    return [cell["execution_count"] for cell in cells(path)]


def printed(path: Path, number: int = 0) -> str:
    """What a cell of the file has printed."""
    outputs = [output for cell in cells(path)[number : number + 1] for output in cell["outputs"]]
    return "".join(text for output in outputs for text in output.get("text", ()))


def test_a_cell_that_ends_after_its_tab_was_closed_has_its_output_in_the_file(server: Running):
    source = "import time\nfor i in range(50): print(i, flush=True); time.sleep(0.02)"
    path = write_notebook(server, source, "print('next')")
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.connect(open_notebook(browser)["kernel"]["id"])
        submit_cell(kernel, 0, source)
        submit_cell(kernel, 1, "print('next')")
        while kernel.receive()["msg_type"] != "stream":
            pass
        kernel.channels.close()
        # The last thing of a cell to arrive is its number, as in JupyterLab: with the kernel's reply.
        wait_until(lambda: counts(path) == [1, 2], "the cells have no numbers")
        assert printed(path) == "".join(f"{i}\n" for i in range(50))
        assert printed(path, 1) == "next\n"


def test_what_was_printed_while_no_server_ran_is_in_the_file(server: Running):
    source = "import time; time.sleep(1); print('late')"
    path = write_notebook(server, source)
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.connect(open_notebook(browser)["kernel"]["id"])
        submit_cell(kernel, 0, source)
        kernel.channels.close()
        server.signal(signal.SIGKILL)
        server.wait()
        wait_until(lambda: ask_keeper(server, kernel.id)["execution_state"] == "idle", "it does not end")
        assert printed(path) == ""
        server.start().wait_until_ready()
        wait_until(lambda: printed(path) == "late\n", "it is not in the file")


def test_what_was_printed_before_the_machine_went_down_is_in_the_file(server: Running):
    source = (
        "import os, time\nwhile not os.path.exists('down'): time.sleep(0.01)\n"
        "print('late', flush=True)\nopen('printed', 'w').close()\ntime.sleep(1000)"
    )
    path = write_notebook(server, source)
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.connect(open_notebook(browser)["kernel"]["id"])
        submit_cell(kernel, 0, source)
        kernel.channels.close()
        server.stop()
        (server.home / "down").touch()
        wait_until((server.home / "printed").exists, "it prints nothing")
        assert printed(path) == ""
        status = ask_keeper(server, kernel.id)
        for pid in (status["keeper"], status["pid"]):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _keeper_of(server, kernel.id) is None, "it lives")
        shutil.rmtree(server.runtime / "kernels")
        server.start().wait_until_ready()
        wait_until(lambda: printed(path) == "late\n", "it is not in the file")
        wait_until(lambda: not list((server.state / "kernels").iterdir()), "the journal stays")


def test_output_of_after_its_keeper_was_killed_and_of_before_is_in_the_file(server: Running):
    path = write_notebook(server, "print('before')", "print('after')")
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.connect(open_notebook(browser)["kernel"]["id"])
        kernel.result(submit_cell(kernel, 0, "print('before')"))
        keeper = ask_keeper(server, kernel.id)["keeper"]
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: _keeper_of(server, kernel.id) not in (None, keeper), "there is no new keeper")
        again = wait_until(lambda: _try_to_connect(browser, kernel.id), "nobody takes the websocket")
        again.result(submit_cell(again, 1, "print('after')"))
        again.channels.close()
        wait_until(lambda: printed(path, 1) == "after\n", "what came after is not in the file")
        assert printed(path) == "before\n"


@pytest.mark.parametrize("with_server", [True, False])
def test_what_a_kernel_has_printed_that_is_stopped_by_command_is_in_the_file(server: Running, with_server: bool):
    source = "print('early', flush=True)\nopen('printed', 'w').close()\nimport time; time.sleep(1000)"
    path = write_notebook(server, source)
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.connect(open_notebook(browser)["kernel"]["id"])
        submit_cell(kernel, 0, source)
        wait_until((server.home / "printed").exists, "it prints nothing")
        if not with_server:
            server.signal(signal.SIGKILL)
            server.wait()
        assert ask_keeper(server, kernel.id, "end", keep=True)["ok"]
        wait_until(lambda: _keeper_of(server, kernel.id) is None, "it lives")
        if not with_server:
            server.start().wait_until_ready()
        wait_until(lambda: printed(path) == "early\n", "it is not in the file")
        wait_until(lambda: not list((server.state / "kernels").iterdir()), "the journal stays")


def test_a_page_that_is_loaded_during_a_run_is_told_what_runs_and_starts_where_it_was_loaded(server: Running):
    source = "print('before', flush=True); input(); print('after')"
    write_notebook(server, source, "print('next')")
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.connect(open_notebook(browser)["kernel"]["id"])
        running, queued = submit_cell(kernel, 0, source), submit_cell(kernel, 1, "print('next')")
        while kernel.receive()["msg_type"] != "input_request":
            pass
        loaded = browser.api("GET", "contents/some.ipynb?type=notebook&content=1&hash=1")
        assert [output["text"] for output in loaded["content"]["cells"][0]["outputs"]] == ["before\n"]
        runs = browser.api("GET", f"kernels/{kernel.id}/running")
        assert [(run["request"], run["cell"], run["begun"]) for run in runs] == [
            (running, "c0", True),
            (queued, "c1", False),
        ]
        kernel.send("stdin", "input_reply", {"value": ""})
        assert kernel.result(queued).text == "next\n"
        # It connects late: nothing of what came between is missing, and nothing of before is there again.
        address = f"api/kernels/{kernel.id}/channels?session_id=late&after=0"
        late = Kernel(browser, kernel.id, "late", browser.websocket(address))
        texts = ""
        while "next" not in texts:
            texts += late.receive()["content"].get("text", "")
        assert texts == "after\nnext\n"
        assert browser.get(f"api/kernels/{uuid.uuid4()}/running").status_code == 404


# -- starting and connecting -------------------------------------------------------------------------


def test_it_is_said_how_kernels_are_made_possible(server: Running):
    server.environment["JUPYTER_REMOTE_KERNELS"] = str(server.top / "nobody.sock")
    server.start().wait_until_ready()
    with server.owner() as browser:
        answer = browser.send("POST", "api/kernels", {})
    assert answer.status_code == 500
    assert "sudo systemctl start jupyter-remote-kernel.socket" in answer.json()["message"]
    assert not list(server.runtime.glob("kernel-*.json"))


def test_it_is_said_why_a_kernel_does_not_start(server: Running, environment: Path):
    spec = add_spec(server, "mine", environment)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/not/there", "{connection_file}"], "display_name": "x", "language": "x"})
    )
    server.start().wait_until_ready()
    with server.owner() as browser:
        answer = browser.send("POST", "api/kernels", {"name": "mine"})
        assert answer.status_code == 500
        assert "/not/there" in answer.json()["message"]
        assert browser.api("GET", "kernels") == []
    assert list((server.runtime / "kernels").iterdir()) == []
    assert not list(server.runtime.glob("kernel-*.json"))


def test_who_asks_while_kernels_start_gets_an_answer(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser, server.owner() as another, ThreadPoolExecutor() as pool:
        made = pool.submit(lambda: [browser.api("POST", "kernels", {}) for _ in range(6)])
        answers = []
        while not made.done():
            answers.append(another.get("api/kernels"))
        assert len(made.result()) == 6
    assert {answer.status_code for answer in answers} == {200}
    assert all(kernel["execution_state"] for answer in answers for kernel in answer.json())


def test_a_spec_that_names_its_own_way_to_start_gets_it(server: Running, environment: Path):
    add_spec(server, "mine", environment, metadata={"kernel_provisioner": {"provisioner_name": "local-provisioner"}})
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel("mine")
        assert kernel.execute("6 * 7").value == "42"
        pid = int(str(kernel.execute("__import__('os').getpid()").value))
        kept = browser.start_kernel()
        assert list((server.runtime / "kernels").iterdir()) == [server.runtime / "kernels" / kept.id]
        # It is the server's child, and goes with it.
        server.restart()
        assert set(kernels(browser)) == {kept.id}
    assert not Path(f"/proc/{pid}").exists()


def test_what_comes_with_the_handshake_is_not_lost(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s"}
        request = {
            "header": {**header, "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "content": {"code": "print(6 * 7)", "silent": False},
            "channel": "shell",
            "buffers": [],
        }
        text = json.dumps(request).encode()
        assert 126 <= len(text) < 1 << 16
        # One frame, masked with zeros.
        frame = b"\x81\xfe" + struct.pack("!HI", len(text), 0) + text
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar)
        connection = say(
            browser,
            [
                f"GET /jupyter/api/kernels/{kernel.id}/channels?session_id=s HTTP/1.1",
                "Host: box.test",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
                f"Cookie: {cookies}",
            ],
            frame,
        )
        received = b""
        while b'"42\\n"' not in received:
            data = connection.recv(1 << 16)
            assert data, received
            received += data
        connection.close()
    assert received.startswith(b"HTTP/1.1 101 ")


def test_a_page_that_was_away_hears_of_the_kernels_that_came_meanwhile(server: Running):
    """Its kernel's connection outlives the server; the one that brings events does not."""
    server.start().wait_until_ready()
    with server.owner() as browser:
        kernel = browser.start_kernel()
        listening = browser.events()
        listening.settimeout(PATIENCE)
        assert "kernelspecs" in str(listening.recv()), "what was there when it came"
        listening.close()
        spec = server.home / ".local/share/jupyter/kernels/new"
        spec.mkdir(parents=True)
        (spec / "kernel.json").write_text(json.dumps({"argv": ["x"], "display_name": "new", "language": "x"}))
        time.sleep(3 * PAUSE)
        assert kernel.execute("6 * 7").value == "42"
        listening = browser.events()
        listening.settimeout(PATIENCE)
        assert "kernelspecs" in str(listening.recv())
        listening.close()


def test_only_the_owner_can_get_at_anything(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        session = open_notebook(browser)
        browser.connect(session["kernel"]["id"]).execute("1")
    for top in (server.runtime / "kernels", server.state / "kernels"):
        for path in (top, *top.rglob("*")):
            mode = path.lstat().st_mode
            # Sockets that ZMQ makes are open to all; the directory is not.
            assert not mode & 0o077 or (stat.S_ISSOCK(mode) and not path.parent.stat().st_mode & 0o077), path
    for path in (server.state / "sessions.sqlite", *server.runtime.glob("kernel-*.json")):
        assert not path.stat().st_mode & 0o077, path


def _wait_for_state(kernel: Kernel, state: str) -> None:
    while True:
        message = kernel.receive()
        if message["msg_type"] == "status" and message["content"]["execution_state"] == state:
            return


def _keeper_of(server: Running, kernel_id: str) -> int | None:
    try:
        return int(ask_keeper(server, kernel_id)["keeper"])
    except (OSError, ValueError):
        return None


def _try_to_connect(browser: Browser, kernel_id: str) -> Kernel | None:
    try:
        return browser.connect(kernel_id)
    except websocket.WebSocketBadStatusException:
        return None
