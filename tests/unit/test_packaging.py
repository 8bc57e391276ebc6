"""What can be said of debian/ and requirements/ without building anything."""

from __future__ import annotations

import re
from pathlib import Path

import jupyter_remote
from jupyter_remote.run import run

TOP = Path(__file__).resolve().parents[2]
DEBIAN = TOP / "debian"
REQUIREMENTS = TOP / "requirements"
SCRIPTS = ("config", "postinst", "prerm", "postrm")


def test_the_changelog_is_about_this_version() -> None:
    newest = re.match(r"jupyter-remote \((.+)-\d+\)", (DEBIAN / "changelog").read_text())
    assert newest and newest[1] == jupyter_remote.__version__


def test_the_postinst_is_short_enough_to_be_read() -> None:
    assert len((DEBIAN / "postinst").read_text().splitlines()) <= 60


def test_maintainer_scripts_are_plain_sh_and_stop_at_errors() -> None:
    for name in SCRIPTS:
        text = (DEBIAN / name).read_text()
        assert text.startswith("#!/bin/sh\n") and "\nset -e\n" in text
        run("sh", "-n", DEBIAN / name)


def test_each_override_is_explained() -> None:
    for block in (DEBIAN / "lintian-overrides").read_text().strip().split("\n\n"):
        lines = block.splitlines()
        assert lines[0].startswith("#"), f"no reason for: {block}"


def test_every_requirement_has_one_version_and_hashes() -> None:
    for name in ("server", "kernel"):
        text = (REQUIREMENTS / f"{name}.txt").read_text()
        blocks = re.split(r"^(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.M), flags=re.M)
        assert len(blocks) > 20
        for block in filter(str.strip, blocks):
            assert re.match(r"[a-z0-9.-]+==\S+( ; [^\\]+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n?)+$", block), block
        assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_what_server_and_kernels_share_has_the_same_version() -> None:
    versions = [
        dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+) \\", (REQUIREMENTS / f"{name}.txt").read_text(), re.M))
        for name in ("server", "kernel")
    ]
    shared = versions[0].keys() & versions[1].keys()
    assert {"pyzmq", "tornado", "jupyter-client"} <= shared
    assert {name: versions[0][name] for name in shared} == {name: versions[1][name] for name in shared}


def test_debconf_questions_are_ready_to_be_translated() -> None:
    templates = (DEBIAN / "templates").read_text()
    pot = re.sub(r'"\n"', "", (DEBIAN / "po/templates.pot").read_text())
    for title in re.findall(r"^_Description: (.+)$", templates, re.M):
        assert f'msgid "{title}"' in pot, f"not in templates.pot: {title} (debconf-updatepo)"


def test_the_password_is_never_an_argument() -> None:
    for name in SCRIPTS:
        for line in (DEBIAN / name).read_text().splitlines():
            assert not re.search(r"jupyter-remote \w.*\$(answers|first|second|hash|RET)", line), line
