"""The main job: one command on a fresh server, and a person far away runs a cell on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import websocket
from lab.box import NONINTERACTIVE, Box, Person
from lab.terminal import Terminal

from jupyter_remote.run import run
from tests import installed
from tests.client import Client
from tests.container import Container
from tests.installed import ANSWERS, OWNER, PASSWORD
from tests.pages import blocks, reader
from tests.website import Website

MakeClient = Callable[..., Client]

FROM_CHECKOUT, FROM_PACKAGE, REMOVE = blocks("README.md")
INSTALL, STATUS, CELL, RESTART, DOCTOR = blocks("docs/tutorial.md")


# --- installing --------------------------------------------------------------------------------------


def test_one_command_on_a_bare_server_and_a_cell_runs(bare_box: Box, deb: Path, client: MakeClient):
    """No Apache, no Python, no preseeded owner: there is one person, so it is theirs."""
    bare_box.install(deb, {"jupyter-remote/password": PASSWORD, "jupyter-remote/password-again": PASSWORD})
    assert bare_box.sh("jupyter-remote config get user") == OWNER
    assert bare_box.state == "running"
    assert bare_box.sh("systemctl --failed --no-legend") == ""
    kernel = client(bare_box).login(PASSWORD).start_kernel()
    assert kernel.execute("6 * 7").value == "42"


def test_the_first_notebook_runs_offline_in_an_environment_of_the_owners_own(box: Box, client: MakeClient):
    kernel = client(box).login(PASSWORD).start_kernel()
    told = kernel.execute("import getpass, os, sys; print(getpass.getuser(), os.getcwd(), sys.prefix)").text.split()
    assert told[:2] == ["alice", "/home/alice"]
    assert told[2].startswith("/var/lib/jupyter-remote/users/alice/")
    assert box.sh(f"stat -c %U {told[2]}") == "alice"
    # pip is there and installs into the same environment; from a directory, since a box has no network
    make = 'printf \'[project]\\nname="probe"\\nversion="1"\\n\' > pyproject.toml && touch probe.py'
    box.as_user("alice").sh(f"mkdir probe && cd probe && {make}")
    assert kernel.execute("%pip --version").error is None
    assert told[2] in kernel.execute("%pip --version").text


@pytest.mark.either_release
def test_without_a_password_it_is_locked_and_a_link_opens_it(ready_box: Box, deb: Path, client: MakeClient):
    said = ready_box.install(deb)
    assert "jupyter-remote url" in said
    assert ready_box.is_active("jupyter-remote.service")
    for guess in ("", "password", "jupyter", "!", "alice"):
        assert not client(ready_box).try_login(guess)
    assert client(ready_box).get("api/kernels").status_code in (401, 403)
    visitor = client(ready_box)
    assert visitor.follow(ready_box.as_user("alice").sh("jupyter-remote url"))
    assert visitor.start_kernel().execute("1 + 1").value == "2"


@pytest.mark.one_release
def test_what_readme_and_the_tutorial_say(ready_box: Box, deb: Path, client: MakeClient):
    box, alice = ready_box, reader(ready_box)
    box.sh("apt-get -qq update && apt-get -qq install --yes sudo", env=NONINTERACTIVE)
    installed.put_checkout(box.path("/home/alice") / "jupyter-remote", deb, box.suite)
    with box.terminal(f"cd jupyter-remote\n{FROM_CHECKOUT.text}", user="alice") as terminal:
        for question in ("Password to log in to Jupyter:", "type the password again"):
            terminal.expect(question)
            terminal.answer(PASSWORD)
        terminal.expect("Jupyter answers here: https://box.test/jupyter")
        assert terminal.wait() == 0, terminal.screen()
    visitor = client(box).login(PASSWORD)
    # What has been installed this way is the package.
    assert "is already the newest version" in alice.sh(f"cd jupyter-remote\n{FROM_PACKAGE.text}")

    assert "All is well." in alice.sh(STATUS.text)
    kernel = visitor.start_kernel()
    running = kernel.submit(CELL.filled({"600": "10", "sleep(1)": "sleep(0.2)"}))
    alice.sh(RESTART.text)
    assert kernel.result(running).text.split() == [str(number) for number in range(10)]
    assert kernel.execute("i").value == "9"
    assert "All is well." in alice.sh(DOCTOR.text)

    kernel.execute("open('mine', 'w').close()")
    for command, kept in zip(REMOVE.text.splitlines(), (True, False), strict=True):
        with box.terminal(command, user="alice") as terminal:
            terminal.expect("[Y/n]")
            terminal.answer("y")
            assert terminal.wait() == 0, terminal.screen()
        assert box.exists("/etc/jupyter-remote/password-hash") is kept
        assert box.exists("/var/lib/jupyter-remote/users/alice") is kept
    assert box.exists("/home/alice/mine")


def ask(box: Box, deb: Path, frontend: str) -> Terminal:
    """Start the installation on a terminal with debconf's questions."""
    box.sh("apt-get -qq update")
    line = INSTALL.filled({"sudo apt install": "apt install --yes", "./jupyter-remote.deb": box.put(deb)})
    return box.terminal(line, env={"DEBIAN_FRONTEND": frontend})


@pytest.mark.either_release
@pytest.mark.parametrize("frontend", ["dialog", "teletype", "readline"])
def test_a_person_answers_two_questions(ready_box: Box, deb: Path, client: MakeClient, frontend: str, tmp_path: Path):
    if frontend == "readline":
        # Term::ReadLine's own Stub is part of Perl; the GNU one is what a person would have
        ready_box.sh("apt-get -qq update && apt-get -qq install --yes libterm-readline-gnu-perl", env=NONINTERACTIVE)
    with ask(ready_box, deb, frontend) as terminal:
        terminal.expect("Password to log in to Jupyter:", timeout=600)
        terminal.picture(tmp_path / f"{frontend}.png")
        terminal.answer("typed by hand")
        terminal.expect("type the password again")
        terminal.answer("typed by hand")
        assert terminal.wait() == 0, terminal.screen()
        assert "typed by hand" not in terminal.raw
    assert ready_box.sh("jupyter-remote config get user") == OWNER
    assert client(ready_box).login("typed by hand").start_kernel().execute("2 ** 10").value == "1024"


@pytest.mark.one_release
@pytest.mark.parametrize("frontend", ["dialog", "teletype"])
def test_two_passwords_that_differ_are_asked_again(ready_box: Box, deb: Path, client: MakeClient, frontend: str):
    with ask(ready_box, deb, frontend) as terminal:

        def answer(text: str) -> None:
            if frontend == "teletype":
                terminal.forget()  # the same questions come again, below
            terminal.answer(text)

        terminal.expect("Password to log in to Jupyter:", timeout=600)
        answer("first")
        terminal.expect("type the password again")
        answer("fist")
        terminal.expect("not the same")
        if frontend == "dialog":
            terminal.press("enter")
        terminal.expect("Password to log in to Jupyter:")
        answer("second")
        terminal.expect("type the password again")
        answer("second")
        assert terminal.wait() == 0, terminal.screen()
    assert not client(ready_box).try_login("first")
    assert client(ready_box).try_login("second")


@pytest.mark.either_release
def test_two_people_on_the_machine_are_a_question(fresh_box: Box, deb: Path, client: MakeClient):
    with ask(fresh_box, deb, "dialog") as terminal:
        terminal.expect("Owner of this Jupyter:", timeout=600)
        terminal.answer("bob")
        for _ in range(2):
            terminal.expect("assword")
            terminal.answer("bobs own")
        assert terminal.wait() == 0, terminal.screen()
    told = client(fresh_box).login("bobs own").start_kernel().execute("import getpass; getpass.getuser()")
    assert told.value == "'bob'"


def test_an_existing_website_answers_byte_for_byte_as_before(website: Website, deb: Path):
    before = website.answers()
    website.box.install(deb, ANSWERS)
    assert website.answers() == before


@pytest.mark.either_release
def test_a_container_without_systemd_installs_and_serves_in_the_foreground(container: Container, deb: Path):
    container.install(deb, ANSWERS)
    assert container.attempt("systemctl is-system-running").stdout.strip() == "offline"
    # Nobody has started Apache here.
    assert "sudo apachectl start" in container.attempt("jupyter-remote config set listen 8890").stderr
    server = container.start("jupyter-remote run")
    try:
        for way in "--unix-socket /run/jupyter-remote/http.sock http://localhost", "http://127.0.0.1:8890":
            ask_it = f"curl --silent --fail {way}/jupyter/api"
            answer = container.sh(f"for _ in $(seq 100); do {ask_it} && exit 0; sleep 0.2; done; exit 1")
            assert "version" in json.loads(answer)
    finally:
        container.stop(server)
    # The port that it has itself is not taken by somebody else. (Commands of one line see each other here.)
    container.sh(
        f"apachectl start; jupyter-remote run & for _ in $(seq 100); do {ask_it} && break; sleep 0.2; done; "
        "jupyter-remote config set kernels.cull_idle 1h; code=$?; kill $!; wait; exit $code"
    )


# --- who runs it, and who may open it ----------------------------------------------------------------


def test_the_server_is_the_owners_and_its_socket_is_for_apache_and_the_owner(box: Box, bob: Person, alice: Person):
    server = box.sh("ps -o user= -p $(systemctl show -P MainPID jupyter-remote.service)")
    assert server.strip() == "alice"
    assert box.sh("stat -c '%U:%G %a' /run/jupyter-remote/http.sock") == "alice:www-data 660"
    request = "curl --silent --fail --unix-socket /run/jupyter-remote/http.sock http://localhost/jupyter/api"
    assert "version" in json.loads(alice.sh(request))
    assert bob.attempt(request).returncode != 0
    assert box.sh("ss --listening --tcp --no-header --numeric --processes | grep -v apache2 || true") == ""


def test_the_name_of_another_site_is_not_answered(box: Box, client: MakeClient):
    visitor = client(box)
    assert visitor.get("api", headers={"Host": "box.test"}).status_code == 200
    assert visitor.get("api", headers={"Host": "evil.example"}).status_code != 200


def test_nothing_but_the_login_page_is_open_to_a_stranger(box: Box, client: MakeClient):
    stranger = client(box)
    for path in ("api/contents", "api/kernels", "api/sessions", "api/terminals", "api/status", "files/.bashrc"):
        assert stranger.http.get(f"{stranger.url}/{path}", follow_redirects=False).status_code in (302, 401, 403), path
    for path in ("api/events/subscribe", "terminals/websocket/1"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            stranger.websocket(path)
        assert refused.value.status_code in (401, 403, 404)


@pytest.mark.one_release
def test_a_page_from_elsewhere_cannot_use_the_owners_login(box: Box, client: MakeClient):
    owner = client(box).login(PASSWORD)
    kernel = owner.start_kernel()
    for path in (f"api/kernels/{kernel.id}/channels", "api/events/subscribe"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            owner.websocket(path, origin="https://evil.example")
        assert refused.value.status_code == 403
    assert owner.http.post(f"{owner.url}/api/kernels").status_code == 403, "without the token"


# --- the one rule: whatever is a websocket goes through ----------------------------------------------


def test_kernels_terminals_and_events_go_through_apache(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    events = visitor.events()
    kernel = visitor.start_kernel()
    # An event of another kind may come first.
    while '"action": "start"' not in events.recv():
        pass
    assert kernel.execute("print('a\\nb')").text == "a\nb\n"
    assert kernel.execute("1 / 0").error == "ZeroDivisionError: division by zero"
    terminal = visitor.open_terminal()
    assert terminal.run("id -un; echo $((6 * 7))") == "alice\n42"
    kernel.shut_down()


@pytest.mark.one_release
def test_a_running_cell_can_be_interrupted(box: Box, client: MakeClient):
    kernel = client(box).login(PASSWORD).start_kernel()
    request = kernel.submit("print('begun', flush=True)\nimport time\ntime.sleep(1000)")
    while kernel.receive()["msg_type"] != "stream":
        pass
    kernel.interrupt()
    assert (kernel.result(request).error or "").startswith("KeyboardInterrupt")
    assert kernel.execute("'well'").value == "'well'"


@pytest.mark.one_release
def test_a_big_answer_and_a_big_upload_go_through(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    assert visitor.start_kernel().execute("print('x' * 2_000_000)").text == "x" * 2_000_000 + "\n"
    body = {"type": "file", "format": "text", "content": "y" * 20_000_000}
    visitor.api("PUT", "contents/big.txt", body)
    assert box.sh("stat -c '%s %U' /home/alice/big.txt") == "20000000 alice"


@pytest.mark.one_release
def test_the_address_without_the_slash_leads_on(box: Box, client: MakeClient):
    visitor = client(box)
    assert visitor.http.get(visitor.url).url.path == "/jupyter/login"


# --- always there ------------------------------------------------------------------------------------


@pytest.mark.either_release
def test_it_is_ready_when_systemctl_restart_returns(box: Box):
    for _ in range(3):
        # the socket of the server itself, and one try
        box.sh(
            "systemctl restart jupyter-remote && "
            "curl --silent --fail --max-time 5 --unix-socket /run/jupyter-remote/http.sock http://localhost/jupyter/api"
        )


@pytest.mark.one_release
def test_a_request_during_a_restart_waits_instead_of_failing(box: Box, client: MakeClient):
    visitor = client(box)
    codes: list[int] = []
    restart = Thread(target=lambda: [box.sh("systemctl restart jupyter-remote") for _ in range(3)])
    restart.start()
    while restart.is_alive():
        codes.append(visitor.get("api").status_code)
    restart.join()
    codes.append(visitor.get("api").status_code)
    assert set(codes) == {200}


@pytest.mark.either_release
def test_it_comes_back_after_a_crash_and_a_login_is_kept(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    before = box.sh("systemctl show -P MainPID jupyter-remote.service")
    box.sh(f"kill -KILL {before}")
    assert visitor.logged_in
    assert box.sh("systemctl show -P MainPID jupyter-remote.service") not in (before, "0")


@pytest.mark.one_release
def test_a_server_that_hangs_is_replaced(box: Box, client: MakeClient):
    kernel = client(box).login(PASSWORD).start_kernel()
    kernel.execute("x = 41")
    before = box.sh("systemctl show -P MainPID jupyter-remote.service")
    box.sh("systemctl show -P WatchdogUSec jupyter-remote.service | grep -v infinity")
    box.sh(f"kill -STOP {before}")
    assert kernel.execute("x + 1").value == "42", "an open page needs no server"
    box.sh(f"until [ $(systemctl show -P MainPID jupyter-remote.service) != {before} ]; do sleep 1; done", timeout=300)
    assert client(box).login(PASSWORD).connect(kernel.id).execute("x + 1").value == "42"


def test_a_reboot_brings_everything_back(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    box.reboot()
    assert box.state == "running"
    assert visitor.logged_in
    assert visitor.start_kernel().execute("5 * 5").value == "25"


@pytest.mark.either_release
def test_the_certificate_is_for_this_machine_and_one_file_makes_it_trusted(box: Box):
    authority = box.path("/var/lib/jupyter-remote/ca.crt")
    where = ("--resolve", f"{box.hostname}:443:{box.ip}", f"{box.url}/api")
    assert run("curl", "--silent", "--show-error", *where, check=False).returncode == 60
    assert "version" in run("curl", "--silent", "--fail", "--cacert", authority, *where).stdout
