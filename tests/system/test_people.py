"""Another person of the machine gets a Jupyter of their own, beside the owner's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box, Person

from tests.client import Client, wait_until
from tests.installed import PASSWORD
from tests.pages import blocks, reader

MakeClient = Callable[..., Client]

ADD, REMOVE = blocks("docs/people.md")
BOBS = "another 'horse' $battery"

#: what connects to a unix socket, and says how that went
CONNECT = "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "


def add(box: Box, name: str = "bob", *words: str) -> None:
    box.sh(f"jupyter-remote add-user {name} --stdin {' '.join(words)}", input=BOBS + "\n", timeout=60)


def main_pid(box: Box, unit: str) -> int:
    return int(box.sh(f"systemctl show --value --property=MainPID {unit}"))


@pytest.mark.either_release
def test_two_people_have_a_jupyter_each_and_share_nothing(box: Box, alice: Person, bob: Person, client: MakeClient):
    add(box)
    hers, his = client(box).login(PASSWORD), client(box, base_url="/jupyter-bob").login(BOBS)
    assert not client(box).try_login(BOBS)
    assert not client(box, base_url="/jupyter-bob").try_login(PASSWORD)
    # The cookie of one is none to the other, also when a browser is made to send it.
    thief = client(box, base_url="/jupyter-bob")
    for cookie in hers.http.cookies.jar:
        thief.http.cookies.set(cookie.name.replace("-jupyter", "-jupyter-bob"), cookie.value or "", path="/")
        thief.http.cookies.set(cookie.name, cookie.value or "", path="/")
    assert not thief.logged_in

    kernels = {"alice": hers.start_kernel(), "bob": his.start_kernel()}
    for name, kernel in kernels.items():
        assert kernel.execute("import getpass; getpass.getuser()").value == f"'{name}'"
        assert kernel.execute("import os; os.getcwd()").value == f"'/home/{name}'"
        kernel.execute("kept = 42")
    assert [one["id"] for one in hers.api("GET", "kernels")] == [kernels["alice"].id]
    assert [one["id"] for one in his.api("GET", "kernels")] == [kernels["bob"].id]
    # Neither /tmp nor shared memory, nor each other's doors.
    kernels["alice"].execute("open('/tmp/hers', 'w').close(); open('/dev/shm/hers', 'w').close()")
    assert kernels["bob"].execute("os.path.exists('/tmp/hers'), os.path.exists('/dev/shm/hers')").value == (
        "(False, False)"
    )
    doors = {alice: "/run/jupyter-remote@bob/{}.sock", bob: "/run/jupyter-remote/{}.sock"}
    for person, door in doors.items():
        for which in ("http", "kernel"):
            assert "PermissionError" in person.attempt(CONNECT + door.format(which)).stderr
    box.sh(CONNECT + "/run/jupyter-remote@bob/http.sock")
    for path in ("/var/lib/jupyter-remote/users/bob", "/run/jupyter-remote/bob", "/etc/jupyter-remote/users/bob/pass*"):
        assert alice.attempt(f"ls {path}/ || cat {path}").returncode

    # What happens to one server is nothing to the other, and nothing to kernels.
    before = main_pid(box, "jupyter-remote")
    box.sh("systemctl kill --signal=KILL jupyter-remote@bob; systemctl restart jupyter-remote@bob")
    assert main_pid(box, "jupyter-remote") == before
    assert kernels["bob"].execute("kept").value == "42"
    box.sh("systemctl restart jupyter-remote")
    assert [one["id"] for one in his.api("GET", "kernels")] == [kernels["bob"].id]
    box.reboot()
    assert client(box, base_url="/jupyter-bob").try_login(BOBS)
    assert client(box).try_login(PASSWORD)


@pytest.mark.one_release
def test_when_a_server_is_off_the_page_that_says_so_is_of_the_right_one(box: Box, client: MakeClient):
    add(box)
    box.sh("systemctl stop jupyter-remote@bob.socket jupyter-remote@bob.service")
    page = client(box, base_url="/jupyter-bob").get("lab")
    assert (page.status_code, page.headers["Jupyter-Remote-State"]) == (503, "off")
    assert client(box).try_login(PASSWORD)
    box.sh("systemctl start jupyter-remote@bob")
    box.write("/var/lib/jupyter-remote/people/bob/server.json", "x")
    box.attempt("systemctl restart jupyter-remote@bob")
    page = client(box, base_url="/jupyter-bob").get("lab")
    assert (page.status_code, page.headers["Jupyter-Remote-State"]) == (503, "settings")
    assert client(box).get("api").status_code == 200
    status = json.loads(box.attempt("jupyter-remote status --json").stdout)
    assert [(one["name"], one["server"]) for one in status["others"]] == [("bob", "failed")]
    assert any("The server of bob is failed" in one["what"] for one in status["findings"])
    box.sh("jupyter-remote apply")
    assert json.loads(box.sh("jupyter-remote status --json"))["others"][0]["server"] == "running"


@pytest.mark.either_release
def test_whose_jupyter_a_command_is_about(box: Box, alice: Person, bob: Person):
    add(box)
    url = "jupyter-remote url --plain"
    assert bob.sh(url) == "https://box.test/jupyter-bob"
    assert alice.sh(url) == box.sh(url) == "https://box.test/jupyter"
    assert bob.sh("jupyter-remote --for alice url --plain") == alice.sh(url)
    assert box.sh("jupyter-remote --for bob url --plain") == bob.sh(url)
    # By sudo it is the caller's, and says so.
    by_sudo = box.attempt(f"SUDO_USER=bob {url}")
    assert by_sudo.stdout.strip() == bob.sh(url)
    assert "This is about bob's Jupyter" in by_sudo.stderr
    assert box.sh(f"SUDO_USER=alice {url}") == alice.sh(url)
    # But not what is about the machine.
    assert "alice" in box.sh("SUDO_USER=bob jupyter-remote users")

    for wrong, says in {
        "--for carol status": "has no Jupyter on this machine",
        "--for bob users": "is about the whole machine",
        "--for": "expected one argument",
        "--for ../bob status": "has no Jupyter",
        "--for bob config set server_name lab.example.org": "server_name is set for the whole machine",
        "--for bob config set tls.mode none": "sudo jupyter-remote --for alice config set tls.mode",
        "--for bob config set base_url /jupyter": "is in the way of the owner's Jupyter",
        "--for bob config set base_url /jupyter/bob": "is in the way of the owner's Jupyter",
        "config set base_url /jupyter-bob": "is in the way of bob's Jupyter",
        "config set user bob": "bob has a Jupyter already",
        "add-user bob --lock": "bob has a Jupyter already",
        "add-user alice --lock": "it is the owner's",
        "add-user nobody --lock": "system account",
        "add-user carol --lock": "no user 'carol'",
        "remove-user alice": "has no Jupyter beside the owner's",
    }.items():
        refused = box.attempt(f"jupyter-remote {wrong}")
        assert refused.returncode and says in refused.stderr, (wrong, refused.stderr)
    assert "needs sudo" in alice.attempt("jupyter-remote --for bob status").stdout
    assert "Only bob" in alice.attempt("jupyter-remote --for bob kernels").stderr
    for person in (alice, bob):
        assert "Only root" in person.attempt("jupyter-remote add-user carol --lock").stderr
    assert box.sh("jupyter-remote users").split() == [
        *("alice", "https://box.test/jupyter", "(owner)", "bob", "https://box.test/jupyter-bob")
    ]


@pytest.mark.either_release
def test_a_person_has_settings_and_follows_those_of_the_machine(box: Box, client: MakeClient):
    box.sh("useradd --create-home --shell /bin/bash anna-lena.2")
    add(box, "anna-lena.2")
    add(box, "bob", "--base-url", "/bobs/lab")
    assert client(box, base_url="/bobs/lab").try_login(BOBS)
    his = client(box, base_url="/jupyter-anna-lena.2").login(BOBS)
    kernel = his.start_kernel()
    assert kernel.execute("import getpass; getpass.getuser()").value == "'anna-lena.2'"
    box.sh("jupyter-remote --for bob config set interface notebook base_url /jupyter-bob kernels.cull_idle 2h")
    assert client(box, base_url="/jupyter-bob").login(BOBS).get("").url.path == "/jupyter-bob/tree"
    assert client(box, base_url="/bobs/lab").get("api").status_code == 404
    assert client(box).login(PASSWORD).get("").url.path.startswith("/jupyter/lab")
    # A name of the machine's is a name of all.
    box.sh("jupyter-remote config set server_aliases '[\"lab.test\"]'")
    for name in ("bob", "anna-lena.2"):
        assert "lab.test" in json.loads(box.read(f"/var/lib/jupyter-remote/people/{name}/server.json"))["server_names"]
    box.sh("jupyter-remote --for bob password --stdin", input="a new one\n")
    assert client(box, base_url="/jupyter-bob").try_login("a new one")
    assert client(box).try_login(PASSWORD)
    assert kernel.execute("1 + 1").value == "2"
    # Guessing costs the one who guesses, and is seen where it happened.
    client(box, base_url="/jupyter-bob").try_login("wrong")
    assert json.loads(box.sh("jupyter-remote --for bob status --json"))["refused_logins"] == 1
    assert json.loads(box.sh("jupyter-remote status --json"))["refused_logins"] == 0
    assert "All is well" in box.sh("jupyter-remote --for bob doctor", timeout=100)


@pytest.mark.either_release
def test_what_does_not_come_up_leaves_nothing(box: Box):
    before = box.files("/etc", "/var/lib/jupyter-remote/people")
    box.write("/etc/apache2/conf-enabled/broken.conf", "Nonsense\n")
    refused = box.attempt("jupyter-remote add-user bob --lock")
    assert refused.returncode
    assert "bob has no Jupyter; nothing has changed" in refused.stderr
    box.sh("rm /etc/apache2/conf-enabled/broken.conf")
    after = box.files("/etc", "/var/lib/jupyter-remote/people")
    assert after == before
    box.sh("jupyter-remote add-user bob --lock")


@pytest.mark.either_release
def test_removing_a_person_ends_no_kernel_unasked_and_leaves_their_files(box: Box, client: MakeClient, bob: Person):
    alice = reader(box)
    before = set(box.files("/etc", "/var/lib/jupyter-remote", "/run"))
    with box.terminal(ADD.text, user="alice") as terminal:
        for question in ("New password:", "Again:"):
            terminal.expect(question)
            terminal.answer(BOBS)
        assert terminal.wait() == 0, terminal.screen()
    his = client(box, base_url="/jupyter-bob").login(BOBS)
    kernel = his.start_kernel()
    kernel.execute("open('result.txt', 'w').write('42')")
    refused = alice.attempt(REMOVE.text)
    assert "would end with all that they know" in refused.stderr
    assert kernel.execute("1 + 1").value == "2"
    kernel.shut_down()
    alice.sh(REMOVE.text)
    wait_until(lambda: client(box, base_url="/jupyter-bob").get("api").status_code == 404, "Apache still knows it")
    assert client(box).try_login(PASSWORD)
    assert bob.sh("cat result.txt") == "42"
    kept = "/var/lib/jupyter-remote/users/bob"
    assert "jupyter" not in run_as_bob(box)
    new = set(box.files("/etc", "/var/lib/jupyter-remote", "/run")) - before
    left = [path for path in new if "bob" in path and not path.startswith(kept)]
    assert left == []
    # Who comes again finds what was installed; who is purged does not.
    assert box.exists(kept)
    add(box)
    client(box, base_url="/jupyter-bob").login(BOBS).start_kernel()
    box.sh("jupyter-remote remove-user --stop-kernels --purge bob")
    assert "jupyter" not in run_as_bob(box)
    assert not box.exists(kept)


def run_as_bob(box: Box) -> str:
    return box.sh("ps -u bob -o args= || true")


@pytest.mark.either_release
def test_their_kernels_go_on_through_an_upgrade_and_a_purge_leaves_nothing(box: Box, deb: Path, client: MakeClient):
    add(box)
    kernel = client(box, base_url="/jupyter-bob").login(BOBS).start_kernel()
    kernel.execute("kept = 42")
    box.sh("systemctl disable jupyter-remote@bob.service")
    unit = "/etc/systemd/system/jupyter-remote@bob.service"
    box.write(unit, box.read(unit).replace("TimeoutStopSec=20", "TimeoutStopSec=21"))
    server = main_pid(box, "jupyter-remote@bob")
    box.sh(f"apt-get -qq install --yes --reinstall {box.put(deb)}", env=NONINTERACTIVE)
    # It is made anew of what the package brings, and an administrator's decision stays.
    assert "TimeoutStopSec=20\n" in box.read(unit)
    assert main_pid(box, "jupyter-remote@bob") not in (0, server)
    assert box.attempt("systemctl is-enabled jupyter-remote@bob.service").stdout.strip() == "disabled"
    assert kernel.execute("kept").value == "42"

    box.sh("apt-get -qq remove --yes jupyter-remote", timeout=120)
    assert not box.exists(unit)
    assert "jupyter" not in run_as_bob(box)
    assert box.sh("apache2ctl configtest 2>&1 | tail -1") == "Syntax OK"
    box.install(deb)
    assert client(box, base_url="/jupyter-bob").try_login(BOBS)
    box.sh("apt-get -qq purge --yes jupyter-remote", timeout=120)
    assert [path for path in box.files("/etc", "/var/lib", "/run", "/var/log") if "bob" in path] == []
