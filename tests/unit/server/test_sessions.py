"""What a login and a token let in to, and what their end closes."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import websocket
from running import HASH, OLD_HASH, PASSWORD, SOURCES, Browser, Running

from jupyter_remote.passes import TOKEN, Pass, Passes, digest_of, new_secret
from tests.client import Kernel, wait_until

COOKIE = "__Secure-jupyter-remote-jupyter"


def new_token(server: Running, *, seconds: float | None = None) -> str:
    """Make a token as `jupyter-remote token create` does."""
    token, now = new_secret(TOKEN), time.time()
    one = Pass(digest_of(token), now, name=token[-8:], expires=None if seconds is None else now + seconds)
    Passes(server.state / "tokens").add(one)
    return token


def logins(server: Running) -> list[Pass]:
    return Passes(server.state / "logins").all()


def end(server: Running, one: Pass, kind: str = "logins") -> None:
    """As `jupyter-remote sessions end` does, while the keepers hear nothing of it."""
    assert Passes(server.state / kind).remove(one.digest)


def is_closed(channel: websocket.WebSocket) -> bool:
    """Wait until the other side closes.

    :raises AssertionError: it does not.
    """
    try:
        while channel.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
            pass
    except websocket.WebSocketConnectionClosedException:
        pass
    return True


def program(server: Running, token: str, **headers: str) -> Browser:
    """A program that sends its token as most do, and keeps no cookies."""
    browser = server.visitor()
    browser.http.headers = httpx.Headers({"Authorization": f"token {token}", **headers})
    return browser


# -- logins -------------------------------------------------------------------------------------------


def test_each_login_is_one_of_its_own_and_known_by_its_browser(server: Running):
    server.start().wait_until_ready()
    with server.visitor() as first, Browser(server.address, "https://box.test/jupyter", "2001:db8::7") as second:
        first.http.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
        assert first.try_login(PASSWORD)
        assert second.try_login(PASSWORD)
        told = [(one.browser, one.address, one.how) for one in logins(server)]
        assert told == [
            ("Firefox 140 on Linux", "203.0.113.9", "password"),
            (f"python-httpx/{httpx.__version__}", "2001:db8::7", "password"),
        ]
        end(server, logins(server)[0])
        wait_until(lambda: not first.logged_in, "the removed login is good")
        assert second.logged_in


def test_who_logs_in_again_has_one_login(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        before = browser._cookie(COOKIE)
        assert browser.try_login(PASSWORD)
        after = browser._cookie(COOKIE)
        assert before != after
        assert len(logins(server)) == 1
        answer = browser.http.get(f"{browser.url}/api/contents", headers={"Cookie": f"{COOKIE}={before}"})
        assert answer.status_code == 403


def test_a_nickname_is_remembered_and_is_no_second_login(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        browser.api("PATCH", "me", {"color": "var(--jp-collaborator-color4)"})
        assert browser.api("GET", "me")["identity"]["color"] == "var(--jp-collaborator-color4)"
        assert browser.logged_in
        assert len(logins(server)) == 1
        assert "login" not in browser.api("GET", "me")["identity"]


def test_a_new_password_clears_the_list(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        token = new_token(server)
        server.set_hash(OLD_HASH)
        server.restart()
        assert logins(server) == []
        assert not browser.logged_in
        server.set_hash(HASH)
    with program(server, token) as script:
        assert script.logged_in, "a token is no browser's"


def test_the_end_of_a_login_closes_what_it_has_open_and_nothing_else(server: Running):
    server.keep_kernels().start().wait_until_ready()
    with server.owner() as thief, server.owner() as owner:
        stolen, mine = logins(server)
        kernel = thief.start_kernel()
        terminal = thief.open_terminal()
        events = thief.events()
        own = owner.connect(kernel.id)
        kernel.execute("x = 41")
        terminal.run("echo here")
        end(server, stolen)
        for channel in (kernel.channels, terminal.channel, events):
            assert is_closed(channel)
        for again in (
            lambda: thief.connect(kernel.id),
            lambda: thief.websocket(f"terminals/websocket/{terminal.name}"),
            thief.events,
        ):
            with pytest.raises(websocket.WebSocketBadStatusException) as refused:
                again()
            assert refused.value.status_code == 403
        assert own.execute("x + 1").value == "42", "another browser was disconnected"
        assert [one.digest for one in logins(server)] == [mine.digest]


def test_logging_out_closes_what_is_open(server: Running):
    server.keep_kernels().start().wait_until_ready()
    with server.owner() as browser:
        kernel, terminal, events = browser.start_kernel(), browser.open_terminal(), browser.events()
        browser.get("logout")
        for channel in (kernel.channels, terminal.channel, events):
            assert is_closed(channel)
        assert logins(server) == []
    with server.owner() as again:
        assert again.connect(kernel.id).execute("1 + 1").value == "2"


def test_a_login_that_was_removed_while_no_server_ran_has_nothing_open_afterwards(server: Running):
    server.keep_kernels().start().wait_until_ready()
    with server.owner() as browser, server.owner() as other:
        kernel = browser.start_kernel()
        own = other.connect(kernel.id)
        gone, _ = logins(server)
        server.stop()
        end(server, gone)
        server.start().wait_until_ready()
        assert is_closed(kernel.channels)
        assert own.execute("1 + 1").value == "2"


def test_a_keeper_from_before_an_upgrade_disconnects_all_and_they_come_again(server: Running, tmp_path: Path):
    """It knows nothing of labels."""
    old = tmp_path / "jupyter_remote"
    shutil.copytree(SOURCES / "jupyter_remote", old)
    for name, line in (
        ("__main__.py", r'^ +"hang_up": .*\n'),
        ("kernel.py", r'^ +"labels": .*\n'),
        ("terminal.py", r'^ +"labels": .*\n'),
    ):
        text, count = re.subn(line, "", (old / "keeper" / name).read_text(), flags=re.MULTILINE)
        assert count == 1
        (old / "keeper" / name).write_text(text)
    server.environment["PYTHONPATH"] = str(tmp_path)
    server.keep_kernels()
    server.environment["PYTHONPATH"] = str(SOURCES)
    server.start().wait_until_ready()
    with server.owner() as lost, server.owner() as owner:
        kernel, terminal = lost.start_kernel(), lost.open_terminal()
        kernel.execute("x = 41")
        own = owner.connect(kernel.id)
        server.restart()
        assert own.execute("x + 1").value == "42", "a restart has disconnected"
        end(server, logins(server)[0])
        for channel in (kernel.channels, terminal.channel, own.channels):
            assert is_closed(channel)
        assert owner.connect(kernel.id).execute("x").value == "41"


# -- tokens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["token {}", "Bearer {}", "bearer {}", "TOKEN  {}"])
def test_a_token_lets_a_program_in_without_cookies_or_forms(shared: Running, how: str):
    token = new_token(shared)
    with shared.visitor() as script:
        script.http.headers["Authorization"] = how.format(token)
        assert script.http.get(f"{script.url}/api/status").status_code == 200
        made = script.http.post(f"{script.url}/api/contents", content=json.dumps({"type": "file"}))
        assert made.status_code == 201
        script.http.delete(f"{script.url}/api/contents/{made.json()['path']}").raise_for_status()
        assert script.http.get(f"{script.url}/lab").status_code == 200
        assert not [cookie for cookie in script.http.cookies.jar if cookie.name != "_xsrf"], "it became a login"


def test_a_token_in_the_address_is_for_programs_and_never_for_pages(shared: Running):
    token = new_token(shared)
    with shared.visitor() as script:
        assert script.get(f"api/status?token={token}").status_code == 200
        made = script.http.post(f"{script.url}/api/kernels?token={token}", content="{}").json()
        channels = script.websocket(f"api/kernels/{made['id']}/channels?session_id=x&token={token}")
        assert Kernel(script, made["id"], "x", channels).execute("6 * 7").value == "42"
        script.websocket(f"api/events/subscribe?token={token}").close()
        script.http.delete(f"{script.url}/api/kernels/{made['id']}?token={token}").raise_for_status()
        for page in ("lab", "tree", "", "lab/tree/a.ipynb", "nbconvert/html/a.ipynb"):
            answer = script.http.get(f"{script.url}/{page}?x=1&token={token}&y=2", follow_redirects=False)
            assert answer.headers["location"].startswith("/jupyter/login?next=%2Fjupyter%2F")
            assert token not in answer.headers["location"]
            assert answer.headers["location"].endswith("%3Fx%3D1%26y%3D2")
            assert "set-cookie" not in answer.headers
        assert not script.logged_in
    assert token not in shared.log.read_text()


@pytest.mark.parametrize(
    "token", ["x", f"{TOKEN}{'a' * 43}", f"{TOKEN}{'a' * 44}", f"{TOKEN}{'é' * 43}", f"{TOKEN}../../{'a' * 37}"]
)
def test_what_is_no_token_lets_nobody_in(shared: Running, visitor: Browser, token: str):
    quoted = token.encode().decode("latin-1")
    for scheme in ("token", "Bearer", "Basic"):
        answer = visitor.http.get(
            f"{visitor.url}/api/contents", headers=[(b"Authorization", f"{scheme} {quoted}".encode("latin-1"))]
        )
        assert answer.status_code == 403
    assert visitor.get("api/contents", params={"token": token}).status_code == 403


def test_a_wrong_token_beside_a_login_does_not_lift_the_protection_against_other_sites(owner: Browser):
    wrong = {"Authorization": f"token {new_secret(TOKEN)}"}
    assert owner.http.get(f"{owner.url}/api/status", headers=wrong).status_code == 200
    assert owner.http.post(f"{owner.url}/api/kernels", content="{}", headers=wrong).status_code == 403
    assert owner.http.post(f"{owner.url}/api/kernels?token=x", content="{}").status_code == 403


def test_a_revoked_token_lets_nobody_in_and_has_nothing_open(server: Running):
    server.keep_kernels().start().wait_until_ready()
    token = new_token(server)
    with program(server, token) as script, server.owner() as owner:
        made = script.api("POST", "kernels", {})
        channels = script.websocket(f"api/kernels/{made['id']}/channels?session_id=x&token={token}")
        events = script.websocket(f"api/events/subscribe?token={token}")
        kernel = Kernel(script, made["id"], "x", channels)
        kernel.execute("x = 1")
        own = owner.connect(made["id"])
        (one,) = Passes(server.state / "tokens").all()
        assert one.last_address == "203.0.113.9"
        end(server, one, "tokens")
        assert is_closed(channels) and is_closed(events)
        wait_until(lambda: not script.logged_in, "the token is good")
        assert own.execute("x").value == "1"


def test_a_token_ends_by_itself(shared: Running):
    with program(shared, new_token(shared, seconds=-1)) as script:
        assert not script.logged_in


def test_a_restart_of_the_server_leaves_a_program_connected(server: Running):
    server.keep_kernels().start().wait_until_ready()
    token = new_token(server)
    with program(server, token) as script:
        made = script.api("POST", "kernels", {})
        channels = script.websocket(f"api/kernels/{made['id']}/channels?session_id=x&token={token}")
        kernel = Kernel(script, made["id"], "x", channels)
        kernel.execute("x = 41")
        server.restart()
        assert kernel.execute("x + 1").value == "42"
        assert script.logged_in


# -- neighbours ---------------------------------------------------------------------------------------


def test_two_on_one_host_do_not_disturb_each_other(make_server: Callable[[], Running]):
    """Two base URLs, one of them the beginning of the other, in one browser."""
    with ExitStack() as opened:
        browsers = []
        for path in ("/jupyter", "/jupyter-bob"):
            server = make_server()
            server.settings["base_url"] = path
            server.start().wait_until_ready()
            opened.callback(server.stop)
            browsers.append(opened.enter_context(Browser(server.address, f"https://box.test{path}")))
        jar = browsers[0].http.cookies
        browsers[1].http._cookies = jar
        for browser in browsers:
            assert browser.try_login(PASSWORD)
        for browser in browsers:
            assert browser.logged_in
            path = browser.url.removeprefix("https://box.test")
            xsrf = next(cookie for cookie in jar.jar if (cookie.name, cookie.path) == ("_xsrf", f"{path}/"))
            made = browser.http.post(
                f"{browser.url}/api/contents",
                content=json.dumps({"type": "file"}),
                headers={"X-XSRFToken": xsrf.value or ""},
            )
            assert made.status_code == 201
        browsers[0].get("logout")
        assert not browsers[0].logged_in
        assert browsers[1].logged_in


def test_another_jupyter_at_the_root_of_the_host_is_not_in_the_way(shared: Running):
    """Its `_xsrf` comes to us too. A browser sends the one of the longer path first, and JupyterLab takes that."""
    with shared.owner() as owner:
        ours = owner._cookie("_xsrf")
        login = owner._cookie(COOKIE)
        owner.http.cookies.clear()
        answer = owner.http.post(
            f"{owner.url}/api/contents",
            content=json.dumps({"type": "file"}),
            headers={
                "Cookie": f'_xsrf={ours}; {COOKIE}="{login}"; _xsrf=2|0|ab|1; {COOKIE}=x',
                "X-XSRFToken": ours,
            },
        )
        assert answer.status_code == 201


# -- programs that nobody here wrote ------------------------------------------------------------------


def test_the_password_is_enough_for_vs_code(shared: Running):
    """What jupyterPasswordConnect.ts of VS Code's Jupyter extension does, request by request."""
    with shared.visitor() as code:
        http = code.http
        http.follow_redirects = False
        keep = {"Connection": "keep-alive"}
        assert http.get(f"{code.url}/hub/api", headers=keep).status_code != 200
        assert http.get(f"{code.url}/tree?", headers=keep).status_code != 200
        page = http.get(f"{code.url}/login?", headers=keep)
        assert page.status_code == 200
        xsrf = next(
            value.split("=", 1)[1].split(";")[0]
            for value in page.headers.get_list("set-cookie")
            if value.startswith("_xsrf=")
        )
        http.cookies.clear()
        answer = http.post(
            f"{code.url}/login?",
            headers={**keep, "Cookie": f"_xsrf={xsrf}"},
            data={"_xsrf": xsrf, "password": PASSWORD},
        )
        assert answer.status_code == 302
        # It takes the first cookie that is set, with all that is behind it.
        name, _, value = answer.headers.get_list("set-cookie")[0].partition("=")
        http.cookies.clear()
        http.headers = httpx.Headers({"Cookie": f"_xsrf={xsrf}; {name}={value}", "X-XSRFToken": xsrf})
        assert http.get(f"{code.url}/api/kernelspecs").status_code == 200
        made = http.post(f"{code.url}/api/kernels", content="{}")
        assert made.status_code == 201
        assert http.delete(f"{code.url}/api/kernels/{made.json()['id']}").status_code == 204
