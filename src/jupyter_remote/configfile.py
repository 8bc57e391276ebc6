"""``config.toml`` as a file that people edit: made once, then changed key by key with its comments kept."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import tomlkit
import tomlkit.exceptions

from . import schema, settings
from .run import EX_DATAERR, die
from .settings import KEYS, SECTIONS, Key, Scalar

_HEAD = f"""\
#:schema file://{schema.FILE}
# The settings of jupyter-remote. Change them here and run `sudo jupyter-remote apply`,
# or let `sudo jupyter-remote config set KEY VALUE` do both. See jupyter-remote.toml(5).
# A line that begins with # shows a default.
"""


def fresh(values: Mapping[str, Scalar], keys: Iterable[Key] = tuple(KEYS.values())) -> str:
    """The text of a new config.toml: each key with its meaning, set or as a comment."""
    lines = [_HEAD]
    section = ""
    for key in keys:
        prefix, _, name = key.name.rpartition(".")
        if prefix != section:
            section = prefix
            lines.append(f"[{section}]\n# {SECTIONS[section]}\n")
        lines.append("\n".join(f"# {line}" for line in key.meaning.splitlines()))
        value = values.get(key.name, key.default)
        lines.append(f"{'' if key.name in values else '#'}{name} = {_toml(value)}\n")
    return "\n".join(lines)


def _toml(value: Scalar) -> str:
    return tomlkit.item(value).as_string()


def changed(text: str, values: Mapping[str, Scalar | None]) -> str:
    """*text* with keys set (or taken out, where the value is None); everything else stays byte for byte.

    :raises Mistake: *text* is not TOML.
    """
    try:
        document = tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        die(f"config.toml is not valid TOML: {error}.", hint="Mend it with: sudo jupyter-remote config edit")
    for name, value in values.items():
        section, _, leaf = name.rpartition(".")
        table: Any = document
        if section:
            if section not in document:
                if value is None:
                    continue
                document[section] = tomlkit.table()
            table = document[section]
        if value is None:
            table.pop(leaf, None)
        else:
            table[leaf] = value
    result = tomlkit.dumps(document)
    # tomlkit is asked to keep comments; that it kept the meaning too is checked, not believed.
    after = dict(settings.flatten(tomllib.loads(result)))
    if any(after.get(name) != value for name, value in values.items()):
        die(
            "config.toml could not be changed without harm.",
            hint="Change it by hand: sudo jupyter-remote config edit",
        )
    return result


def given(text: str) -> dict[str, Any]:
    """What a file says, by dotted names: no defaults.

    :raises Mistake: it is not TOML.
    """
    try:
        return dict(settings.flatten(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        die(f"config.toml is not valid TOML: {error}.", hint="Mend it with: sudo jupyter-remote config edit")


def from_words(name: str, text: str) -> Scalar:
    """A value typed on a command line: TOML where it is TOML (``8888``, ``["a"]``), else plain text.

    :raises Mistake: the key does not take it.
    """
    default = settings.key(name).default
    if isinstance(default, str):
        # Only a number can be meant otherwise (listen); a user called "true" is a user.
        return settings.clean(name, text)
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        value = text
    if isinstance(default, list) and isinstance(value, str):
        value = [part for part in value.replace(",", " ").split() if part]
    return settings.clean(name, value)


def as_text(value: Scalar) -> str:
    """A value as ``config get`` prints it: plain text, lists as JSON."""
    if isinstance(value, list):
        return json.dumps(value)
    return str(value)


def require_pairs(words: list[str]) -> dict[str, Scalar]:
    """``KEY VALUE KEY VALUE …`` as clean values.

    :raises Mistake: an odd number of words, an unknown key, or a value that is not taken.
    """
    if not words or len(words) % 2:
        die(
            "A key and its value are needed.",
            hint="Example: sudo jupyter-remote config set base_url /lab",
            code=EX_DATAERR,
        )
    return {name: from_words(name, text) for name, text in zip(words[::2], words[1::2], strict=True)}
