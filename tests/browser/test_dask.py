"""Dask, as docs/dask.md has it: a cluster of several machines from a notebook, its dashboard through our Apache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab import cache
from lab.box import Box
from playwright.sync_api import expect

from tests import installed
from tests.browser.browser import browsing
from tests.conda import wheels
from tests.installed import PASSWORD, PYTHONS
from tests.pages import blocks

_, EXTENSION, BEGIN, WORKER, USE, END = blocks("docs/dask.md")


@pytest.fixture
def machines(suite: str, deb: Path) -> Iterator[tuple[Box, Box]]:
    """The one with the Jupyter and a stronger one, both with what the page has installed by conda."""
    there = wheels.download(cache.directory(), ("dask",), PYTHONS[suite])[0].parent
    with ExitStack() as opened:
        made = [Box(suite, layer=installed.layer(suite, deb), binds={there: wheels.INSIDE}) for _ in range(2)]
        for box in map(opened.enter_context, made):
            pip = "/var/lib/jupyter-remote/users/alice/python3*/bin/pip"
            alice = box.as_user("alice")
            wheels.offer(box)
            alice.sh(f"{pip} install --quiet dask distributed bokeh cryptography", timeout=300)
        yield made[0], made[1]


# Debian 13's Python loses the connections of distributed by TLS, without us too: see the page.
@pytest.mark.one_release("bookworm")
def test_a_cluster_of_several_machines_and_its_dashboard(machines: tuple[Box, Box]):
    box, strong = machines
    own = {"192.0.2.10": box.ip}
    box.as_user("alice").sh(EXTENSION.text, timeout=300)
    with browsing(box) as browser:
        browser.login(PASSWORD)
        browser.new_notebook()
        browser.run_cell(BEGIN.filled(own))
        # By scp, says the page.
        for name in ("ca.pem", "worker.pem"):
            strong.write(f"/home/alice/{name}", box.read(f"/home/alice/{name}"), mode=0o600, owner="alice")
        assert box.sh("stat -c %a /home/alice/worker.pem") == "600"
        as_alice = "systemd-run --quiet --unit=worker --uid=alice --working-directory=/home/alice"
        path = "PATH=$(echo /var/lib/jupyter-remote/users/alice/python3*/bin):$PATH"
        command = WORKER.filled({**own, "\\\n": " ", "auto": "2"}).strip()
        strong.sh(f"{as_alice} sh -c '{path} exec {command}'")
        strong.write("/home/alice/here", "strong", owner="alice")
        strong.sh("until [ $(journalctl -u worker -o cat | grep -c 'Starting established') = 2 ]; do sleep 0.2; done")
        assert "strong" in browser.run_cell(f"{USE.text}\nprint(client.submit(where).result())")
        # Who has no certificate of the cluster's gets nowhere.
        stranger = "/var/lib/jupyter-remote/users/alice/python3*/bin/dask worker tcp://" + f"{box.ip}:8786"
        assert strong.as_user("alice").attempt(f"timeout 15 {stranger} --death-timeout 5").returncode
        assert len(browser.run_cell("list(client.scheduler_info()['workers'])").split(",")) == 2

        cell = browser.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").last
        cell.locator(".cm-content").click()
        dashboard = browser.context.new_page()
        dashboard.goto(f"{browser.url}/proxy/8787/status")
        expect(dashboard.locator("body")).to_contain_text("Status")
        browser.run_cell(
            "import time\nwork = client.map(lambda n: time.sleep(0.05) or n, range(200))\nsum(client.gather(work))"
        )
        dashboard.wait_for_timeout(2000)
        dashboard.screenshot(path=browser.screenshot("dask").with_name("dask-dashboard.png"))
        browser.run_cell(END.text)
        # Not for somebody who has not logged in.
        browser.context.clear_cookies()
        dashboard.goto(f"{browser.url}/proxy/8787/status")
        expect(dashboard.locator("input[name=password]")).to_be_visible()
