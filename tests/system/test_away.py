"""What is there while the server is not."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from lab.box import Box

from tests.client import Client, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

SERVER_JSON = "/var/lib/jupyter-remote/rendered/server.json"


@pytest.mark.either_release
def test_a_page_of_ours_says_why_there_is_no_jupyter_and_goes_when_there_is(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)

    def says(state: str) -> bool:
        try:
            answer = visitor.get("lab")
        except httpx.RemoteProtocolError:
            # What waited when that was found out: Apache closes the connection, and browsers ask once more.
            return False
        return (answer.status_code, answer.headers.get("Jupyter-Remote-State")) == (503, state)

    box.sh("systemctl stop jupyter-remote.service jupyter-remote.socket")
    assert says("off")
    page = visitor.get("lab")
    assert "jupyter-remote status" in page.text and "on <strong>box.test</strong>" in page.text
    assert page.headers["cache-control"] == "no-store"
    # Programs are told so too, and at once.
    assert visitor.get("api/contents").status_code == 503
    box.sh("systemctl start jupyter-remote.service")
    assert visitor.logged_in

    # Settings that cannot be served: what came before that was known is not kept waiting, nor is it tried for ever.
    box.sh(f"systemctl stop jupyter-remote.service; mv {SERVER_JSON} /root/kept")
    early = box.attempt("curl -skf -m 100 https://localhost/jupyter/lab")
    assert early.returncode == 22, "as all errors"
    wait_until(lambda: says("settings"), "it does not say that settings are wrong")
    wait_until(
        lambda: box.attempt("systemctl is-active jupyter-remote.service").stdout.strip() == "failed", "it is tried"
    )
    box.sh(f"mv /root/kept {SERVER_JSON} && systemctl restart jupyter-remote.service")
    assert visitor.logged_in

    # A server that ends while it starts is tried again, and is there by itself when it can be.
    module = box.sh("find /usr/lib/jupyter-remote -name tornado -type d").strip()
    box.sh(f"mv {module} /root/tornado; systemctl restart --no-block jupyter-remote.service")
    wait_until(lambda: says("crash"), "it does not say that it crashes")
    box.sh(f"mv /root/tornado {module}")
    wait_until(lambda: visitor.get("api").status_code == 200, "it does not come back")
    assert visitor.logged_in

    # One that was there and is gone comes again in a moment: requests wait for that one.
    box.sh("systemctl kill --signal=KILL jupyter-remote.service")
    assert visitor.get("api").status_code == 200
