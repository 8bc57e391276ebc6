"""Who is logged in, which programs may come in, and an end to either."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from jupyter_kernel_client import JupyterKernelClient
from lab.box import Box, Person

from tests.client import Client, Kernel, wait_until
from tests.installed import PASSWORD
from tests.pages import blocks

MakeClient = Callable[..., Client]

SCRIPT, CURL, TOKENS = blocks("docs/clients.md")

STATE = "/var/lib/jupyter-remote/users/alice"


def listed(person: Person | Box) -> list[dict]:
    return json.loads(person.sh("jupyter-remote sessions --json"))


def is_closed(channel: websocket.WebSocket) -> bool:
    """Wait until the other side closes.

    :raises AssertionError: it does not.
    """
    with contextlib.suppress(websocket.WebSocketConnectionClosedException):
        while channel.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
            pass
    return True


@pytest.mark.either_release
def test_browsers_are_listed_and_thrown_out_with_all_that_they_have_open(box: Box, client: MakeClient) -> None:
    alice, bob = box.as_user("alice"), box.as_user("bob")
    mine, lost, third = (client(box) for _ in range(3))
    lost.http.headers["User-Agent"] = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.3 Safari/605.1.15"
    assert mine.try_login(PASSWORD) and lost.try_login(PASSWORD) and third.follow(alice.sh("jupyter-remote url"))
    told = listed(alice)
    assert [one["how"] for one in told] == ["password", "password", "login link"]
    assert told[1]["browser"] == "Safari 18 on macOS"
    assert told[1]["address"] == told[1]["last_address"] != box.ip
    assert "Safari 18 on macOS" in box.sh("jupyter-remote sessions")

    kernel = lost.start_kernel()
    kernel.execute("x = 41")
    own, terminal, events = mine.connect(kernel.id), lost.open_terminal(), lost.events()
    box.sh("systemctl restart jupyter-remote")
    assert mine.logged_in and lost.logged_in and third.logged_in
    events = lost.events()

    box.as_user("alice").sh(f"jupyter-remote sessions end {told[1]['id'][:8]}")
    for channel in (kernel.channels, terminal.channel, events):
        assert is_closed(channel)
    wait_until(lambda: not lost.logged_in, "the lost browser is still logged in")
    assert own.execute("x + 1").value == "42", "the kernel, or another browser's connection, has ended"
    assert mine.logged_in and third.logged_in

    # What is somebody else's business, and what is not there.
    for command in ("sessions", "sessions end --all", "token list", "token create x", "token revoke --all"):
        done = bob.attempt(f"jupyter-remote {command}")
        assert (done.returncode, done.stdout) == (77, "")
        assert f"sudo jupyter-remote {command}" in done.stderr
    assert bob.attempt(f"ls {STATE}/logins").returncode != 0
    assert alice.attempt("jupyter-remote sessions end").returncode == 64
    gone = alice.attempt(f"jupyter-remote sessions end {told[1]['id']}")
    assert gone.returncode == 65 and "There is no session" in gone.stderr

    # As root, and while no server runs: what a keeper serves is closed too.
    box.sh("systemctl stop jupyter-remote.service jupyter-remote.socket")
    box.sh(f"jupyter-remote sessions end --all --keep {told[2]['id']}")
    assert is_closed(own.channels)
    box.sh("systemctl start jupyter-remote.socket jupyter-remote.service")
    assert not mine.logged_in and third.logged_in
    assert third.connect(kernel.id).execute("x").value == "41"
    assert box.sh(f"stat -c '%U %a' {STATE}/logins {STATE}/logins/*").split("\n") == ["alice 700", "alice 600"]

    # Logging out in the browser, and a new password.
    assert mine.try_login(PASSWORD)
    third.get("logout")
    assert [one["how"] for one in listed(box)] == ["password"]
    box.sh("jupyter-remote token create laptop")
    said = box.attempt("jupyter-remote password --stdin", input="another one\n").stderr
    assert "All browsers are logged out." in said and "jupyter-remote token revoke --all" in said
    assert listed(box) == [] and not mine.logged_in


@pytest.mark.one_release
def test_a_program_comes_in_with_a_token_that_is_nowhere_else(
    box: Box, client: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = box.as_user("alice")
    token = alice.sh("jupyter-remote token create laptop --expires 8w")
    other = json.loads(box.sh("jupyter-remote token create script --expires never --json"))
    assert (other["name"], other["expires"], other["address"]) == ("script", None, "https://box.test/jupyter")
    for wrong in ("laptop", "'a b'", "x --expires 5", "x --expires 0d"):
        assert alice.attempt(f"jupyter-remote token create {wrong}").returncode == 65, wrong

    # Somebody else's client: it sends the token as a header, and in the address of its websocket.
    ca = tmp_path / "ca.crt"
    ca.write_text(box.read("/var/lib/jupyter-remote/ca.crt"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(ca))
    find = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: find(box.ip if host == "box.test" else host, *a, **k)
    )
    monkeypatch.setenv("JUPYTER_TOKEN", token)
    exec(SCRIPT.filled({"<server>": "box.test"}), {})
    assert "'text/plain': '2'" in capsys.readouterr().out
    with JupyterKernelClient(server_url="https://box.test/jupyter", token=token) as kernel:
        assert kernel.execute("x = 41")["status"] == "ok"
        box.sh("systemctl restart jupyter-remote")
        assert kernel.execute("x + 1")["outputs"][0]["data"]["text/plain"] == "42"
        kernel.restart()
        assert kernel.execute("'x' in dir()")["outputs"][0]["data"]["text/plain"] == "False"

    program = client(box)
    program.http.headers["Authorization"] = f"Bearer {token}"
    made = program.api("POST", "kernels", {})
    fields = {"JUPYTER_TOKEN": token, "CURL_CA_BUNDLE": "/var/lib/jupyter-remote/ca.crt"}
    kernels = json.loads(alice.sh(CURL.filled({"<server>": "box.test"}), env=fields))
    assert [one["id"] for one in kernels] == [made["id"]]
    channels = program.websocket(f"api/kernels/{made['id']}/channels?session_id=x&token={token}")
    Kernel(program, made["id"], "x", channels).execute("1")
    page = client(box).get(f"lab?token={token}")
    assert page.url.path == "/jupyter/login"

    listed = alice.sh("set -e\n" + TOKENS.filled({"NAME": "third", "[--expires 30d]": "--expires 30d"}))
    assert "third" in listed
    used, unused = json.loads(alice.sh("jupyter-remote token list --json"))
    assert (used["name"], bool(used["used"]), unused["used"]) == ("laptop", True, None)
    assert "laptop" in box.sh("jupyter-remote token list")
    assert box.places_with(token) == []
    alice.sh("jupyter-remote token revoke laptop")
    assert is_closed(channels)
    wait_until(lambda: not program.logged_in, "the token is good")
    program.http.headers["Authorization"] = f"token {other['token']}"
    assert program.logged_in
    box.sh("jupyter-remote token revoke --all")
    wait_until(lambda: not program.logged_in, "the token is good")
