"""config.toml: what it may say, and what a wrong one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_remote import configfile, paths, render, settings
from jupyter_remote.accounts import Account
from jupyter_remote.machine import Machine
from jupyter_remote.run import Mistake


def complaint(text: str) -> str:
    with pytest.raises(Mistake) as caught:
        settings.parse(text)
    return str(caught.value)


def refusal(name: str, value: str) -> str:
    with pytest.raises(Mistake) as caught:
        configfile.from_words(name, value)
    return str(caught.value)


def test_an_empty_file_is_all_defaults() -> None:
    assert settings.parse("") == settings.Settings()


def test_every_key_has_an_attribute_with_the_same_default() -> None:
    for name, key in settings.KEYS.items():
        assert settings.Settings().get(name) == key.default
        assert settings.clean(name, key.default) == key.default


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('bas_url = "/x"', "Did you mean base_url?"),
        ("[tsl]\nmode = 'none'", "Did you mean tls?"),
        ("[tls]\nmod = 'none'", "Did you mean tls.mode?"),
        ('mode = "site"', "Did you mean tls.mode?"),
        ("tls = 1", "[tls]"),
        ("user = 7", "user cannot be 7"),
        ("user = true", "user cannot be True"),
        ("listen = true", "listen cannot be True"),
        ("listen = 80.5", "listen cannot be 80.5"),
        ("user = 1979-05-27", "user cannot be"),
        ('server_aliases = "a.b"', 'Did you mean ["a.b"]?'),
        ("server_aliases = [1]", "server_aliases cannot be [1]"),
        ('[tls]\nmode = "selfsigned"', "Did you mean self-signed?"),
        ("[tls.mode]\nx = 1", "tls.mode cannot be"),
        ('[tls]\nmode = "existing"', "tls.certificate is not set"),
        ('[tls]\nmode = "acme"', "server_name is not set"),
        ('server_name = "lab"\n[tls]\nmode = "acme"', "no name that a certificate authority knows"),
        ('server_name = "198.51.100.7"\n[tls]\nmode = "acme"', "no name that a certificate authority knows"),
        ('server_name = "lab.local"\n[tls]\nmode = "acme"', "no name that a certificate authority knows"),
        ('[tls]\nacme_email = "mailto:a@b.test"', "Did you mean a@b.test?"),
        ('[tls]\nacme_directory = "ca.test/dir"', "Did you mean https://ca.test/dir?"),
        ("= 1", "not valid TOML"),
        ('user = "a\nb"', "not valid TOML"),
        ('user = "a\\nb"', "line breaks"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong_and_what_was_meant(text: str, expected: str) -> None:
    assert expected in complaint(text)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("base_url", "jupyter", "Did you mean /jupyter?"),
        ("base_url", "/my lab", "Did you mean /my/lab?"),
        ("base_url", "/a/../b", "Allowed:"),
        ("base_url", "/", "Allowed:"),
        ("base_url", "/.git", "Allowed:"),
        ("base_url", "//evil.example", "Allowed:"),
        ("server_name", "https://lab.example.org/", "Did you mean lab.example.org?"),
        ("server_name", "münchen.de", "Did you mean xn--mnchen-3ya.de?"),
        ("listen", "80", "Did you mean 8888?"),
        ("listen", "0.0.0.0:8888", "Did you mean unix?"),
        ("interface", "Lab", "Did you mean lab?"),
        ("kernels.cull_idle", "2 hours", "Did you mean 2h?"),
        ("notebook_dir", "work", "Did you mean ~/work?"),
        ("user", "alice; rm -rf /", "Allowed:"),
    ],
)
def test_a_wrong_value_names_the_key_the_value_what_is_allowed_and_the_nearest_guess(
    name: str, value: str, expected: str
) -> None:
    said = refusal(name, value)
    assert said.startswith(f"{name} cannot be {value!a}")
    assert "Allowed:" in said
    assert expected in said


def test_a_message_never_repeats_control_characters_of_a_value() -> None:
    assert "\x1b" not in refusal("user", "\x1b[2Jalice")


def test_times_can_be_written_as_people_write_them() -> None:
    times = ("0", "90", "90min", "2h", "7d", "never")
    assert [configfile.from_words("kernels.cull_idle", text) for text in times] == [
        0, 90, 5400, 7200, 604800, 0,
    ]  # fmt: skip


def test_a_missing_or_unreadable_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="dpkg-reconfigure"):
        settings.load(tmp_path / "config.toml")
    (tmp_path / "latin1.toml").write_bytes('user = "jürgen"'.encode("latin1"))
    with pytest.raises(Mistake, match="not UTF-8: byte 10 is 0xfc"):
        settings.load(tmp_path / "latin1.toml")


# --- config.toml as a file ---------------------------------------------------------------------------


def test_a_fresh_file_names_every_key_and_sets_only_what_was_answered() -> None:
    text = configfile.fresh({"user": "alice"})
    assert settings.parse(text) == settings.Settings(user="alice")
    for name in settings.KEYS:
        assert f"{name.split('.')[-1]} = " in text


def test_a_change_keeps_every_other_byte() -> None:
    text = "# mine\nuser = 'alice'   # me\n\n[tls]\n# why\nmode = 'self-signed'\n"
    after = configfile.changed(text, {"tls.mode": "none"})
    assert after == text.replace("'self-signed'", '"none"')


def test_a_key_can_be_added_to_a_file_of_tables_only_and_taken_out_again() -> None:
    text = "[tls]\nmode = 'none'\n"
    added = configfile.changed(text, {"user": "alice", "kernels.cull_idle": 60})
    assert settings.parse(added) == settings.Settings(user="alice", tls_mode="none", kernels_cull_idle=60)
    assert settings.parse(configfile.changed(added, {"user": None, "kernels.cull_idle": None})).user == ""


def test_unsetting_what_is_not_set_changes_nothing() -> None:
    assert configfile.changed("user = 'alice'\n", {"tls.mode": None, "listen": None}) == "user = 'alice'\n"


# --- sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "clean"),
    [
        ("kernels.memory_limit", "8G", "8G"),
        ("kernels.memory_limit", "8 gb", "8G"),
        ("kernels.memory_limit", "1.5GiB", "1.5G"),
        ("kernels.memory_limit", "500M", "500M"),
        ("kernels.memory_limit", " 50 %", "50%"),
        ("kernels.memory_limit", "100%", "100%"),
        ("kernels.memory_limit", "none", "none"),
        ("kernels.journal_size", "2g", "2G"),
        ("kernels.journal_size", "1024K", "1024K"),
    ],
)
def test_sizes_can_be_written_as_people_write_them(name: str, text: str, clean: str) -> None:
    assert configfile.from_words(name, text) == clean
    assert settings.clean(name, clean) == clean


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("kernels.memory_limit", "8", "Allowed:"),
        ("kernels.memory_limit", "50M", "at least 100M"),
        ("kernels.memory_limit", "8X", "Allowed:"),
        ("kernels.memory_limit", "-1G", "Allowed:"),
        ("kernels.memory_limit", "0", "Did you mean none?"),
        ("kernels.memory_limit", "Unlimited", "Did you mean none?"),
        ("kernels.memory_limit", "0%", "Did you mean none?"),
        ("kernels.memory_limit", "150%", "Did you mean 100%?"),
        ("kernels.memory_limit", "9999T", "Allowed:"),
        ("kernels.journal_size", "none", "Allowed:"),
        ("kernels.journal_size", "10K", "from 1M"),
        ("kernels.journal_size", "50%", "Allowed:"),
    ],
)
def test_a_wrong_size_is_told_what_is_right(name: str, value: str, expected: str) -> None:
    said = refusal(name, value)
    assert said.startswith(f"{name} cannot be {value!a}")
    assert expected in said


def test_a_number_without_a_unit_is_asked_what_it_means() -> None:
    assert "Did you mean 8G?" in complaint("[kernels]\nmemory_limit = 8")
    assert "Did you mean 256M?" in complaint("[kernels]\njournal_size = 256")


@pytest.mark.parametrize(
    ("limit", "memory", "expected"),
    [
        ("none", 16 << 30, None),
        ("8G", 16 << 30, 8 << 30),
        ("1.5G", 0, 3 << 29),
        ("50%", 16 << 30, 8 << 30),
        # whatever a boot more or less leaves of it
        ("50%", (16 << 30) + 12345678, 8 << 30),
        ("1%", 1 << 30, 64 << 20),
        ("90%", 0, None),
    ],
)
def test_the_server_is_told_the_limit_in_bytes(limit: str, memory: int, expected: int | None) -> None:
    machine = Machine(("box.test",), (), memory=memory)
    wanted = settings.Settings(user="alice", kernels_memory_limit=limit, kernels_journal_size="2M")
    alice = Account("alice", 1000, 1000, Path("/home/alice"), "/bin/bash")
    told = json.loads(render.render(wanted, alice, machine)[paths.SERVER_JSON])
    assert (told["memory_limit"], told["journal_bytes"]) == (expected, 2 << 20)
