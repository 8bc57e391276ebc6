"""Passkeys: what is accepted of a browser, and what is not."""

from __future__ import annotations

import html
import json
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pyotp
import pytest
from authenticator import Authenticator
from hypothesis import given
from hypothesis import strategies as st
from running import PASSWORD, Browser, Running
from test_login import new_link
from test_second_factor import FACTOR, send

from jupyter_remote.server.passkeys import LIFETIME, NEW, SECOND, WHOLE, Passkeys, Refused, can_have

ORIGIN = "https://box.test"


@pytest.fixture
def kept(tmp_path: Path) -> Passkeys:
    return Passkeys(tmp_path / "passkeys.json", "/jupyter/")


@pytest.fixture
def device(kept: Passkeys) -> Authenticator:
    """One whose public key is known."""
    device = Authenticator()
    kept.add("box.test", ORIGIN, device.create(kept.creation("box.test", "alice", "Alice")), "laptop")
    return device


def check(kept: Passkeys, answer: str, *purposes: str) -> str:
    passkey, _ = kept.check("box.test", ORIGIN, answer, set(purposes or (WHOLE,)))
    return passkey.name


def test_a_passkey_that_was_added_opens(kept: Passkeys, device: Authenticator, tmp_path: Path):
    assert check(kept, device.get(kept.request("box.test", WHOLE))) == "laptop"
    # Also after a restart: what is kept is on the disk, and its owner's alone.
    again = Passkeys(tmp_path / "passkeys.json", "/jupyter/")
    assert check(again, device.get(again.request("box.test", WHOLE))) == "laptop"
    assert stat.S_IMODE((tmp_path / "passkeys.json").stat().st_mode) == 0o600


def test_an_answer_opens_once(kept: Passkeys, device: Authenticator):
    answer = device.get(kept.request("box.test", WHOLE))
    check(kept, answer)
    with pytest.raises(Refused, match="sent before"):
        check(kept, answer)
    device.counter += 10
    question = kept.request("box.test", WHOLE)
    check(kept, device.get(question))
    with pytest.raises(Refused, match="sent before"):
        check(kept, device.get(question))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.test", "http://box.test", "https://box.test:8443", "https://sub.box.test", "https://box.test.", ""],
)
def test_what_was_signed_for_another_page_is_refused(kept: Passkeys, device: Authenticator, origin: str):
    device.origin = origin
    with pytest.raises(Refused):
        check(kept, device.get(kept.request("box.test", WHOLE)))
    other = Authenticator(origin)
    with pytest.raises(Refused):
        kept.add("box.test", ORIGIN, other.create(kept.creation("box.test", "alice", "Alice")), "")


def test_what_was_signed_for_another_name_or_in_a_frame_is_refused(kept: Passkeys, device: Authenticator):
    device.more = {"crossOrigin": True}
    with pytest.raises(Refused, match="another site"):
        check(kept, device.get(kept.request("box.test", WHOLE)))
    device.more, device.host = {}, "evil.test"
    with pytest.raises(Refused):
        check(kept, device.get(kept.request("box.test", WHOLE)))


def test_a_question_of_elsewhere_of_old_or_for_something_else_is_none(tmp_path: Path, device: Authenticator):
    now = 1e9
    kept = Passkeys(tmp_path / "passkeys.json", "/jupyter/", lambda: now)
    restarted = Passkeys(tmp_path / "passkeys.json", "/jupyter/", lambda: now)
    for question in (restarted.request("box.test", WHOLE), kept.request("box.test", SECOND),
                     kept.creation("box.test", "alice", "Alice")):  # fmt: skip
        with pytest.raises(Refused, match="no question of ours"):
            check(kept, device.get(question))
    question = kept.request("box.test", WHOLE)
    now += LIFETIME + 1
    with pytest.raises(Refused, match="too late"):
        check(kept, device.get(question))
    for made_up in ("", "AAAA", "A" * 75):
        with pytest.raises(Refused):
            check(kept, device.get(json.dumps({"challenge": made_up})))


def test_another_device_opens_nothing_even_if_it_knows_the_id(kept: Passkeys, device: Authenticator):
    stranger = Authenticator()
    with pytest.raises(Refused, match="Unknown credential"):
        check(kept, stranger.get(kept.request("box.test", WHOLE)))
    stranger.id, stranger.counter = device.id, 1000
    with pytest.raises(Refused, match="Invalid signature"):
        check(kept, stranger.get(kept.request("box.test", WHOLE)))


def test_alone_it_takes_the_persons_finger_after_the_password_the_device_is_enough(
    kept: Passkeys, device: Authenticator
):
    device.verified = False
    with pytest.raises(Refused, match="verif"):
        check(kept, device.get(kept.request("box.test", WHOLE)))
    assert check(kept, device.get(kept.request("box.test", SECOND)), WHOLE, SECOND) == "laptop"


def test_a_copy_of_a_device_is_noticed(kept: Passkeys, device: Authenticator):
    device.counter = 50
    check(kept, device.get(kept.request("box.test", WHOLE)))
    device.counter = 20
    with pytest.raises(Refused, match="copy"):
        check(kept, device.get(kept.request("box.test", WHOLE)))


def test_a_passkey_that_was_removed_opens_nothing(kept: Passkeys, device: Authenticator):
    (passkey,) = kept.all()
    kept.remove(passkey.id)
    assert kept.all() == []
    with pytest.raises(Refused):
        check(kept, device.get(kept.request("box.test", WHOLE)))


def test_a_stranger_learns_no_key_from_the_question(kept: Passkeys, device: Authenticator):
    (passkey,) = kept.all("box.test")
    assert passkey.id not in kept.request("box.test", WHOLE)
    assert passkey.id in kept.request("box.test", SECOND)
    assert kept.all("other.test") == []


@given(st.text() | st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(json.dumps))
def test_whatever_else_is_sent_is_refused(tmp_path_factory: pytest.TempPathFactory, sent: str):
    kept, device = Passkeys(tmp_path_factory.getbasetemp() / "garbage.json", "/jupyter/"), Authenticator()
    if not kept.all():
        kept.add("box.test", ORIGIN, device.create(kept.creation("box.test", "alice", "Alice")), "laptop")
    for answer in (sent, json.dumps({"rawId": sent, "response": {"clientDataJSON": sent, "authenticatorData": sent}})):
        with pytest.raises(Refused):
            kept.check("box.test", ORIGIN, answer, {WHOLE, SECOND, NEW})
        with pytest.raises(Refused):
            kept.add("box.test", ORIGIN, answer, sent)


def test_an_address_has_no_passkeys():
    assert can_have("box.test") and can_have("localhost")
    assert not can_have("192.0.2.7") and not can_have("2001:db8::7")


# -- at a server --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server that asks for a code after the password."""
    server = make_server()
    (server.credentials / "second-factor").write_text(FACTOR.as_text())
    server.start().wait_until_ready()
    yield server
    server.close()


def asked(page: str) -> str:
    """What the page's script is to ask the browser."""
    return html.unescape(re.findall(r'data-passkey="([^"]+)"', page)[0])


def test_from_adding_a_passkey_to_removing_it(guarded: Running):
    device = Authenticator()
    with guarded.visitor() as browser:
        assert browser.http.get(f"{browser.url}/passkeys").url.path == "/jupyter/login"
        assert "data-passkey" not in browser.get("login").text
        browser.follow(f"{browser.url}/login?link#token={new_link(guarded)}")
        page = browser.get("passkeys").text
        form = {"_xsrf": browser._cookie("_xsrf"), "name": "<b>laptop</b>\n"}
        page = browser.http.post(f"{browser.url}/passkeys", data={**form, "credential": device.create(asked(page))})
        assert "&lt;b&gt;laptop&lt;/b&gt;" in page.text
        assert browser.http.post(f"{browser.url}/passkeys", data={**form, "credential": "{}"}).status_code == 400
    # The whole login.
    with guarded.visitor() as browser:
        page = browser.get("login")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        (script,) = re.findall(r'<script src="/jupyter/([^"]+)" defer></script>', page.text)
        assert "navigator.credentials" in browser.get(script).text
        answer = device.get(asked(page.text))
        send(browser, credential=answer)
        assert browser.logged_in
    with guarded.visitor() as browser:
        assert send(browser, credential=answer).status_code == 401
        assert not browser.logged_in
        # After the password, and without a finger.
        device.verified = False
        page = send(browser, password=PASSWORD).text
        alone = asked(browser.get("login").text)
        assert send(browser, credential=device.get(alone)).status_code == 401
        send(browser, credential=device.get(asked(page)))
        assert browser.logged_in
    # Without the password that is nothing.
    with guarded.visitor() as thief, guarded.visitor() as browser:
        page = send(browser, password=PASSWORD).text
        assert send(thief, credential=device.get(asked(page))).status_code == 401
        assert not thief.logged_in
        device.verified = True
        send(browser, credential=device.get(asked(page)))
        page = browser.get("passkeys").text
        (identifier,) = re.findall(r'name="remove" value="([^"]+)"', page)
        browser.http.post(f"{browser.url}/passkeys", data={"_xsrf": browser._cookie("_xsrf"), "remove": identifier})
        assert "data-passkey" not in browser.get("logout").text
    log = guarded.log.read_text()
    assert "Passkey '<b>laptop</b>' was added from 203.0.113.9." in log
    assert "Login from 203.0.113.9 with the passkey '<b>laptop</b>'." in log
    assert "Login from 203.0.113.9 with the password and the passkey '<b>laptop</b>'." in log
    assert "Login refused from 203.0.113.9: wrong passkey." in log


def test_nobody_adds_a_passkey_without_a_login(guarded: Running, visitor: Browser):
    for form in ({"credential": "{}"}, {"remove": "x"}):
        answer = visitor.http.post(
            f"{visitor.url}/passkeys", data={**form, "_xsrf": "x"}, headers={"Cookie": "_xsrf=x"}
        )
        assert answer.status_code == 403


def test_the_server_starts_without_the_libraries(shared: Running):
    names = ("fido2", "cryptography", pyotp.__name__, "segno")
    loaded = shared.run_as_server(
        "-c",
        "import os, sys; from pathlib import Path; from jupyter_remote.server import app; app.make(Path(sys.argv[1])); "
        "print('loaded:', *sorted(sys.modules), flush=True); os._exit(0)",
        str(shared.top / "server.json"),
    )
    modules = loaded.split("loaded:")[1].split()
    assert "jupyter_remote.server.passkeys" in modules
    assert not [name for name in modules if name.split(".")[0] in names]
