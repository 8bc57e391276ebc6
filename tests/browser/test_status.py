"""How things stand, in a tab of JupyterLab."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.browser import Browser
from tests.installed import PASSWORD


@pytest.mark.either_release
def test_the_help_menu_shows_how_things_stand_and_what_kernels_take(browser: Browser):
    browser.try_login("wrong")
    browser.login(PASSWORD)
    browser.new_notebook()
    # Takes a core for as long as somebody looks.
    browser.run_cell(
        "from threading import Thread\nThread(target=exec, args=('while True: pass',), daemon=True).start()"
    )
    browser.page.get_by_role("menuitem", name="Help").click()
    browser.page.get_by_text("Status of This Server").click()
    tab = browser.page.frame_locator("#jupyter-remote-status iframe")
    expect(tab.locator("#news")).to_contain_text("All is well.")
    row = tab.locator("#kernels tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Untitled.ipynb")
    # Less than a whole core where the machine has other work too.
    expect(row.locator("td").nth(1)).to_have_text(re.compile(r"^([3-9]\d|1\d\d) %$"))
    expect(tab.locator("#facts")).to_contain_text("1 in a day, the last just now")
    expect(tab.locator("#facts")).to_contain_text("free at")
    browser.screenshot("status")
    # Nothing of it was refused by the page's own policy.
    assert [text for text in browser.complaints if "Content Security Policy" in text] == []
