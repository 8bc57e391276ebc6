"""A JSON Schema of ``config.toml``, for editors that complete and check TOML by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .settings import KEYS, SECTIONS, Key

#: Where the package has it. config.toml names it in its first line, as editors want it.
FILE = Path("/usr/share/jupyter-remote/config.schema.json")


def schema() -> dict[str, Any]:
    """The schema (draft 7, which editors know).

    It knows names and kinds. What a value may be in detail is said in words, and checked by ``config edit``.
    """
    top: dict[str, Any] = {
        name: {"type": "object", "description": meaning, "additionalProperties": False, "properties": {}}
        for name, meaning in SECTIONS.items()
    }
    for key in KEYS.values():
        section, _, name = key.name.rpartition(".")
        (top[section]["properties"] if section else top)[name] = _key(key)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "jupyter-remote",
        "description": "The settings of jupyter-remote: see jupyter-remote.toml(5).",
        "type": "object",
        "additionalProperties": False,
        "properties": top,
    }


def _key(key: Key) -> dict[str, Any]:
    described = {"description": key.meaning.replace("\n", " "), "default": key.default}
    if key.choices:
        return {**described, "enum": list(key.choices)}
    if isinstance(key.default, list):
        return {**described, "type": "array", "items": {"type": "string"}, "maxItems": 100}
    # Some take a number where others say it in words: 8888, 3600.
    takes_numbers = isinstance(key.default, int) or key.name == "listen"
    return {**described, "type": ["integer", "string"] if takes_numbers else "string"}
