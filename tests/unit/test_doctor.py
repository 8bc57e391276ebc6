"""What the doctor can find, as far as that can be asked without a machine."""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_remote import machine
from jupyter_remote.doctor.examination import troubles
from jupyter_remote.doctor.findings import Trouble

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("trouble", troubles(), ids=lambda one: one.id)
def test_each_trouble_has_a_reason_and_a_cure(trouble: Trouble):
    assert trouble.hint or trouble.mend
    for text in (trouble.what, trouble.why, trouble.hint):
        assert "\n" not in text
    # What is run without asking is written with the facts that the sentence has.
    facts = {
        name
        for _, name, _, _ in string.Formatter().parse(trouble.what + trouble.why + trouble.hint + trouble.mend)
        if name
    }
    found = trouble(**dict.fromkeys(facts, "x y"))
    assert all(word for command in found.commands for word in command)


def test_names_are_stable_and_each_is_there_once():
    names = [one.id for one in troubles()]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set(string.ascii_lowercase + "-") for name in names)


def test_a_fact_in_a_command_is_one_word():
    trouble = Trouble("a", "{path}", "why", mend="chmod 600 {path}; jupyter-remote apply")
    assert trouble(path="/a b'; rm x").commands == (("chmod", "600", "/a b'; rm x"), ("jupyter-remote", "apply"))


def test_the_documentation_lists_what_can_be_found():
    made = subprocess.run([sys.executable, TOP / "tools/troubleshooting"], capture_output=True, text=True, check=True)
    assert made.stdout == (TOP / "docs/troubleshooting.md").read_text(), "run tools/troubleshooting"


@pytest.mark.parametrize(
    ("cloud", "dmi", "firewall"),
    [
        ("aws\n", {}, "the security group of the instance in Amazon EC2"),
        ("azure-china\n", {}, "the network security group of the machine in Azure"),
        # cloud-init was there and knows of none
        ("nocloud\n", {"sys_vendor": "Hetzner\n"}, None),
        (None, {"sys_vendor": "Hetzner\n"}, "the server's firewall in the Hetzner console"),
        (
            None,
            {"sys_vendor": "Google\n", "product_name": "Google Compute Engine\n"},
            "the VPC firewall rules in Google Cloud (“Allow HTTPS traffic”)",
        ),
        (None, {"sys_vendor": "Google\n", "product_name": "Eve\n"}, None),
        (None, {"sys_vendor": "Microsoft Corporation\n"}, None),
        (None, {}, None),
    ],
)
def test_a_clouds_firewall_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: str | None, dmi: dict[str, str], firewall: str | None
):
    monkeypatch.setattr(machine, "_CLOUD_ID", tmp_path / "cloud-id")
    monkeypatch.setattr(machine, "_DMI", tmp_path)
    for name, text in {**dmi, **({"cloud-id": cloud} if cloud else {})}.items():
        (tmp_path / name).write_text(text)
    assert machine.cloud_firewall() == firewall
