"""Machines that nobody types at: the examples of docs/automation.md, as they stand there; and what shells complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.box import Box

from tests.client import Client
from tests.installed import OWNER, PASSWORD
from tests.pages import blocks

MakeClient = Callable[..., Client]

HASHING, PRESEED, CLOUD_CONFIG, ANSIBLE, CREDENTIAL = blocks("docs/automation.md")
NONINTERACTIVE = {"DEBIAN_FRONTEND": "noninteractive"}


@pytest.fixture(scope="session")
def hashed(suite: str, deb: Path) -> str:
    """The password's hash, made on another machine."""
    from tests import installed

    with Box(suite, layer=installed.layer(suite, deb)) as box, box.terminal(HASHING.text, columns=200) as terminal:
        terminal.expect("Enter password:")
        terminal.answer(PASSWORD)
        terminal.expect("Verify password:")
        terminal.answer(PASSWORD)
        assert terminal.wait() == 0, terminal.screen()
        return terminal.screen().split()[-1]


@pytest.mark.one_release
def test_preseed(ready_box: Box, deb: Path, hashed: str, client: MakeClient) -> None:
    ready_box.write("/root/preseed", PRESEED.filled({"HASH": hashed}))
    install = f"debconf-set-selections /root/preseed && rm /root/preseed && apt-get -qq install -y {ready_box.put(deb)}"
    ready_box.sh(install, env=NONINTERACTIVE, timeout=600)
    client(ready_box, base_url="/lab").login(PASSWORD)
    assert hashed not in ready_box.sh("debconf-show jupyter-remote")


@pytest.mark.one_release
def test_cloud_init(ready_box: Box, deb: Path, hashed: str, client: MakeClient) -> None:
    box = ready_box
    box.sh("apt-get -qq install --yes cloud-init", env=NONINTERACTIVE, timeout=600)
    box.sh(f"userdel -r {OWNER}; cp {box.put(deb)} /root/jupyter-remote.deb")
    box.write("/var/lib/cloud/seed/nocloud/user-data", CLOUD_CONFIG.filled({"HASH": hashed}))
    box.write("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: box\n")
    box.write("/etc/cloud/cloud.cfg.d/99.cfg", "datasource_list: [NoCloud]\nnetwork: {config: disabled}\n")
    for stage in ("init --local", "init", "modules --mode=config", "modules --mode=final"):
        box.attempt(f"cloud-init {stage}", timeout=600)
    client(box).login(PASSWORD)
    assert not box.exists("/run/jupyter-remote.preseed")
    assert json.loads(box.attempt("jupyter-remote status --json").stdout)["owner"] == OWNER


@pytest.mark.one_release
def test_ansible_twice(ready_box: Box, deb: Path, hashed: str, client: MakeClient) -> None:
    box = ready_box
    box.sh("apt-get -qq install --yes ansible-core python3-apt", env=NONINTERACTIVE, timeout=900)
    box.sh(f"cp {box.put(deb)} /root/jupyter-remote.deb")
    box.write("/root/play.yml", ANSIBLE.filled({"HASH": hashed}))
    play = "cd /root && ansible-playbook -i localhost, -c local play.yml"
    environment = {"LANG": "C.UTF-8", "HOME": "/root"}
    box.sh(play, env=environment, timeout=900)
    visitor = client(box).login(PASSWORD)
    assert visitor.get("").url.path == "/jupyter/tree"
    # What is as it should be is not touched.
    assert "changed=0" in box.sh(play, env=environment, timeout=900)
    assert visitor.logged_in


@pytest.mark.one_release
def test_a_credential_is_taken_over_once(box: Box, hashed: str, client: MakeClient) -> None:
    box.sh("jupyter-remote password --stdin", input="another one\n")
    old = client(box).login("another one")
    box.write("/root/steps.sh", CREDENTIAL.filled({"HASH": hashed}))
    box.sh("bash -e /root/steps.sh")
    assert not old.logged_in
    client(box).login(PASSWORD)
    # At the next boot it is not news.
    box.sh("jupyter-remote password --stdin", input="a third one\n")
    box.reboot()
    # The journal is of this boot.
    said = box.journal("jupyter-remote-credentials.service")
    assert "Finished" in said
    assert "was taken over" not in said
    client(box).login("a third one")
    # And in words, not as a hash.
    box.sh("rm /etc/credstore/*; echo 'the fourth' > /etc/credstore/jupyter-remote.password")
    box.sh("systemctl start jupyter-remote-credentials.service")
    client(box).login("the fourth")
    assert "the fourth" not in box.read("/var/lib/jupyter-remote/credential")


@pytest.mark.one_release
def test_shells_complete_commands_settings_and_ids(box: Box, client: MakeClient) -> None:
    kernel = client(box).login(PASSWORD).start_kernel()
    box.sh("apt-get -qq install --yes bash-completion zsh fish", env=NONINTERACTIVE, timeout=600)
    fish = box.as_user("alice").sh("fish -c \"complete -C 'jupyter-remote config set interface '\"").split()
    assert {"lab", "notebook"} <= set(fish)
    assert kernel.id in box.as_user("alice").sh("fish -c \"complete -C 'jupyter-remote kernels stop '\"")
    # Somebody else is told of nobody's kernels.
    assert kernel.id not in box.as_user("bob").sh("fish -c \"complete -C 'jupyter-remote kernels stop '\"")
    for shell in ("bash --norc -i", "zsh -f -i"):
        with box.terminal(shell, user="alice", columns=100) as terminal:
            if shell.startswith("bash"):
                terminal.answer(". /usr/share/bash-completion/bash_completion")
            else:
                terminal.answer("autoload -U compinit; compinit -u")
            terminal.type("jupyter-remote config get tls.acme_em\t")
            terminal.expect("tls.acme_email")
