"""Further people: whose Jupyter a command line means, what they may set, and units that name nothing of the owner's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_remote import configfile, people, settings
from jupyter_remote.run import Mistake
from jupyter_remote.settings import KEYS, Settings

TOP = Path(__file__).parents[2]
MACHINE = Settings(user="alice", server_name="lab.example.org", tls_hsts="off", interface="notebook")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("status", ("", "status")),
        ("--for bob status", ("bob", "status")),
        ("--for=bob config get user", ("bob", "config")),
        ("config set --for bob", ("", "config")),
        ("--version", ("", "")),
        ("", ("", "")),
        ("--for", ("", "")),
    ],
)
def test_whom_a_command_line_names(line: str, meant: tuple[str, str]) -> None:
    assert people._read(line.split()) == meant


def test_a_person_has_the_machines_settings_and_their_own() -> None:
    theirs = settings.parse('[kernels]\ncull_idle = "2h"\n', machine=MACHINE, person="bob")
    assert theirs == Settings(
        user="bob", base_url="/jupyter-bob", server_name="lab.example.org", tls_hsts="off", kernels_cull_idle=7200
    )


@pytest.mark.parametrize("name", [key.name for key in KEYS.values() if key.is_machines])
def test_a_person_cannot_set_what_is_the_machines(name: str) -> None:
    samples = {"server_aliases": ["x.test"], "tls.acme_email": "bob@x.test", "server_name": "x.test", "user": "bob"}
    text = configfile.changed("", {name: samples.get(name) or KEYS[name].default or "/etc/x.pem"})
    with pytest.raises(Mistake, match="is set for the whole machine") as caught:
        settings.parse(text, machine=MACHINE, person="bob")
    assert f"--for alice config set {name}" in caught.value.hint


def test_what_a_new_file_shows_is_what_the_person_may_set() -> None:
    theirs = [key for key in KEYS.values() if not key.is_machines]
    text = configfile.fresh({"base_url": "/jupyter-bob"}, theirs)
    assert settings.parse(text, machine=MACHINE, person="bob").base_url == "/jupyter-bob"
    everything = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert settings.parse(everything, machine=MACHINE, person="bob").base_url == "/jupyter-bob"
    assert "[tls]" not in text


MAKE = """
from pathlib import Path
from jupyter_remote import paths
from jupyter_remote.people import units
for own, packaged in paths.OWN_UNITS.items():
    print("==", own.name)
    print(units.made_of(packaged.name, Path("systemd", packaged.name).read_text(), own.name))
"""


@pytest.mark.parametrize("person", ["bob", "anna-lena.2"])
def test_units_of_a_person_name_nothing_of_the_owners(person: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TOP / "src"), "JUPYTER_REMOTE_PERSON": person}
    words = [sys.executable, "-c", MAKE]
    made = subprocess.run(words, cwd=TOP, env=environment, capture_output=True, text=True, check=True).stdout
    _, *units = made.split("== ")
    assert len(units) == 4
    owners = re.compile(
        r"jupyter-remote\.(service|socket)|jupyter-remote-kernel(@|\.socket)|kernels\.slice"
        r"|/run/jupyter-remote(?!@)|/etc/jupyter-remote/(?!users/)|rendered/|owner(?!\.conf)|the machine"
    )
    for unit in units:
        settings_of_it = "\n".join(line for line in unit.splitlines() if not line.startswith("#"))
        assert not owners.findall(settings_of_it), settings_of_it
        assert person in settings_of_it


@pytest.mark.parametrize("wrong", ["../bob", "bob/..", "-bob", "bob\n", "b ob", "%u", ""])
def test_a_name_that_can_be_none_is_nobodys(wrong: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TOP / "src"), "JUPYTER_REMOTE_PERSON": wrong}
    words = [sys.executable, "-c", "from jupyter_remote import paths; print(paths.CONFIG)"]
    asked = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert asked.stdout == "/etc/jupyter-remote/config.toml\n"


def test_addresses_of_which_one_is_a_part_of_the_other() -> None:
    assert people._is_below("/jupyter/bob", "/jupyter")
    assert people._is_below("/jupyter", "/jupyter")
    assert not people._is_below("/jupyter-bob", "/jupyter")
