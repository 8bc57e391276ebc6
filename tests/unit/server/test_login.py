"""The password, login links, and what a browser is given."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running import HASH, OLD_HASH, PASSWORD, Browser, Running

COOKIE = "__Secure-jupyter-remote-jupyter"


def new_link(server: Running, *, age: float = 0) -> str:
    """Make a login link as `jupyter-remote url` does; the token."""
    token = secrets.token_urlsafe(32)
    file = server.runtime / "login" / hashlib.sha256(token.encode()).hexdigest()
    file.touch(mode=0o600)
    then = time.time() - age
    os.utime(file, (then, then))
    return token


def address(token: str) -> str:
    """The link."""
    return f"https://box.test/jupyter/login?link#token={token}"


def links(server: Running) -> list[str]:
    return [path.name for path in (server.runtime / "login").iterdir()]


# -- the password -------------------------------------------------------------------------------------


def test_the_owner_logs_in_with_the_password(visitor: Browser):
    assert not visitor.try_login("wrong")
    assert visitor.try_login(PASSWORD)


def test_a_wrong_password_is_one_line_in_the_log_with_the_address(shared: Running):
    with shared.visitor(address="198.51.100.23") as browser:
        browser.try_login("incorrect donkey")
    lines = shared.log.read_text().splitlines()
    assert [line for line in lines if "Login refused from 198.51.100.23: wrong password." in line]
    assert not [line for line in lines if "donkey" in line]


def test_a_hash_of_the_old_guide_still_opens(server: Running):
    server.set_hash(OLD_HASH)
    server.start().wait_until_ready()
    with server.visitor() as browser:
        assert not browser.try_login("wrong")
        assert browser.try_login(PASSWORD)


@pytest.mark.parametrize("hash_text", ["!", "", None])
def test_a_locked_server_lets_nobody_in_by_password_and_says_what_to_do(server: Running, hash_text: str | None):
    if hash_text is None:
        (server.credentials / "password-hash").unlink()
    else:
        server.set_hash(hash_text)
    server.start().wait_until_ready()
    with server.visitor() as browser:
        page = browser.get("lab").text
        assert "sudo jupyter-remote password" in page
        assert "sudo jupyter-remote url" in page
        for guess in ("!", "", PASSWORD, hash_text or ""):
            assert not browser.try_login(guess)
        assert browser.get("api/contents").status_code == 403
        assert browser.follow(address(new_link(server)))


def test_a_form_that_lost_its_cookie_can_be_sent_again(visitor: Browser):
    answer = visitor.http.post(f"{visitor.url}/login", data={"password": PASSWORD, "_xsrf": "old"})
    assert answer.status_code == 403
    assert "Please try again" in answer.text
    assert not visitor.logged_in


@pytest.mark.parametrize(
    "away",
    [
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test",
        "/jupyter/\\evil.test",
        "/other",
        "/jupyter/../other",
        "javascript:alert(1)",
        "/jupyter/\r\nX: y",
    ],
)
def test_a_login_leads_nowhere_else(visitor: Browser, shared: Running, away: str):
    answer = visitor.send_link(new_link(shared), data={"next": away}, follow_redirects=False)
    assert answer.headers["location"] == "/jupyter/"


# -- login links --------------------------------------------------------------------------------------


def test_a_login_link_opens_once(shared: Running):
    token = new_link(shared)
    with shared.visitor() as first, shared.visitor() as second:
        answer = first.send_link(token, follow_redirects=False)
        assert answer.status_code == 302
        assert token not in answer.headers["location"]
        assert first.logged_in
        again = second.send_link(token)
        assert again.status_code == 401
        assert "This login link has been used" in again.text
        assert not second.logged_in
    assert token not in shared.log.read_text()


def test_a_login_link_that_is_only_looked_at_is_not_used_up(shared: Running, visitor: Browser):
    """What a chat shows of it, what a mail scanner opens."""
    token = new_link(shared)
    for method in ("GET", "HEAD"):
        visitor.http.request(method, address(token))
        visitor.http.request(method, f"{visitor.url}/login?link&token={token}")
        visitor.http.request(method, f"{visitor.url}/login?token={token}")
    assert not visitor.logged_in
    assert visitor.follow(address(token))


def test_a_login_link_of_another_site_is_not_sent_from_there(shared: Running, visitor: Browser):
    """A link of somebody else's cannot be followed in the owner's browser without the form of our page."""
    token = new_link(shared)
    assert visitor.http.post(f"{visitor.url}/login", data={"link": token}).status_code == 403
    assert not visitor.logged_in
    assert visitor.follow(address(token)), "it was used up"


def test_who_follows_a_login_link_and_is_logged_in_already_has_used_it_up(shared: Running):
    token = new_link(shared)
    with shared.owner() as browser:
        assert browser.send_link(token, follow_redirects=False).headers["location"] == "/jupyter/"
    assert hashlib.sha256(token.encode()).hexdigest() not in links(shared)


def test_of_many_who_follow_a_link_at_once_one_gets_in(shared: Running):
    token = new_link(shared)

    def follow(_: int) -> bool:
        with shared.visitor() as browser:
            return browser.follow(address(token))

    with ThreadPoolExecutor(20) as crowd:
        assert sum(crowd.map(follow, range(20))) == 1


def test_a_login_link_expires_and_is_swept(shared: Running, visitor: Browser):
    token = new_link(shared, age=601)
    new_link(shared, age=9999)
    fresh = new_link(shared, age=500)
    assert not visitor.follow(address(token))
    assert links(shared) == [hashlib.sha256(fresh.encode()).hexdigest()]
    assert visitor.follow(address(fresh))


@pytest.mark.parametrize("where", ["lab", "api/contents", "tree"])
def test_a_login_link_is_no_token_for_requests(shared: Running, visitor: Browser, where: str):
    token = new_link(shared)
    visitor.get(f"{where}?token={token}")
    visitor.get(where, headers={"Authorization": f"token {token}"})
    assert not visitor.logged_in
    assert visitor.follow(address(token))


@pytest.mark.parametrize("token", ["x", "../" * 14 + "x", "a" * 44, "é" * 43, "a" * 43])
def test_what_is_no_login_link_opens_nothing(visitor: Browser, token: str):
    assert visitor.send_link(token).status_code == 401
    assert not visitor.logged_in


# -- what a browser is given --------------------------------------------------------------------------


def test_cookies_are_this_instances_alone(shared: Running):
    with shared.visitor() as browser:
        page = browser.http.get(f"{browser.url}/login")
        entered = browser.send_link(new_link(shared), follow_redirects=False)
    given = [
        {part.strip() for part in header.split(";")}
        for header in (*page.headers.get_list("set-cookie"), *entered.headers.get_list("set-cookie"))
    ]
    login = next(parts for parts in given if any(part.startswith("__Secure-jupyter-remote-jupyter=") for part in parts))
    xsrf = next(parts for parts in given if any(part.startswith("_xsrf=") for part in parts))
    assert {"Path=/jupyter/", "Secure", "HttpOnly", "SameSite=Lax"} <= login
    # JupyterLab reads it: not HttpOnly.
    assert {"Path=/jupyter/", "Secure", "SameSite=Lax"} <= xsrf


def test_a_restart_logs_nobody_out_and_a_new_password_everybody(server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser:
        server.restart()
        assert browser.logged_in
        server.set_hash(OLD_HASH)
        server.restart()
        assert not browser.logged_in
        server.set_hash(HASH)
        server.restart()
        assert not browser.logged_in, "the old password is a new one"


def test_a_cookie_of_another_instance_opens_nothing(shared: Running, server: Running):
    server.start().wait_until_ready()
    with server.owner() as browser, shared.visitor() as elsewhere:
        elsewhere.http.cookies = browser.http.cookies
        assert not elsewhere.logged_in


def test_a_damaged_cookie_opens_nothing(shared: Running):
    with shared.owner() as browser:
        good = browser._cookie(COOKIE)
        for bad in (good[:-1] + ("0" if good[-1] != "0" else "1"), good[2:], "x", ""):
            answer = browser.http.get(f"{browser.url}/api/contents", headers={"Cookie": f"{COOKIE}={bad}"})
            assert answer.status_code == 403


def test_logging_out_forgets_the_browser(shared: Running):
    with shared.owner() as browser:
        assert "You have logged out" in browser.get("logout").text
        assert not browser.logged_in


def test_the_owner_has_their_own_name(owner: Browser, shared: Running):
    entry = shared.run_as_server("-c", "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)").strip()
    me = owner.api("GET", "me")["identity"]
    assert me["username"] == entry
    assert "Anonymous" not in me["display_name"]


def test_the_key_of_the_cookies_is_the_owners_alone(shared: Running):
    key = shared.state / "cookie-secret"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not list(Path(shared.runtime).glob("*cookie*"))


def test_the_login_page_loads_nothing_from_elsewhere_and_is_not_framed(visitor: Browser):
    page = visitor.get("login")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in page.text.replace("http-equiv", "")
    assert "<script" not in page.text
    link = visitor.get("login?link")
    assert link.text.count("<script") == 1
    assert '<script src="/jupyter/static/jupyter-remote/link.js" defer></script>' in link.text
    assert visitor.get("static/jupyter-remote/link.js").headers["content-type"].startswith("text/javascript")
