"""A server that nobody uses is not there, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from lab.box import Box

from tests.client import Client, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

NOTEBOOK = "/home/alice/long.ipynb"
#: A cell that prints when a file is there.
CELL = "import os, time\nwhile not os.path.exists('/home/alice/go'): time.sleep(0.1)\nprint('it is done')"

SERVER, KEEPER = "jupyter_remote.server", "jupyter_remote.keeper"


def last_start(box: Box) -> str:
    return box.sh("systemctl show -P ExecMainStartTimestampMonotonic jupyter-remote.service")


def falls_asleep(box: Box) -> bool:
    # (`jupyter-remote status` would ask a server that runs for a page.)
    state = "systemctl show -P ActiveState jupyter-remote.service"
    wait_until(lambda: box.sh(state).strip() == "inactive", "the server does not end")
    return json.loads(box.sh("jupyter-remote status --json"))["server"].startswith("asleep")


def runs(box: Box, module: str) -> bool:
    return any(f"-m {module}" in line for line in box.sh("ps -eo args").splitlines())


def printed(box: Box) -> str:
    (cell,) = json.loads(box.read(NOTEBOOK))["cells"]
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


@pytest.mark.one_release
def test_a_server_that_nobody_uses_ends_and_comes_back_when_it_is_wanted(box: Box, client: MakeClient) -> None:
    cell = {"cell_type": "code", "id": "c", "source": CELL, "metadata": {}, "outputs": [], "execution_count": None}
    box.write(
        NOTEBOOK, json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), owner="alice"
    )
    box.sh("jupyter-remote config set server.idle_stop 3")
    visitor = client(box).login(PASSWORD)
    kernels = [{"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}} for path in "ab"]
    kernels[1]["path"] = "long.ipynb"
    other, long = (visitor.api("POST", "sessions", wish)["kernel"]["id"] for wish in kernels)
    quiet = visitor.connect(other)
    quiet.execute("x = 41")
    working = visitor.connect(long)
    working.submit(CELL, cell="c")
    # The laptop is closed.
    for kernel in (quiet, working):
        kernel.channels.close()

    assert falls_asleep(box)
    assert not runs(box, SERVER) and runs(box, KEEPER)
    assert "All is well." in box.sh("jupyter-remote status")
    assert not runs(box, SERVER), "to ask how it is does not wake it"
    assert not box.exists("/run/jupyter-remote/away")
    assert box.sh("systemctl show -P Result jupyter-remote.service").strip() == "success"

    # A cell ends: its keeper has the server write that down.
    box.as_user("alice").sh("touch go")
    wait_until(lambda: printed(box) == "it is done\n", "the output is not in the notebook")
    assert falls_asleep(box)

    # The first request is answered; the login and the kernels are the same.
    assert visitor.get("lab").status_code == 200
    assert {kernel["id"] for kernel in visitor.api("GET", "kernels")} == {other, long}
    assert visitor.connect(other).execute("x + 1").value == "42"
    assert falls_asleep(box)

    # What changes nothing leaves it asleep; what does, or asks for it, has it back.
    box.sh("jupyter-remote apply")
    assert not runs(box, SERVER)
    # (The last is what an upgrade does at its end. On a busy machine it sleeps again before anybody looks.)
    for change in (
        "systemctl restart jupyter-remote",
        "jupyter-remote config set interface notebook",
        "dpkg-reconfigure --frontend=noninteractive jupyter-remote",
    ):
        before = last_start(box)
        box.sh(change)
        assert last_start(box) != before, change
        assert falls_asleep(box)
    assert visitor.connect(other).execute("x + 1").value == "42"


@pytest.mark.one_release
def test_what_is_in_tmp_outlives_kernels_and_terminals(box: Box, client: MakeClient) -> None:
    box.sh("jupyter-remote config set server.idle_stop 3")
    visitor = client(box).login(PASSWORD)
    session = visitor.api("POST", "sessions", {"path": "a", "name": "a", "type": "notebook", "kernel": {}})
    kernel = visitor.connect(session["kernel"]["id"])
    # Nothing that Jupyter itself leaves there keeps the server.
    kernel.execute("import tempfile; tempfile.TemporaryFile()")
    kernel.channels.close()
    visitor.api("DELETE", f"sessions/{session['id']}")
    assert falls_asleep(box)

    terminal = visitor.open_terminal()
    terminal.run("echo kept > /tmp/file")
    assert falls_asleep(box)
    terminal.type("exit\r")
    wait_until(lambda: not runs(box, KEEPER), "the terminal does not end")
    assert runs(box, SERVER)
    again = visitor.open_terminal()
    assert again.run("cat /tmp/file") == "kept"
    again.run("rm /tmp/file")
    assert falls_asleep(box)


@pytest.mark.one_release
def test_a_server_that_sleeps_is_told_from_one_that_is_off(box: Box) -> None:
    box.sh("jupyter-remote config set server.idle_stop 3")
    assert falls_asleep(box)
    refused = box.attempt("jupyter-remote run").stderr
    assert "sudo systemctl stop jupyter-remote.socket jupyter-remote.service" in refused

    # An upgrade replaces no file under a server that may start.
    box.sh("sh -e /var/lib/dpkg/info/jupyter-remote.prerm upgrade 9")
    assert runs(box, SERVER)
    assert falls_asleep(box)

    box.sh("systemctl disable --now jupyter-remote")
    changed = box.attempt("jupyter-remote config set interface notebook")
    assert "systemctl disable --now jupyter-remote.socket" in changed.stdout + changed.stderr
    assert not runs(box, SERVER)


@pytest.mark.one_release
def test_a_server_that_slept_is_there_after_a_reboot_and_sleeps_again(box: Box, client: MakeClient) -> None:
    box.sh("jupyter-remote config set server.idle_stop 3")
    visitor = client(box).login(PASSWORD)
    assert falls_asleep(box)
    box.reboot()
    assert falls_asleep(box)
    assert visitor.logged_in


@pytest.mark.one_release
def test_a_change_that_does_not_come_up_leaves_a_server_that_sleeps_or_serves(box: Box, client: MakeClient) -> None:
    box.sh("jupyter-remote config set server.idle_stop 3")
    visitor = client(box).login(PASSWORD)
    assert falls_asleep(box)
    box.write(
        "/etc/systemd/system/jupyter-remote.service.d/90-trouble.conf",
        '[Service]\nExecStartPre=+/usr/bin/grep -q "interface....lab" /var/lib/jupyter-remote/rendered/server.json\n',
    )
    box.sh("systemctl daemon-reload")
    assert "did not come up" in box.attempt("jupyter-remote config set interface notebook").stderr
    assert visitor.logged_in
    assert falls_asleep(box)
