"""Environments in the launcher: they appear while it is open, and one click gives them a kernel."""

from __future__ import annotations

import pytest
from lab.box import Person
from playwright.sync_api import expect

from tests.browser.browser import Browser
from tests.installed import PASSWORD

CARD = ".jp-LauncherCard[data-category=Notebook][title='{}']"


@pytest.mark.one_release
def test_an_environment_appears_in_an_open_launcher_and_a_click_gives_it_a_kernel(browser: Browser, alice: Person):
    browser.login(PASSWORD)
    browser.wait_for_lab()
    version = alice.sh("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    alice.sh("mkdir work && python3 -m venv work/.venv", timeout=120)
    offer = browser.page.locator(CARD.format("Add a kernel: venv: work"))
    expect(offer).to_be_visible()
    browser.screenshot("environments")
    offer.click()
    browser.wait_for_kernel()
    assert browser.run_cell("import sys; print(sys.prefix)") == "/home/alice/work/.venv"
    # The offer has become what was offered, also in the notebook.
    expect(browser.page.locator("#jp-main-statusbar")).to_contain_text(f"Python {version} (venv: work) | Idle")
    browser.page.locator(".lm-TabBar-addButton:visible").first.click()
    expect(browser.page.locator(CARD.format(f"Python {version} (venv: work)"))).to_be_visible()
    expect(offer).to_have_count(0)
