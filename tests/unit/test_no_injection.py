"""No value can carry a line into a file that is rendered from it.

Thousands of generated values, as hostile as hypothesis can make them: each is refused with a message,
or what is rendered has exactly the lines that a harmless value gives.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from jupyter_remote import configfile, paths, render
from jupyter_remote.accounts import Account
from jupyter_remote.machine import Machine
from jupyter_remote.run import Mistake
from jupyter_remote.settings import KEYS, Settings, clean, parse

_HERE = Machine(("box.test", "box"), ("10.77.0.5",))
#: Everything that depends on other things than the settings is rendered too.
_ASKING = replace(_HERE, asks_authority=True, hsts=True)
_ALICE = Account("alice", 1000, 1000, Path("/home/alice"), "/bin/bash")

_POISON = st.sampled_from(
    ["\n", "\r", "\0", '"', "'", "\\", "%", "%n", "${", "${PATH}", "%{HTTP_HOST}", "<", ">", "]", "#", ";",
     "`", " ", "\t", "\u2028", "\x85", "../", "/etc/passwd", "\nLoadModule x", "\nExecStart=/bin/sh", "é", "😀",
     "=", "{{ 7*7 }}"]
)  # fmt: skip
_TEXT = st.lists(
    st.one_of(st.text(max_size=8), _POISON, st.sampled_from(["/jupyter", "alice", "lab.test", "~"])),
    max_size=6,
).map("".join)
_VALUE = st.one_of(_TEXT, st.integers(), st.booleans(), st.floats(), st.lists(_TEXT, max_size=3), st.none())


def shape(text: str) -> list[str]:
    """A file's lines with every value taken out: what must not depend on the values."""
    return [re.sub(r'(?<==).*|(?<= )".*"$', "…", line) for line in text.splitlines()]


class Markup(HTMLParser):
    """A page's tags and scripts, without its sentences."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[object] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *attrs))

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("script", "style"):
            self.found.append(data)


def rendered(wanted: Settings) -> dict[Path, str]:
    if wanted.tls_mode == "acme":
        return render.render(wanted, _ALICE, _ASKING)
    files = (wanted.tls_certificate or "/c.pem", wanted.tls_key or "/k.pem") if wanted.tls_mode == "existing" else None
    return render.render(wanted, _ALICE, replace(_HERE, certificate_files=files))


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), _VALUE, max_size=6))
@example({"server_name": "0"})
@settings(max_examples=3000, deadline=None)
def test_a_value_is_refused_or_rendered_without_changing_the_shape_of_any_file(
    values: dict[str, object],
) -> None:
    taken = {}
    for name, value in values.items():
        try:
            taken[name] = clean(name, value)
        except Mistake:
            continue
    wanted = Settings(**{name.replace(".", "_"): value for name, value in taken.items()})  # type: ignore[arg-type]
    # The reference differs only where the text itself is meant to differ.
    reference = rendered(
        Settings(
            user="alice",
            tls_mode=wanted.tls_mode,
            listen="unix" if wanted.listen == "unix" else 8888,
            kernels_sudo=wanted.kernels_sudo,
        )
    )
    for path, text in rendered(wanted).items():
        if path == paths.SERVER_JSON:
            assert json.loads(text).keys() == json.loads(reference[path]).keys()
        elif path == paths.CERTIFICATE_DROPIN:
            # A path that a unit cannot have is left out.
            assert set(shape(text)) <= set(shape(reference[path]))
        elif path == paths.AWAY_PAGE:
            # The machine's name stands in a sentence.
            assert Markup(text).found == Markup(reference[path]).found
        else:
            assert shape(text) == shape(reference[path])


_ALPHABET = {
    "apache-defines.conf": re.compile(r'Define JUPYTER_REMOTE\w*( "[A-Za-z0-9._~:|/@+ -]*")?|#.*|'),
    "50-watched.conf": re.compile(r"\[Path\]|PathChanged=/([^%\x00-\x1f]|%%)*|#.*|"),
    "50-owner.conf": re.compile(r'\[(Unit|Service|Socket)\]|[A-Za-z]+=[A-Za-z0-9._/:"~-]*|#.*|'),
}


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), _VALUE, max_size=6))
@settings(max_examples=2000, deadline=None)
def test_what_reaches_apache_and_systemd_is_made_of_a_small_alphabet(values: dict[str, object]) -> None:
    taken = {"user": "alice"}
    for name, value in values.items():
        try:
            taken[name.replace(".", "_")] = clean(name, value)  # type: ignore[assignment]
        except Mistake:
            continue
    for path, text in rendered(Settings(**taken)).items():  # type: ignore[arg-type]
        if pattern := _ALPHABET.get(path.name):
            for line in text.split("\n"):
                assert pattern.fullmatch(line), line


# The user database holds bytes; a home that is no UTF-8 comes with lone surrogates in it.
_HOME = st.one_of(st.text(max_size=40).map(lambda text: text.encode("utf-8", "ignore")), st.binary(max_size=40))


@given(_HOME.map(lambda raw: "/" + os.fsdecode(raw.replace(b"\0", b""))))
@example('/home/a" User=root\nExecStart=/bin/sh %n $HOME \\x41')
@example("/home/jürgen 😀")
@settings(max_examples=2000, deadline=None)
def test_a_home_directory_of_any_name_is_one_quoted_word_in_the_unit(home: str) -> None:
    account = Account("alice", 1000, 1000, Path(home), "/bin/sh")
    text = render.render(Settings(user="alice"), account, _HERE)[paths.SERVICE_DROPIN]
    lines = [line for line in text.split("\n") if line.startswith("RequiresMountsFor=")]
    assert shape(text) == shape(rendered(Settings(user="alice"))[paths.SERVICE_DROPIN])
    word = lines[0].partition("=")[2]
    assert word[0] == word[-1] == '"'
    assert '"' not in word[1:-1]
    assert _unit_unquoted(word) == str(Path(home))


def _unit_unquoted(word: str) -> str:
    """systemd.syntax(7), read backwards: specifiers, then C escapes."""
    inner = word[1:-1]
    assert "%" not in inner.replace("%%", "")
    raw = b""
    for piece in re.findall(r"\\x[0-9a-f]{2}|[^\\]", inner.replace("%%", "%")):
        raw += bytes([int(piece[2:], 16)]) if piece.startswith("\\x") else piece.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), _VALUE, max_size=4))
@settings(max_examples=1000, deadline=None)
def test_what_is_written_to_config_toml_is_read_back_the_same(values: dict[str, object]) -> None:
    taken = {}
    for name, value in values.items():
        try:
            taken[name] = clean(name, value)
        except Mistake:
            continue
    if taken.get("tls.mode") == "existing":
        taken.update({"tls.certificate": "/c.pem", "tls.key": "/k.pem"})
    if taken.get("tls.mode") == "acme":
        taken["server_name"] = "lab.test"
    expected = Settings(**{name.replace(".", "_"): value for name, value in taken.items()})  # type: ignore[arg-type]
    assert parse(configfile.fresh(taken)) == expected
    assert parse(configfile.changed(configfile.fresh({}), taken)) == expected


@given(_TEXT)
@settings(max_examples=1000, deadline=None)
def test_any_text_given_as_a_file_is_settings_or_a_message(text: str) -> None:
    try:
        parse(text)
    except Mistake as mistake:
        assert mistake.what
