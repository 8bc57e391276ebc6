"""Passes: files that let somebody in, and the register of them that the server keeps in memory."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_remote.passes import IDLE, LONGEST, TOKEN, Pass, Passes, digest_of, new_secret
from jupyter_remote.server.logins import MOST, NOTE, Logins, browser_name

LOG = logging.getLogger("test")


def logins(top: Path, login: str = "today") -> Logins:
    return Logins(top, login, LOG)


def age(top: Path, kind: str, seconds: float) -> None:
    """As if nothing had been used for so long."""
    for file in (top / kind).iterdir():
        then = time.time() - seconds
        os.utime(file, (then, then))


def test_nothing_on_disk_opens_anything(tmp_path: Path):
    secret = logins(tmp_path).begin("with the password", "x", "192.0.2.1")
    (file,) = (tmp_path / "logins").iterdir()
    assert secret not in file.read_text() + file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    for text in (file.name, file.name[:16], file.name[:43], secret[:-1], f"{TOKEN}{secret}", "", "../x"):
        assert logins(tmp_path).browsers.find(text, "") is None


def test_a_login_outlives_the_server_and_says_who_it_is(tmp_path: Path):
    secret = logins(tmp_path).begin("with a passkey", "python-httpx/0.28", "192.0.2.1")
    found = logins(tmp_path).browsers.find(secret, "192.0.2.1")
    assert found is not None
    assert (found.how, found.browser, found.address) == ("passkey", "python-httpx/0.28", "192.0.2.1")


def test_another_password_ends_logins_for_good_and_leaves_tokens(tmp_path: Path):
    secret = logins(tmp_path).begin("with the password", "x", "192.0.2.1")
    token = new_secret(TOKEN)
    Passes(tmp_path / "tokens").add(Pass(digest_of(token), time.time(), name="laptop"))
    other = logins(tmp_path, "another password")
    assert other.browsers.find(secret, "") is None
    assert other.programs.find(token, "") is not None
    assert logins(tmp_path).browsers.find(secret, "") is None, "it is back with the old password"


def test_what_somebody_else_removes_is_gone_with_the_next_look(tmp_path: Path):
    there = logins(tmp_path)
    ended: list[set[str]] = []
    there.on_end = ended.append
    first, second = (there.begin("with the password", "x", "192.0.2.1") for _ in range(2))
    there.look()
    assert Passes(tmp_path / "logins").remove(digest_of(first))
    there.look()
    assert there.browsers.find(first, "") is None
    assert there.browsers.find(second, "") is not None
    assert ended == [{digest_of(first)[:16]}]


def test_two_changes_within_the_clock_of_the_file_system_are_both_seen(tmp_path: Path):
    there = logins(tmp_path)
    secrets = [there.begin("with the password", "x", "192.0.2.1") for _ in range(2)]
    passes = Passes(tmp_path / "logins")
    changed = passes.directory.stat()
    for secret in secrets:
        passes.remove(digest_of(secret))
        os.utime(passes.directory, ns=(changed.st_atime_ns, changed.st_mtime_ns))
        there.look()
        assert there.browsers.find(secret, "") is None


def test_a_directory_that_does_not_change_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there = logins(tmp_path)
    secret = there.begin("with the password", "x", "192.0.2.1")
    long_ago = time.time() - 10
    os.utime(tmp_path / "logins", (long_ago, long_ago))
    there.look()
    monkeypatch.setattr(Passes, "digests", lambda _: pytest.fail("it was listed"))
    monkeypatch.setattr(Passes, "use", lambda *_: pytest.fail("a file was touched"))
    there.look()
    assert there.browsers.find(secret, "192.0.2.1") is not None


def test_a_login_ends_a_month_after_its_last_use_and_a_year_after_its_first(tmp_path: Path):
    secret = logins(tmp_path).begin("with the password", "x", "192.0.2.1")
    age(tmp_path, "logins", IDLE - 3600)
    there = logins(tmp_path)
    assert there.browsers.find(secret, "192.0.2.1") is not None
    (one,) = Passes(tmp_path / "logins").all()
    assert time.time() - one.seen < 3600, "the use was not written down"
    age(tmp_path, "logins", IDLE + 1)
    assert logins(tmp_path).browsers.find(secret, "") is None
    assert not list((tmp_path / "logins").iterdir())
    old = replace(one, created=time.time() - LONGEST - 1, expires=time.time() - 1)
    Passes(tmp_path / "logins").add(old)
    assert logins(tmp_path).browsers.find(secret, "") is None


def test_a_token_that_ends_while_the_server_runs_ends_what_it_has_opened(tmp_path: Path):
    there = logins(tmp_path)
    ended: list[set[str]] = []
    there.on_end = ended.append
    token, now = new_secret(TOKEN), time.time()
    one = Pass(digest_of(token), now - 10, name="laptop", expires=now + 0.2)
    Passes(tmp_path / "tokens").add(one)
    assert there.programs.find(token, "192.0.2.1") is not None, "it is good at once"
    while time.time() < now + 0.2:
        time.sleep(0.05)
    assert there.programs.find(token, "192.0.2.1") is None
    there.look()
    assert ended == [{one.id}]
    assert [left.name for left in Passes(tmp_path / "tokens").all(now=0)] == ["laptop"], "the list tells of it"
    there.look()
    assert len(ended) == 1


def test_the_use_of_a_pass_that_was_just_removed_does_not_bring_it_back(tmp_path: Path):
    there = logins(tmp_path)
    token = new_secret(TOKEN)
    passes = Passes(tmp_path / "tokens")
    passes.add(Pass(digest_of(token), time.time()))
    there.look()
    passes.remove(digest_of(token))
    # Its first use is written down.
    assert there.programs.find(token, "192.0.2.1") is None
    assert passes.digests() == []


def test_where_it_is_used_from_is_written_down_and_the_login_stays(tmp_path: Path):
    secret = logins(tmp_path).begin("with the password", "x", "192.0.2.1")
    age(tmp_path, "logins", NOTE + 1)
    assert logins(tmp_path).browsers.find(secret, "2001:db8::1") is not None
    (one,) = Passes(tmp_path / "logins").all()
    assert (one.address, one.last_address) == ("192.0.2.1", "2001:db8::1")


def test_a_damaged_file_is_one_login_that_is_gone(tmp_path: Path):
    there = logins(tmp_path)
    first, second = (there.begin("with the password", "x", "192.0.2.1") for _ in range(2))
    (tmp_path / "logins" / digest_of(first)).write_bytes(b"")
    (tmp_path / "logins" / digest_of(new_secret())).write_text("[]")
    (tmp_path / "logins" / ".begun").touch()
    again = logins(tmp_path)
    assert again.browsers.find(first, "") is None
    assert again.browsers.find(second, "") is not None
    assert not (tmp_path / "logins/.begun").exists()


def test_a_login_that_cannot_be_written_is_good_until_the_server_ends(tmp_path: Path):
    """A full disk: the owner has to get in to tidy up."""
    (tmp_path / "logins").write_text("no directory")
    there = logins(tmp_path)
    secret = there.begin("with the password", "x", "192.0.2.1")
    there.look()
    assert there.browsers.find(secret, "192.0.2.1") is not None
    there.end(there.browsers.all())
    assert there.browsers.find(secret, "192.0.2.1") is None


def test_a_script_that_logs_in_again_and_again_does_not_fill_the_disk(tmp_path: Path):
    there = logins(tmp_path)
    there.browsers._passes.add = lambda new: None  # type: ignore[method-assign]
    secrets = [there.begin("with the password", "x", "192.0.2.1") for _ in range(MOST + 3)]
    assert there.browsers.find(secrets[0], "") is None
    assert there.browsers.find(secrets[-1], "") is not None
    assert len(there.ids) == MOST


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
            " Safari/537.36 Edg/141.0.0.0",
            "Edge 141 on Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3"
            " Safari/605.1.15",
            "Safari 18 on macOS",
        ),
        ("Mozilla/5.0 (Linux; Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Firefox 140 on Android"),
        ("", ""),
        ("\x1b[2J\u202eevil x", "[2Jevil"),
        ("a" * 1000, "a" * 40),
    ],
)
def test_a_browser_is_called_as_a_person_calls_it(agent: str, name: str):
    assert browser_name(agent) == name
