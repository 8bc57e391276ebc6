"""Codes after the password: what opens, how often, and what a browser sees of it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import OLD_HASH, PASSWORD, Browser, Running
from test_login import new_link

from jupyter_remote.run import Mistake
from jupyter_remote.server.limits import FREE
from jupyter_remote.server.secondfactor import PERIOD, Codes, SecondFactor, digest_of, parse, read, step_of

SECRET = pyotp.random_base32()
RECOVERY = ("abcd efgh ijkl mnop", "qrst uvwx yz23 4567")
FACTOR = SecondFactor(SECRET, tuple(map(digest_of, RECOVERY)))


# -- codes --------------------------------------------------------------------------------------------


def test_the_codes_are_those_of_the_standard():
    """RFC 6238, appendix B, SHA-1: the last six of eight digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for now, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert step_of(secret, code, now) == now // PERIOD


@given(st.integers(1_000_000_000, 4_000_000_000), st.integers(-5, 5))
def test_a_code_of_half_a_minute_before_or_after_is_taken_and_no_other(now: int, apart: int):
    code = pyotp.TOTP(SECRET).at(now + apart * PERIOD)
    near = {pyotp.TOTP(SECRET).at(now + n * PERIOD) for n in (-1, 0, 1)}
    assert (step_of(SECRET, code, now) is not None) == (code in near)


def test_a_code_opens_once_and_none_before_it_opens_afterwards(tmp_path: Path):
    now = 1_800_000_000.0
    codes = Codes(FACTOR, tmp_path / "used", lambda: now)
    totp = pyotp.TOTP(SECRET)
    assert codes.use(totp.at(int(now))) == "code"
    assert codes.use(totp.at(int(now))) == ""
    assert codes.use(totp.at(int(now) - PERIOD)) == ""
    # A restart forgets nothing.
    again = Codes(FACTOR, tmp_path / "used", lambda: now)
    assert again.use(totp.at(int(now))) == ""
    assert again.use(totp.at(int(now) + PERIOD)) == "code"
    # Another secret has codes of its own.
    other = SecondFactor(pyotp.random_base32(), ())
    assert Codes(other, tmp_path / "used", lambda: now).use(pyotp.TOTP(other.secret).at(int(now))) == "code"


def test_a_recovery_code_opens_once_however_it_is_written(tmp_path: Path):
    codes = Codes(FACTOR, tmp_path / "used")
    assert codes.use(RECOVERY[0].upper().replace(" ", "-")) == "recovery code"
    assert codes.recovery_left == 1
    assert codes.use(RECOVERY[0]) == ""
    assert Codes(FACTOR, tmp_path / "used").use(RECOVERY[0]) == ""
    assert codes.use(f" {RECOVERY[1]}\n") == "recovery code"
    assert codes.recovery_left == 0


def test_a_code_that_cannot_be_remembered_opens_nothing():
    codes = Codes(FACTOR, Path("/proc/nowhere/used"))
    with pytest.raises(OSError):
        codes.use(RECOVERY[0])


@given(st.text())
def test_nothing_else_opens(tmp_path_factory: pytest.TempPathFactory, text: str):
    assert Codes(FACTOR, tmp_path_factory.getbasetemp() / "never", lambda: 1e9).use(text) in ("", "code")


def test_it_is_stored_without_the_recovery_codes(tmp_path: Path):
    text = FACTOR.as_text()
    assert parse(text) == FACTOR
    assert not any(code.replace(" ", "") in text for code in RECOVERY)
    assert read(None) is None
    assert read(tmp_path) is None
    for nothing in ("none\n", "", "\n"):
        (tmp_path / "second-factor").write_text(nothing)
        assert read(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"totp": ""}', '{"totp": "x", "recovery": []}', "\udcff"])
def test_a_damaged_one_is_not_taken_for_none(tmp_path: Path, text: str):
    (tmp_path / "second-factor").write_text(text, errors="surrogateescape")
    with pytest.raises(Mistake, match="nobody can be let in"):
        read(tmp_path)


# -- at a server --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server that asks for a code."""
    server = make_server()
    (server.credentials / "second-factor").write_text(FACTOR.as_text())
    server.start().wait_until_ready()
    yield server
    server.close()


def send(browser: Browser, **form: str) -> httpx.Response:
    """Send a form of the login page as the browser that has loaded it."""
    browser.get("login")
    return browser.http.post(f"{browser.url}/login", data={**form, "_xsrf": browser._cookie("_xsrf")})


def fresh_code(server: Running) -> str:
    """The code of a period that has not been used: of the next one, or the one after that."""
    used = server.state / "second-factor-used.json"
    last = int(re.findall(r'"step": (-?\d+)', used.read_text())[0]) if used.exists() else -1
    while last > time.time() // PERIOD:
        time.sleep(0.5)
    return pyotp.TOTP(SECRET).generate_otp(max(last + 1, int(time.time()) // PERIOD))


def test_the_password_is_not_enough_and_a_code_opens_once(guarded: Running):
    code = fresh_code(guarded)
    with guarded.visitor(address="203.0.113.1") as browser:
        page = send(browser, password=PASSWORD, next="/jupyter/lab/tree/x")
        assert page.status_code == 200
        assert 'name="code"' in page.text and "<script" not in page.text
        assert 'value="/jupyter/lab/tree/x"' in page.text
        assert not browser.logged_in
        assert send(browser, code="000000x").status_code == 401
        assert not browser.logged_in
        browser.http.post(f"{browser.url}/login", data={"code": code, "_xsrf": browser._cookie("_xsrf")})
        assert browser.logged_in
        # The first step is not still done after the second.
        assert not browser._cookie("__Secure-jupyter-remote-jupyter-step")
    with guarded.visitor(address="203.0.113.2") as browser:
        send(browser, password=PASSWORD)
        assert "it has been used" in send(browser, code=code).text
        assert not browser.logged_in
        send(browser, code=RECOVERY[0])
        assert browser.logged_in
    log = guarded.log.read_text()
    assert "Login from 203.0.113.1 with the password and a code." in log
    assert "Login from 203.0.113.2 with the password and a recovery code." in log
    assert "1 recovery codes are left." in log
    assert log.count("Login refused from 203.0.113.1: wrong code.") == 1
    for secret in (SECRET, code, RECOVERY[0].replace(" ", ""), FACTOR.recovery[0]):
        assert secret not in log


def test_a_code_without_the_password_opens_nothing(guarded: Running):
    with guarded.visitor(address="203.0.113.3") as browser:
        for code in (RECOVERY[1], "000000"):
            answer = send(browser, code=code)
            assert answer.status_code == 403
            assert 'name="password"' in answer.text
        # Nor does a step that somebody made up.
        browser.http.cookies.set("__Secure-jupyter-remote-jupyter-step", secrets.token_urlsafe(), domain="box.test")
        assert send(browser, code=RECOVERY[1]).status_code == 403
        assert not browser.logged_in


def test_what_the_first_step_gives_opens_nothing_else(guarded: Running):
    with guarded.visitor(address="203.0.113.4") as browser:
        send(browser, password=PASSWORD)
        step = browser._cookie("__Secure-jupyter-remote-jupyter-step")
        assert step
        for name in ("__Secure-jupyter-remote-jupyter", "__Secure-jupyter-remote-jupyter-known"):
            answer = browser.http.get(f"{browser.url}/api/status", headers={"Cookie": f"{name}={step}"})
            assert answer.status_code == 403


def test_codes_cannot_be_tried_without_end_even_with_the_password(guarded: Running):
    statuses = []
    with guarded.visitor(address="203.0.113.5") as browser:
        for number in range(2 * FREE + 4):
            first = send(browser, password=PASSWORD)
            statuses.append(send(browser, code=f"{number:06}").status_code if first.status_code == 200 else 429)
            if statuses[-1] == 429:
                break
    assert statuses.count(401) < 2 * FREE
    assert statuses[-1] == 429


def test_a_login_link_needs_no_code(guarded: Running):
    with guarded.visitor(address="203.0.113.6") as browser:
        assert browser.follow(f"{browser.url}/login?link#token={new_link(guarded)}")


def test_switching_it_on_logs_everybody_out(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        (server.credentials / "second-factor").write_text(FACTOR.as_text())
        server.restart()
        assert not browser.logged_in
        browser.follow(f"{browser.url}/login?link#token={new_link(server)}")
        server.restart()
        assert browser.logged_in
        server.set_hash(OLD_HASH)
        server.restart()
        assert not browser.logged_in
    server.stop()
    (server.credentials / "second-factor").write_text("{}")
    assert server.start().wait() == 78
    assert "nobody can be let in" in server.log.read_text()
