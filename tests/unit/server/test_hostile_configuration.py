"""The owner's own ~/.jupyter applies, but cannot open the door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import websocket
from running import HASH, Running

#: each opens a stock server in one way or another
OPENERS: dict[str, dict[str, object]] = {
    "ServerApp": {
        "token": "",
        "password": "",
        "allow_unauthenticated_access": True,
        "allow_origin": "*",
        "allow_origin_pat": ".*",
        "allow_credentials": True,
        "allow_remote_access": True,
        "allow_root": True,
        "allow_external_kernels": True,
        "authenticate_prometheus": False,
        "disable_check_xsrf": True,
        "ip": "0.0.0.0",
        "port": 18888,
        "sock": "/tmp/elsewhere.sock",
        "certfile": "/etc/ssl/none.pem",
        "keyfile": "/etc/ssl/none.key",
        "base_url": "/elsewhere",
        "root_dir": "/",
        "notebook_dir": "/",
        "default_url": "/elsewhere",
        "open_browser": True,
        "autoreload": True,
        "local_hostnames": ["evil.test"],
        "cookie_options": {"httponly": False},
        "cookie_secret_file": "/dev/null",
        "trust_xheaders": False,
        "identity_provider_class": "jupyter_server.auth.identity.IdentityProvider",
        "login_handler_class": "jupyter_server.base.handlers.APIVersionHandler",
        "kernel_manager_class": "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager",
        "kernel_spec_manager_class": "jupyter_client.kernelspec.KernelSpecManager",
        "tornado_settings": {"disable_check_xsrf": True, "headers": {"Access-Control-Allow-Origin": "*"}},
        "webapp_settings": {"disable_check_xsrf": True, "cookie_secret": "known"},
        "jpserver_extensions": {"jupyterlab": False, "notebook": False},
    },
    "IdentityProvider": {"token": "known", "cookie_name": "x", "secure_cookie": False},
    "PasswordIdentityProvider": {"hashed_password": "", "token": "known", "allow_password_change": True},
    "Owner": {"token": "known", "hashed_password": "", "cookie_name": "x", "secure_cookie": False},
    "JupyterRemote": {"allow_unauthenticated_access": True, "allow_origin": "*", "ip": "0.0.0.0", "root_dir": "/"},
    "KernelManager": {"transport": "tcp", "ip": "0.0.0.0"},
    "ServerKernelManager": {"transport": "tcp", "ip": "0.0.0.0"},
    "Kernel": {"transport": "tcp", "ip": "0.0.0.0"},
    "NotebookApp": {"token": "", "password": "", "allow_origin": "*", "disable_check_xsrf": True, "ip": "*"},
    "LabApp": {"extension_manager": "pypi", "dev_mode": True, "default_url": "/elsewhere", "token": ""},
}


def as_python(openers: dict[str, dict[str, object]]) -> str:
    lines = [f"c.{section}.{name} = {value!r}" for section, values in openers.items() for name, value in values.items()]
    return "\n".join(["c = get_config()", *lines, "c.ServerApp.tornado_settings.update(debug=True)"]) + "\n"


@pytest.mark.parametrize(
    "file",
    [
        "jupyter_config.py",
        "jupyter_server_config.py",
        "jupyter_server_config.json",
        "jupyter_lab_config.py",
        "jupyter_lab_config.json",
        "jupyter_notebook_config.py",
        "jupyter_notebook_config.json",
    ],
)
def test_no_configuration_of_the_owners_opens_the_door(server: Running, file: str):
    directory = server.home / ".jupyter"
    directory.mkdir()
    text = as_python(OPENERS) if file.endswith(".py") else json.dumps(OPENERS)
    (directory / file).write_text(text)
    server.start(more={"JUPYTER_TOKEN": "known", "JUPYTER_PORT": "18888"}).wait_until_ready()

    with server.visitor() as stranger:
        assert stranger.get("metrics").url.path == "/jupyter/login"
        for headers in ({}, {"Authorization": "token known"}, {"Authorization": "Bearer x"}):
            assert stranger.get("api/contents", headers=headers).status_code == 403
        assert stranger.get("api/contents?token=known").status_code == 403
        assert stranger.get("api", headers={"Host": "evil.test"}).status_code == 403
        assert not stranger.try_login("")
        assert not stranger.try_login("known")
    with server.owner() as owner:
        assert owner.http.post(f"{owner.url}/api/kernels", content="{}").status_code == 403
        page = owner.get("lab")
        assert "access-control-allow-origin" not in owner.get("api/status").headers
        assert "access-control-allow-credentials" not in page.headers
        assert page.url.path == "/jupyter/lab"
        assert owner.get("tree").status_code == 200
        assert '"token": ""' in page.text
        with pytest.raises(websocket.WebSocketBadStatusException):
            owner.websocket("api/events/subscribe", origin="https://evil.test")
        cookie = next(c for c in owner.http.cookies.jar if c.name == "__Secure-jupyter-remote-jupyter")
        assert cookie.secure
        assert cookie.has_nonstandard_attr("HttpOnly")
        # The files that it shows are those of the notebook directory.
        (server.home / "here.txt").touch()
        assert "here.txt" in {entry["name"] for entry in owner.api("GET", "contents")["content"]}
        kernel = owner.start_kernel()
        asked = kernel.execute("import json, ipykernel; print(open(ipykernel.get_connection_file()).read())")
        connection = json.loads(asked.text)
        assert connection["transport"] == "ipc"
        assert Path(connection["ip"]).parent.stat().st_mode & 0o077 == 0


def test_the_owners_configuration_applies_otherwise(server: Running):
    directory = server.home / ".jupyter"
    directory.mkdir()
    (directory / "jupyter_server_config.py").write_text(
        "c.ServerApp.quit_button = True\nc.ContentsManager.allow_hidden = True\n"
    )
    (directory / "jupyter_lab_config.py").write_text("c.LabApp.news_url = 'https://news.example/feed'\n")
    (server.home / ".hidden.txt").write_text("seen")
    server.start().wait_until_ready()
    with server.owner() as owner:
        page = owner.get("lab").text
        assert '"quitButton": true' in page
        assert '"news": {"disabled": false}' in page
        assert owner.get("files/.hidden.txt", headers={"Referer": owner.url}).text == "seen"


def test_without_configuration_nothing_is_asked_of_machines_elsewhere(owner: object, shared: Running):
    with shared.owner() as browser:
        page = browser.get("lab").text
    assert '"quitButton": false' in page
    assert '"news": {"disabled": true}' in page
    assert '"buildCheck": false' in page


def test_a_configuration_that_is_broken_is_logged_and_skipped(server: Running):
    directory = server.home / ".jupyter"
    directory.mkdir()
    (directory / "jupyter_server_config.py").write_text("this is no Python\n")
    server.set_hash(HASH)
    server.start().wait_until_ready()
    with server.owner() as owner:
        assert owner.logged_in
    assert "jupyter_server_config" in server.log.read_text()
