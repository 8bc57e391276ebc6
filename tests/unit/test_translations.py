"""debconf's questions in other languages: all of them, none outdated, with commands and names as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

PO = Path(__file__).parents[2] / "debian/po"
LANGUAGES = ["de", "fr"]

#: what is typed, or is a name, in every language
_WORDS = re.compile(
    r"jupyter-remote \w+|dpkg-reconfigure|https?://|Let's Encrypt|Apache|PEM|root\b|argon2|sha1|\b443\b"
)


def catalog(name: str) -> Catalog:
    with (PO / name).open(encoding="utf-8") as file:
        return read_po(file)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_is_translated(language: str) -> None:
    template, theirs = catalog("templates.pot"), catalog(f"{language}.po")
    wanted = {message.id for message in template if message.id}
    assert {message.id for message in theirs if message.id} == wanted
    for message in theirs:
        assert not message.id or (message.string and not message.fuzzy), message.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_typed_is_the_same(language: str) -> None:
    for message in catalog(f"{language}.po"):
        if message.id:
            assert sorted(_WORDS.findall(message.id)) == sorted(_WORDS.findall(message.string)), message.id
            # A question that ends so, as debconf wants it.
            for end in (":", "?"):
                assert message.id.endswith(end) == message.string.endswith(end), message.string


def test_the_template_is_that_of_the_questions() -> None:
    """As debconf-updatepo would write it, line breaks aside."""
    questions = (PO.parent / "templates").read_text()
    asked = re.findall(r"^_Description: (.*)", questions, re.MULTILINE)
    known = {message.id for message in catalog("templates.pot")}
    assert [text for text in asked if text not in known] == []
