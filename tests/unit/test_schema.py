"""The JSON Schema of config.toml says what the file may hold."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from jupyter_remote import configfile, settings
from jupyter_remote.run import Mistake
from jupyter_remote.schema import FILE, schema

CHECKER = jsonschema.Draft7Validator(schema())


def is_right(text: str) -> bool:
    return CHECKER.is_valid(tomllib.loads(text))


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(schema())


def test_it_knows_every_key_with_its_meaning_and_default():
    for name, key in settings.KEYS.items():
        section, _, leaf = name.rpartition(".")
        place = schema()["properties"]
        known = (place[section]["properties"] if section else place)[leaf]
        assert known["default"] == key.default
        assert key.meaning.split()[0] in known["description"]


def test_a_new_file_is_right_and_names_it():
    text = configfile.fresh({"user": "alice"})
    assert text.startswith(f"#:schema file://{FILE}\n")
    assert is_right(text)
    # Every default too, written out.
    everything = configfile.fresh({name: key.default for name, key in settings.KEYS.items()})
    assert is_right(everything)


@pytest.mark.parametrize(
    "text",
    [
        "listen = 8888",
        'listen = "unix"',
        'server.idle_stop = "2h"',
        "server.idle_stop = 0",
        '[kernels]\nenvironments = ["/data/*"]',
        'interface = "notebook"',
    ],
)
def test_what_the_settings_take_is_right(text: str):
    settings.parse(text)
    assert is_right(text)


@pytest.mark.parametrize(
    "text",
    [
        'interfce = "lab"',
        'interface = "labs"',
        "base_url = 1",
        '[kernels]\nenvironments = "/x"',
        "[kernel]",
        "listen = 1.5",
    ],
)
def test_what_they_refuse_is_wrong(text: str):
    with pytest.raises(Mistake):
        settings.parse(text)
    assert not is_right(text)
