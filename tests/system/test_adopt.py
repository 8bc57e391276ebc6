"""A machine that was set up by hand, as a guide of 2016 has it, is taken over and given back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.box import Box

from tests import guide, installed
from tests.client import Client, wait_until
from tests.guide import ANACONDA, BY_HAND_PASSWORD, ByHand
from tests.installed import ANSWERS, PASSWORD
from tests.pages import blocks, reader

MakeClient = Callable[..., Client]

ADOPT, PLAN, UNDO = blocks("docs/adopt.md")
APACHE = "/etc/apache2/apache2.conf"
TOUCHED = (APACHE, "/etc/jupyter-remote/config.toml", "/etc/jupyter-remote/password-hash")


@pytest.fixture
def by_hand(suite: str, deb: Path) -> Iterator[ByHand]:
    """A machine that was set up by hand, and then got our package with another password."""
    with Box(suite, layer=installed.ready(suite, deb), binds={guide.anaconda(suite): ANACONDA}) as box:
        made = ByHand.set_up(box)
        box.install(deb, ANSWERS)
        yield made


@pytest.fixture
def box(by_hand: ByHand) -> Box:
    return by_hand.box


def state(box: Box) -> dict[str, tuple[str, str]]:
    """What must be the same after there and back: each file with its mode, and which of Apache's are in use."""
    files = {name: (box.sh(f"stat -c '%a %U:%G' {name}"), box.read(name)) for name in TOUCHED}
    return files | {"enabled": (box.sh("ls /etc/apache2/*-enabled"), "")}


def without_lines(plan: str) -> str:
    """A plan without the numbers of lines: Apache's file is not the same in each release."""
    return re.sub(r"\d+ to \d+", "…", plan)


def port_is_open(box: Box) -> bool:
    return box.attempt("curl -s http://127.0.0.1:8888/").returncode == 0


def test_a_machine_set_up_by_hand_is_taken_over_and_given_back(by_hand: ByHand, box: Box, client: MakeClient) -> None:
    # Side by side: ours is there, and has not touched what was there before.
    by_hand.wait()
    before = state(box)
    assert "sudo jupyter-remote adopt" in box.attempt("jupyter-remote apply").stderr
    plan = box.sh("jupyter-remote adopt --dry-run")
    assert without_lines(plan) == without_lines(PLAN.text).strip()
    assert state(box) == before

    reader(box)
    with box.terminal(ADOPT.text, user="alice") as terminal:
        terminal.expect("Go on? [y/N]")
        terminal.answer("y")
        terminal.expect("Done. Your Jupyter: https://box.test/jupyter")
        assert terminal.wait() == 0, terminal.screen()
    # The same password, the same address, the same notebooks, the same Python.
    visitor = client(box)
    assert not visitor.try_login(PASSWORD)
    visitor.login(BY_HAND_PASSWORD)
    assert visitor.get("").url.path == "/jupyter/tree"
    box.write("/home/alice/work/here.txt", "x", owner="alice")
    assert [file["name"] for file in visitor.api("GET", "contents")["content"]] == ["here.txt"]
    kernel = visitor.start_kernel()
    assert kernel.execute("import sys; print(sys.prefix)").text.strip() == ANACONDA
    # Nothing is left of the old one.
    assert not port_is_open(box)
    assert box.sh("dpkg --verify apache2") == ""
    assert box.as_user("alice").sh("tmux list-sessions -F '#S'").strip() == "jupyter"
    assert "All is well." in box.sh("jupyter-remote status")

    reader(box).sh(UNDO.text)
    by_hand.wait()
    assert state(box) == before
    with Client(box.ip, by_hand.url) as visitor:
        visitor.login(BY_HAND_PASSWORD)
    assert "jupyter-notebook" in box.as_user("alice").sh("tmux list-panes -s -t jupyter -F '#{pane_start_command}'")
    assert not box.files("/var/lib/jupyter-remote/adopted")
    assert box.attempt("jupyter-remote adopt --undo").returncode == 69


@pytest.mark.either_release
def test_a_kernel_at_work_is_waited_for(by_hand: ByHand, box: Box) -> None:
    with Client(box.ip, by_hand.url) as visitor:
        kernel = visitor.login(BY_HAND_PASSWORD).start_kernel("python3")
        kernel.submit("import time\nwhile not __import__('os').path.exists('/tmp/enough'): time.sleep(0.1)")
        wait_until(lambda: "busy" in kernel.receive()["content"].get("execution_state", ""), "it does not begin")
        refused = box.attempt("jupyter-remote adopt --yes")
        assert (refused.returncode, "--wait" in refused.stderr) == (75, True), refused.stderr
        by_hand.wait()
        box.sh("systemd-run -q --on-active=20 touch /tmp/enough")
        said = box.attempt("jupyter-remote adopt --yes --wait", timeout=120)
        assert (said.returncode, "Waiting for" in said.stderr) == (0, True), said.stderr
        assert box.exists("/tmp/enough")
    assert not port_is_open(box)


@pytest.mark.either_release
def test_a_file_that_was_edited_since_is_left_and_the_old_one_is_beside_it(by_hand: ByHand, box: Box) -> None:
    before = box.read(APACHE)
    box.sh("jupyter-remote adopt --yes")
    box.sh(f"echo '# mine' >> {APACHE} && jupyter-remote config set interface lab")
    said = box.attempt("jupyter-remote adopt --undo")
    assert (said.returncode, "sudo diff" in said.stderr) == (69, True)
    assert box.read(APACHE).endswith("# mine\n")
    assert "Location" not in box.read(APACHE)
    assert box.read("/var/lib/jupyter-remote/adopted/1-etc-apache2-apache2.conf") == before
    assert box.attempt("jupyter-remote adopt --undo").returncode == 69
    # The old server runs all the same.
    assert port_is_open(box)


@pytest.mark.either_release
def test_what_fails_on_the_way_is_taken_back(by_hand: ByHand, box: Box) -> None:
    before = state(box)
    # Ours cannot come up.
    box.write("/etc/systemd/system/jupyter-remote.service.d/broken.conf", "[Service]\nExecStartPre=/bin/false\n")
    box.sh("systemctl daemon-reload")
    said = box.attempt("jupyter-remote adopt --yes")
    assert said.returncode != 0
    assert "Everything is as before." in said.stderr, said.stderr
    by_hand.wait()
    assert state(box) == before
    assert not box.files("/var/lib/jupyter-remote/adopted")


@pytest.mark.either_release
def test_a_purge_says_what_does_not_come_back_and_leaves_it_to_the_administrator(by_hand: ByHand, box: Box) -> None:
    before = box.read(APACHE)
    box.sh("jupyter-remote adopt --yes")
    purged = box.attempt("apt-get -qq purge --yes jupyter-remote 2>&1", env={"DEBIAN_FRONTEND": "noninteractive"})
    assert (purged.returncode, "adopt --undo" in purged.stdout) == (0, True), purged.stdout
    assert not box.exists("/var/lib/jupyter-remote")
    kept = json.loads(box.sh("cat /var/backups/jupyter-remote-adopted.*/1.json"))
    assert kept["files"][APACHE][0] == before
    assert box.sh("stat -c '%a %U' /var/backups/jupyter-remote-adopted.*").strip() == "700 root"


@pytest.mark.one_release
def test_programs_and_nobody(by_hand: ByHand, box: Box) -> None:
    plan = json.loads(box.sh("jupyter-remote adopt --json"))
    assert (plan["port"], plan["settings"]["kernels.default"]) == (8888, "~/anaconda3")
    assert [block["path"] for block in plan["apache"]] == ["/jupyter", "/jupyter/api/kernels/"]
    # Nobody is there to say yes.
    asked = box.attempt("jupyter-remote adopt < /dev/null")
    assert (asked.returncode, "--yes" in asked.stderr) == (64, True)
    by_hand.wait()
    box.sh("useradd -m -s /bin/bash carol")
    none = box.attempt("jupyter-remote adopt --user carol")
    assert (none.returncode, "no Jupyter of carol's" in none.stderr) == (69, True)
