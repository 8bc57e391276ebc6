"""A kernel of another machine, in the launcher beside those of this one."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.box import Box
from playwright.sync_api import expect

from tests import gateway, installed
from tests.browser.browser import Browser
from tests.installed import PASSWORD

CARD = ".jp-LauncherCard[data-category=Notebook][title='Python 3 (gateway.test)']"


@pytest.mark.either_release
def test_a_kernel_of_a_gateway_is_one_more_in_the_launcher(box: Box, browser: Browser, suite: str, deb: Path):
    with Box(suite, layer=installed.layer(suite, deb)) as machine:
        gateway.announce(box, machine, gateway.serve(machine))
        browser.login(PASSWORD)
        browser.wait_for_lab()
        expect(browser.page.locator(CARD)).to_be_visible()
        browser.screenshot("gateway")
        browser.page.locator(CARD).click()
        browser.wait_for_kernel()
        assert browser.run_cell("import getpass; getpass.getuser()") == "'bob'"
        assert browser.run_cell("len('π' * 10 ** 6)") == "1000000"
        # The other machine is not to be reached for a while, and this server has crashed meanwhile.
        browser.page.keyboard.insert_text("import time\nfor n in range(60): print(n, flush=True), time.sleep(0.1)")
        long = browser.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").nth(2)
        browser.page.keyboard.press("Shift+Enter")
        machine.sh("systemd-run --collect sh -c 'ip link set host0 down; sleep 5; ip link set host0 up'")
        box.sh("systemctl kill --signal=KILL jupyter-remote.service")
        expect(long.locator(".jp-InputPrompt")).to_have_text("[3]:")
        assert long.locator(".jp-OutputArea-output").inner_text().split() == [str(n) for n in range(60)]

        # A machine that is gone is told, by whoever is asked.
        machine.sh("systemctl stop gateway")
        found = box.attempt("jupyter-remote doctor --json", timeout=120)
        assert "gateway-away" in found.stdout, found.stdout
