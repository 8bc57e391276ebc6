"""The default kernel and its environment, other kernels, terminals, events."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Browser, Running

from jupyter_remote.server.environment import COMPLETE, DefaultEnvironment, EnvironmentFailed
from jupyter_remote.server.unit import OURS_ALONE
from tests.client import Kernel

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def kernel(owner: Browser) -> Iterator[Kernel]:
    """The default kernel."""
    running = owner.start_kernel()
    yield running
    running.shut_down()


def test_the_first_notebook_runs_in_an_environment_of_the_owners_own(new_server: Running):
    new_server.start().wait_until_ready()
    with new_server.owner() as owner:
        kernel = owner.start_kernel()
        assert kernel.execute("import sys; print(sys.prefix)").text.strip() == str(
            new_server.state / f"python{VERSION}"
        )


def test_pip_in_a_notebook_is_this_environments(kernel: Kernel, environment: Path):
    listing = kernel.execute("%pip --version").text
    assert str(environment) in os.path.realpath(listing.split(" from ")[1].split(" (")[0])
    assert kernel.execute("!command -v pip python").text.split()[0].endswith(f"python{VERSION}/bin/pip")
    assert not kernel.execute("!pip check").error


def test_pip_installs_into_it(new_server: Running, tmp_path: Path):
    package = tmp_path / "hello"
    package.mkdir(mode=0o755)
    (package / "hello.py").write_text("greeting = 'hello'\n")
    metadata = "Metadata-Version: 2.1\nName: hello\nVersion: 1\n"
    wheel = new_server.home / "hello-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(package / "hello.py", "hello.py")
        archive.writestr("hello-1.dist-info/METADATA", metadata)
        archive.writestr("hello-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("hello-1.dist-info/RECORD", "")
    new_server.start().wait_until_ready()
    with new_server.owner() as owner:
        kernel = owner.start_kernel()
        kernel.execute(f"%pip install --no-index {wheel}")
        assert kernel.execute("import hello; hello.greeting").value == "'hello'"
        # What the owner has installed is there after a restart of the server.
        new_server.restart()
        again = owner.start_kernel()
        assert again.execute("import hello; hello.greeting").value == "'hello'"


def test_kernels_and_terminals_do_not_see_what_is_the_servers(owner: Browser, kernel: Kernel):
    seen = json.loads(kernel.execute("import json, os; print(json.dumps(dict(os.environ)))").text)
    assert not set(seen) & set(OURS_ALONE)
    assert seen["VIRTUAL_ENV"].endswith(f"python{VERSION}")
    terminal = owner.open_terminal()
    variables = {line.split("=")[0] for line in terminal.run("env").splitlines()}
    assert "HOME" in variables
    assert not variables & set(OURS_ALONE)


def test_kernels_and_terminals_do_not_hold_the_door(server: Running):
    server.start().wait_until_ready()
    with server.owner() as owner:
        kernel = owner.start_kernel()
        door = f"socket:[{os.fstat(server.listening.fileno()).st_ino}]"
        held = kernel.execute("!ls -l /proc/$PPID/fd").text
        assert door not in held
        terminal = owner.open_terminal()
        assert door not in terminal.run("ls -l /proc/$$/fd")
        assert door in {str(path.readlink()) for path in Path(f"/proc/{server.process.pid}/fd").iterdir()}


def test_nobody_else_can_connect_to_a_kernel(shared: Running, kernel: Kernel):
    assert stat.S_IMODE(shared.runtime.stat().st_mode) & 0o777 == 0o700
    connection = json.loads(
        kernel.execute("import ipykernel; print(open(ipykernel.get_connection_file()).read())").text
    )
    # Those for clients, and for who controls it.
    assert sum(path.is_socket() for path in shared.runtime.rglob("*")) >= 6
    # The kernel's own; it has begun to listen before it answers.
    own = Path(connection["ip"]).parent
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert connection["transport"] == "ipc"
    channels = {f"{connection['ip']}-{connection[name]}" for name in connection if name.endswith("_port")}
    from_forks = f"{connection['ip']}-0"
    assert channels | {from_forks} == {str(path) for path in own.iterdir() if path.is_socket()}
    # Nor is there a port of the machine's.
    inodes = kernel.execute("import os; print(*(os.readlink(one.path) for one in os.scandir('/proc/self/fd')))").text
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        assert f"socket:[{line.split()[9]}]" not in inodes


def test_the_servers_own_environment_is_offered_to_nobody(owner: Browser):
    offered = owner.api("GET", "kernelspecs")
    assert offered["default"] == "python3"
    assert offered["kernelspecs"]["python3"]["spec"]["display_name"] == f"Python {VERSION}"
    for spec in offered["kernelspecs"].values():
        assert not spec["spec"]["argv"][0].startswith(f"{sys.prefix}/")
    logo = offered["kernelspecs"]["python3"]["resources"]["logo-svg"]
    assert owner.http.get(f"https://box.test{logo}").headers["content-type"] == "image/svg+xml"


def test_the_owners_own_kernels_are_offered(server: Running):
    for name in ("mine", "python3"):
        directory = server.home / ".local/share/jupyter/kernels" / name
        directory.mkdir(parents=True)
        spec = {"argv": ["/bin/true", "{connection_file}"], "display_name": f"My {name}", "language": "x"}
        (directory / "kernel.json").write_text(json.dumps(spec))
    server.start().wait_until_ready()
    with server.owner() as owner:
        offered = owner.api("GET", "kernelspecs")["kernelspecs"]
        assert owner.api("GET", "kernelspecs/mine")["spec"]["display_name"] == "My mine"
    assert offered["python3"]["spec"]["display_name"] == f"Python {VERSION}"
    assert offered["python3-user"]["spec"]["display_name"].startswith("My python3 (")


def test_a_kernel_that_is_not_there_is_not_found(owner: Browser):
    answer = owner.send("POST", "api/sessions", {"path": "x", "type": "notebook", "kernel": {"name": "nope"}})
    assert answer.status_code == 501
    assert "nope" in answer.json()["message"]


def test_a_terminal_is_a_login_shell_in_the_notebook_directory(owner: Browser, shared: Running):
    terminal = owner.open_terminal()
    assert terminal.run("shopt -q login_shell && echo yes").endswith("yes")
    assert terminal.run("pwd").endswith(str(shared.home))


def test_events_are_delivered(owner: Browser):
    events = owner.events()
    kernel = owner.start_kernel()
    seen = json.loads(events.recv())
    while seen.get("kernel_id") != kernel.id:
        seen = json.loads(events.recv())
    assert seen["action"] in ("start", "restart")
    kernel.shut_down()


def test_an_idle_kernel_is_stopped_when_the_owner_wants_it(server: Running):
    server.settings["cull_idle"] = 1
    server.start().wait_until_ready()
    with server.owner() as owner:
        kernel = owner.start_kernel()
        assert kernel.execute("1 + 1").value == "2"
        while owner.api("GET", "kernels"):
            pass


# -- making it ----------------------------------------------------------------------------------------


def make(path: Path, wheels: Path) -> DefaultEnvironment:
    return DefaultEnvironment(path, wheels, logging.getLogger("test"))


def test_an_environment_that_is_half_made_is_made_anew(tmp_path: Path, wheels: Path):
    path = tmp_path / "python"
    (path / "bin").mkdir(parents=True)
    (path / "bin/python").write_text("#!/bin/false\n")
    (path / "rest").touch()
    made = make(path, wheels)
    asyncio.run(made.ready())
    assert made.is_complete
    assert not (path / "rest").exists()


def test_an_environment_whose_interpreter_is_gone_is_made_anew(tmp_path: Path, wheels: Path):
    path = tmp_path / "python"
    (path / "bin").mkdir(parents=True)
    (path / "bin/python").symlink_to("/usr/bin/python0.9")
    (path / COMPLETE).touch()
    made = make(path, wheels)
    assert not made.is_complete
    asyncio.run(made.ready())
    assert made.is_complete


def test_an_environment_that_is_complete_is_left_alone(tmp_path: Path):
    path = tmp_path / "python"
    (path / "bin").mkdir(parents=True)
    (path / "bin/python").symlink_to(sys.executable)
    (path / COMPLETE).touch()
    asyncio.run(make(path, tmp_path / "no wheels").ready())


def test_missing_wheels_are_said_in_words_and_tried_again(tmp_path: Path, wheels: Path):
    directory = tmp_path / "wheels"
    made = make(tmp_path / "python", directory)

    async def twice() -> None:
        with pytest.raises(EnvironmentFailed, match="apt install --reinstall jupyter-remote"):
            await made.ready()
        directory.symlink_to(wheels)
        await made.ready()

    asyncio.run(twice())
    assert made.is_complete


def test_a_kernel_that_has_no_environment_says_why(new_server: Running):
    new_server.environment["JUPYTER_REMOTE_WHEELS"] = "/not/there"
    new_server.start().wait_until_ready()
    with new_server.owner() as owner:
        for path, body in (
            ("sessions", {"path": "x.ipynb", "type": "notebook", "kernel": {"name": "python3"}}),
            ("kernels", {"name": "python3"}),
        ):
            answer = owner.send("POST", f"api/{path}", body)
            assert answer.status_code == 500
            assert "apt install --reinstall jupyter-remote" in answer.json()["message"]


def test_a_directory_that_cannot_be_written_is_said_in_words(tmp_path: Path, wheels: Path):
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(EnvironmentFailed, match=r"could not be made: .*Not a directory"):
        asyncio.run(make(blocker / "python", wheels).ready())
