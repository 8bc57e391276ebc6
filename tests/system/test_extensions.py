"""The owner adds to JupyterLab and its server, without sudo, and an upgrade of the package leaves that alone."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.box import Box, Person

from tests.client import Client, wait_until
from tests.installed import PASSWORD
from tests.pages import blocks

MakeClient = Callable[..., Client]

EXTENSIONS, _, _ = blocks("docs/everyday.md")

MODULE = """
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

class Hello(JupyterHandler):
    @web.authenticated
    def get(self):
        self.finish("hello from {version}")

def _jupyter_server_extension_points():
    return [{{"module": "demo"}}]

def _load_jupyter_server_extension(app):
    app.web_app.add_handlers(".*$", [(app.base_url + "demo", Hello)])
"""


def wheel(box: Box, version: str, module: str = MODULE, needs: str = "jupyter_server>=2") -> str:
    """An extension as they are on PyPI, with a part in the server and one in the browser; where it is in the box."""
    name = f"demo-{version}-py3-none-any.whl"
    data, info = f"demo-{version}.data/data", f"demo-{version}.dist-info"
    files = {
        "demo.py": module.format(version=version),
        f"{data}/etc/jupyter/jupyter_server_config.d/demo.json": json.dumps(
            {"ServerApp": {"jpserver_extensions": {"demo": True}}}
        ),
        f"{data}/share/jupyter/labextensions/demo/package.json": json.dumps(
            {"name": "demo", "version": version, "jupyterlab": {"extension": True, "_build": {"load": "x.js"}}}
        ),
        f"{data}/share/jupyter/labextensions/demo/x.js": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: demo\nVersion: {version}\nRequires-Dist: {needs}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    box.write(f"/home/alice/{name}", content.getvalue(), owner="alice")
    # There is no index here; the owner's pip.conf says where else to look.
    box.write("/home/alice/.pip/pip.conf", "[global]\nno-index = true\nfind-links = /home/alice\n", owner="alice")
    return name


def answers(visitor: Client) -> Callable[[], str]:
    return lambda: visitor.get("demo").text if visitor.get("demo").status_code == 200 else ""


@pytest.mark.either_release
def test_an_extension_is_there_after_one_command_and_after_an_upgrade(
    box: Box, alice: Person, deb: Path, client: MakeClient
) -> None:
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()
    kernel.execute("x = 41")
    wheel(box, "1.0")
    add, look, remove = EXTENSIONS.filled({"jupyterlab-git": "demo"}).splitlines()
    alice.sh(add, timeout=300)
    assert wait_until(answers(visitor), "the extension does not answer") == "hello from 1.0"
    assert '"demo"' in visitor.get("lab").text
    assert "demo" in alice.sh(look)
    # The server's start was nobody's business.
    assert kernel.execute("x + 1").value == "42"
    listed = json.loads(alice.sh("jupyter-remote extensions --json"))
    assert listed == [{"name": "demo", "version": "1.0", "in_browser": True, "in_server": True}]
    # Nothing that the server has came a second time.
    assert "jupyter_server" not in alice.sh("ls /var/lib/jupyter-remote/users/alice/extensions3*/lib/*/site-packages")

    box.install(deb)
    assert wait_until(answers(visitor), "it is gone with the upgrade") == "hello from 1.0"
    alice.sh(f"jupyter-remote extensions install {wheel(box, '2.0')}", timeout=300)
    wait_until(lambda: answers(visitor)() == "hello from 2.0", "the new version does not answer")
    alice.sh(remove)
    wait_until(lambda: visitor.get("demo").status_code == 404, "it is still there")
    assert "None was added" in alice.sh(look)


@pytest.mark.either_release
def test_one_that_cannot_work_changes_nothing(box: Box, alice: Person, client: MakeClient) -> None:
    visitor = client(box).login(PASSWORD)
    # What it needs is not what the server has.
    done = alice.attempt(f"jupyter-remote extensions install {wheel(box, '1.0', needs='jupyterlab<4')}", timeout=300)
    assert (done.returncode, "jupyterlab" in done.stdout + done.stderr) == (69, True)
    assert alice.sh("jupyter-remote extensions --json") == "[]"
    # It breaks when it is imported: the server runs on without it.
    done = alice.attempt(f"jupyter-remote extensions install {wheel(box, '1.1', 'import not_there')}", timeout=300)
    assert (done.returncode, "not_there" in done.stderr, "extensions remove" in done.stderr) == (69, True, True)
    box.sh("systemctl restart jupyter-remote")
    assert visitor.logged_in
    assert "All is well." in box.sh("jupyter-remote status")
    # Not somebody else's.
    assert box.as_user("bob").attempt("jupyter-remote extensions").returncode == 77


@pytest.mark.one_release
def test_after_a_release_upgrade_it_is_said_that_they_are_to_be_installed_again(box: Box, alice: Person) -> None:
    alice.sh(f"jupyter-remote extensions install {wheel(box, '1.0')}", timeout=300)
    place = "/var/lib/jupyter-remote/users/alice"
    # As it looks when there is another Python.
    alice.sh(f"cd {place} && mv extensions3.* extensions3.9")
    assert "jupyter-remote extensions upgrade" in box.attempt("jupyter-remote status").stdout
    alice.sh("jupyter-remote extensions upgrade", timeout=300)
    assert [one["name"] for one in json.loads(alice.sh("jupyter-remote extensions --json"))] == ["demo"]
    assert "extensions3.9" not in alice.sh(f"ls {place}")
