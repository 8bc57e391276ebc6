"""`jupyter-remote …` as a person, a script and an administrator use it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from lab.box import Box

from tests.client import Client, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

CONFIG = "/etc/jupyter-remote/config.toml"


def test_status_of_a_healthy_machine_has_nothing_to_complain_of(box: Box) -> None:
    said = box.sh("jupyter-remote status")
    assert "https://box.test/jupyter" in said
    assert "All is well." in said
    facts = json.loads(box.sh("jupyter-remote status --json"))
    assert (facts["owner"], facts["server"], facts["apache"], facts["password"]) == (
        "alice",
        "running",
        "running",
        "set",
    )
    assert facts["findings"] == []
    assert facts["disks"][0]["total_bytes"] > facts["disks"][0]["free_bytes"] > 0


@pytest.mark.either_release
def test_status_tells_the_owner_of_logins_and_kernels_and_nobody_else(box: Box, client: MakeClient) -> None:
    visitor = client(box)
    assert not visitor.try_login("wrong")
    kernel = visitor.login(PASSWORD).start_kernel()
    kernel.execute("x = 0")
    request = kernel.submit("print('begun')\nwhile True: x += 1")
    wait_until(lambda: "begun" in kernel.receive()["content"].get("text", ""), "it does not begin")
    for person in (box.as_user("root"), box.as_user("alice")):
        facts = json.loads(person.sh("jupyter-remote status --json"))
        assert (facts["browsers"], facts["last_login"]["how"], facts["refused_logins"]) == (1, "password", 1)
        assert facts["last_refused"]["how"] == "wrong password"
        (running,) = facts["running"]
        assert (running["id"], running["state"]) == (kernel.id, "busy")
        assert running["cpu"] > 20
    kernel.interrupt()
    assert kernel.result(request).error == "KeyboardInterrupt: "
    # Neither whether somebody is logged in, nor what runs.
    facts = json.loads(box.as_user("bob").attempt("jupyter-remote status --json").stdout)
    assert {facts[name] for name in ("browsers", "last_login", "refused_logins", "running")} == {None}
    # The page says the same.
    assert visitor.api("GET", "jupyter-remote/status")["browsers"] == 1


@pytest.mark.one_release
def test_status_is_watched_until_somebody_has_seen_enough(box: Box) -> None:
    with box.terminal("jupyter-remote status --watch", user="alice") as terminal:
        terminal.expect("All is well.")
        box.sh("systemctl stop apache2")
        terminal.expect("Apache is not running.")
        terminal.press("ctrl-c")
        assert terminal.wait() == 0


@pytest.mark.one_release
def test_status_names_what_is_wrong_and_its_cure(box: Box) -> None:
    for trouble, expected, cure in [
        (
            "systemctl stop jupyter-remote.service jupyter-remote.socket",
            "The server is inactive",
            "restart jupyter-remote",
        ),
        (
            "systemctl stop jupyter-remote-kernel.socket",
            "No kernel can be started",
            "systemctl start jupyter-remote-kernel.socket",
        ),
        ("systemctl stop apache2", "Apache is not running", "systemctl start apache2"),
        (
            "a2disconf -q jupyter-remote; systemctl reload apache2",
            "Apache does not serve Jupyter",
            "a2enconf -q jupyter-remote",
        ),
        ("jupyter-remote password --lock", "No password is set", "jupyter-remote password"),
    ]:
        box.sh(trouble)
        done = box.attempt("jupyter-remote status")
        assert done.returncode == 69, trouble
        assert expected in done.stdout
        if "systemctl" in trouble:
            box.sh(cure if cure.startswith(("systemctl", "a2")) else f"systemctl {cure}")
            box.attempt("systemctl reload apache2")


def test_the_owner_sees_the_status_without_sudo_and_changes_nothing(box: Box) -> None:
    alice = box.as_user("alice")
    assert "https://box.test/jupyter" in alice.sh("jupyter-remote status")
    for command in ("config set interface lab", "apply", "password --lock", "config edit"):
        done = alice.attempt(f"jupyter-remote {command}")
        assert done.returncode == 77
        assert f"sudo jupyter-remote {command}" in done.stderr


@pytest.mark.one_release
def test_only_the_owner_and_root_get_a_login_link(box: Box) -> None:
    for person in (box.as_user("alice"), box.as_user("root")):
        assert person.sh("jupyter-remote url").startswith("https://box.test/jupyter/login?link#token=")
    for person in (box.as_user("bob"), box.as_user("www-data")):
        done = person.attempt("jupyter-remote url")
        assert (done.returncode, done.stdout) == (77, "")
        assert person.sh("jupyter-remote url --plain") == "https://box.test/jupyter"


@pytest.mark.one_release
def test_a_login_link_works_once(box: Box, client: MakeClient) -> None:
    link = box.sh("jupyter-remote url")
    assert client(box).follow(link)
    assert not client(box).follow(link)


@pytest.mark.one_release
def test_a_link_in_the_directory_of_links_leads_root_nowhere(box: Box) -> None:
    """Root writes there, and the owner could have put anything in its place."""
    directory = "/run/jupyter-remote/alice/login"
    box.as_user("alice").sh(f"rm -rf {directory} && ln -s /etc {directory}")
    before = box.sh("ls /etc")
    box.attempt("jupyter-remote url")
    assert box.sh("ls /etc") == before


def test_a_change_keeps_comments_and_is_in_use_at_once(box: Box) -> None:
    box.write(CONFIG, box.read(CONFIG) + "# mine\n")
    box.sh("jupyter-remote config set interface notebook base_url /lab")
    assert "# mine" in box.read(CONFIG)
    assert "version" in box.sh("curl -skf https://localhost/lab/api")
    assert box.sh("jupyter-remote config get base_url") == "/lab"
    assert json.loads(box.sh("jupyter-remote config show --json"))["interface"] == "notebook"
    box.sh("jupyter-remote config unset base_url interface")
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.one_release
def test_a_loopback_port_as_the_old_guide_had_it(box: Box) -> None:
    box.sh("jupyter-remote config set listen 8888")
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")
    assert "version" in box.sh("curl -sf http://127.0.0.1:8888/jupyter/api")
    assert "127.0.0.1:8888" in box.sh("ss -Hltn 'sport = :8888'")
    assert box.attempt(f"curl -s --max-time 3 http://{box.ip}:8888/").returncode == 7
    box.sh("jupyter-remote config unset listen")
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")
    assert box.attempt("curl -s --max-time 3 http://127.0.0.1:8888/").returncode == 7


@pytest.mark.one_release
def test_the_editor_is_opened_and_its_result_applied(box: Box) -> None:
    box.sh("EDITOR='sed -i s,^#base_url.*,base_url=\\\"/lab\\\",' jupyter-remote config edit")
    assert "version" in box.sh("curl -skf https://localhost/lab/api")
    before = box.read(CONFIG)
    done = box.attempt("EDITOR='sed -i s,/lab,lab,' jupyter-remote config edit")
    assert done.returncode == 65
    assert "Did you mean /lab?" in done.stderr
    assert box.read(CONFIG) == before


@pytest.mark.one_release
def test_a_password_typed_twice_on_a_terminal(box: Box) -> None:
    with box.terminal("jupyter-remote password") as terminal:
        terminal.expect("New password:")
        terminal.answer("one")
        terminal.expect("Again:")
        terminal.answer("two")
        terminal.expect("The two are not the same")
        assert terminal.wait() == 65
        assert "one" not in terminal.raw.replace("Only one", "")
    with box.terminal("jupyter-remote password") as terminal:
        for prompt in ("New password:", "Again:"):
            terminal.expect(prompt)
            terminal.answer("fresh password")
        terminal.expect("The password is set.")
        assert terminal.wait() == 0


@pytest.mark.one_release
def test_an_old_notebooks_hash_still_opens(box: Box, client: MakeClient) -> None:
    # sha1:salt:hash of "secret", as the 2016 guide had people paste it.
    box.sh("jupyter-remote password --hash", input="sha1:0123456789ab:de1d5ddfcd2ac60a1b7cbabbb1b9d9a4e4a7e9d0\n")
    assert not client(box).try_login("secret")
    box.sh(
        "python3 -c \"import hashlib; print('sha1:0123456789ab:' + hashlib.sha1(b'secret0123456789ab').hexdigest())\""
        " | jupyter-remote password --hash"
    )
    assert client(box).try_login("secret")


def test_logs_show_what_the_server_said(box: Box) -> None:
    assert "jupyter" in box.sh("jupyter-remote logs -n 200").lower()
