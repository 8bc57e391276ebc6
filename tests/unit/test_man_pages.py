"""The man pages say what there is: every command, every setting."""

from __future__ import annotations

import argparse
from pathlib import Path

from jupyter_remote import cli, settings

_MAN = Path(__file__).parents[2] / "docs" / "man"


def commands(parser: argparse.ArgumentParser, prefix: str = "") -> list[str]:
    """The commands that --help lists, with those below them."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for shown in action._choices_actions:
                below = commands(action.choices[shown.dest], f"{prefix}{shown.dest} ")
                found += below or [f"{prefix}{shown.dest}"]
    return found


def test_every_command_is_in_the_manual() -> None:
    manual = (_MAN / "jupyter-remote.1").read_text()
    listed = commands(cli._parser())
    assert "config set" in listed
    for command in listed:
        assert any(f"{macro} {quote}{command}" in manual for macro in (".B", ".BR", ".BI") for quote in ("", '"')), (
            command
        )


def test_every_setting_is_in_the_manual_with_its_default() -> None:
    manual = (_MAN / "jupyter-remote.toml.5").read_text()
    for name, key in settings.KEYS.items():
        assert f".BR {name}" in manual or f'", " {name} "' in manual, name
        if isinstance(key.default, str) and key.default:
            assert f"default \\(dq{key.default}\\(dq)" in manual, name
