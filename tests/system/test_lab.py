"""The lab itself: what every other test here relies on."""

from __future__ import annotations

import time

import pytest
from lab.box import Box
from lab.scratch import scratch

from jupyter_remote.run import ProcessFailed
from tests.container import Container
from tests.website import Website


def test_a_box_boots_with_every_unit_up(fresh_box: Box):
    assert fresh_box.state == "running", fresh_box.sh("systemctl --failed")
    assert fresh_box.sh("hostname -f") == "box.test"
    assert fresh_box.is_active("apache2")


@pytest.mark.one_release
def test_a_box_keeps_its_files_and_its_address_when_it_is_restarted(bare_box: Box):
    bare_box.write("/srv/kept", "yes")
    before = bare_box.ip, bare_box.read("/proc/sys/kernel/random/boot_id")
    bare_box.reboot()
    assert bare_box.read("/srv/kept") == "yes"
    bare_box.lose_power()
    bare_box.boot()
    assert bare_box.state == "running"
    assert (bare_box.ip, bare_box.sh("ip -4 -o addr show host0").split()[3]) == (before[0], f"{before[0]}/24")


def test_a_box_installs_packages_and_reaches_nothing_else(bare_box: Box):
    bare_box.sh("apt-get -qq update && apt-get -qq install --yes hello", env={"DEBIAN_FRONTEND": "noninteractive"})
    assert bare_box.sh("hello") == "Hello, world!"
    assert bare_box.attempt("getent hosts deb.debian.org").returncode != 0
    assert bare_box.attempt("curl --silent --max-time 5 http://192.0.2.1/").returncode != 0


@pytest.mark.one_release
def test_two_boxes_at_once_are_apart(suite: str):
    with Box(suite, layer="box") as one, Box(suite, layer="box") as other:
        assert one.ip != other.ip
        one.sh("systemctl stop apache2")
        assert other.is_active("apache2")
        one.shutdown()
        assert other.is_active("apache2")
        assert other.sh(f"curl --silent --head http://{other.ip}/").startswith("HTTP/1.1 200")


@pytest.mark.one_release
def test_each_person_has_their_own_rights(fresh_box: Box):
    alice, bob = fresh_box.as_user("alice"), fresh_box.as_user("bob")
    alice.sh("umask 077; echo mine > diary")
    assert alice.read("/home/alice/diary").strip() == "mine"
    with pytest.raises(ProcessFailed, match="Permission denied"):
        bob.read("/home/alice/diary")


@pytest.mark.one_release
def test_a_change_of_content_mode_or_owner_shows_in_the_list_of_files(bare_box: Box):
    before = bare_box.files("/etc")
    bare_box.sh("chmod 600 /etc/issue; chown alice /etc/motd; echo x >> /etc/profile; touch /etc/new")
    after = bare_box.files("/etc")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"/etc/issue", "/etc/motd", "/etc/profile", "/etc/new"}


@pytest.mark.one_release
def test_a_secret_is_found_wherever_it_lies(bare_box: Box):
    secret = "rosebud" + "1941"
    assert bare_box.places_with(secret) == []
    bare_box.write("/etc/careless", f"password={secret}\n")
    bare_box.write("/run/careless", secret)
    bare_box.sh("logger < /run/careless")
    run_in_background = "systemd-run --quiet --service-type=exec"
    bare_box.sh(f'{run_in_background} sh -c "sleep 60; true" sh $(cat /run/careless)')
    bare_box.sh(f"{run_in_background} --setenv=SECRET=$(cat /run/careless) sleep 60")
    found = "\n".join(bare_box.places_with(secret))
    for place in ("etc/careless", "run/careless", "journal", "argv of /usr/bin/sh", "environment of /usr/bin/sleep"):
        assert place in found


@pytest.mark.one_release
def test_a_dialog_is_read_and_answered_on_a_terminal(bare_box: Box, tmp_path_factory: pytest.TempPathFactory):
    picture = tmp_path_factory.mktemp("pictures") / "dialog.png"
    with bare_box.terminal("dialog --yesno 'Shall we dance?' 7 40") as terminal:
        assert "Yes" in terminal.expect("Shall we dance?")
        terminal.picture(picture)
        terminal.press("right", "enter")
        assert terminal.wait() == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.one_release
def test_a_frozen_box_comes_up_again_as_it_was(suite: str):
    name = f"frozen-{time.monotonic_ns()}"
    with Box(suite, layer="plain") as first:
        first.write("/srv/thing", "frozen")
        first.freeze(name)
    with Box(suite, layer=name) as second:
        assert second.read("/srv/thing") == "frozen"
        assert second.state == "running"


def test_a_container_has_packages_but_no_systemd(container: Container):
    container.sh("apt-get -qq update && apt-get -qq install --yes hello 2>&1")
    assert container.sh("hello") == "Hello, world!"
    assert container.attempt("systemctl is-system-running").stdout.strip() == "offline"


@pytest.mark.one_release
def test_nothing_of_a_scratch_root_is_kept(suite: str):
    with scratch(suite, "plain") as first:
        first.run("touch", "/srv/gone")
        root = first.root
    assert not root.exists()
    with scratch(suite, "plain") as second:
        assert not (second.root / "srv/gone").exists()


@pytest.mark.one_release
def test_a_site_answers_the_same_twice(website: Website):
    first = website.answers()
    assert first == website.answers()
    assert b"<h1>Shop</h1>" in first["shop.test: GET / HTTP/1.1"]
    assert first["shop.test: GET /private/ HTTP/1.1"].startswith(b"HTTP/1.1 401")
