"""Somebody who looks elsewhere is told when a cell has ended that took long."""

from __future__ import annotations

import re

import pytest
from lab.box import Person
from playwright.sync_api import expect

from tests.browser.browser import Browser
from tests.installed import PASSWORD

SETTINGS = ".jupyter/lab/user-settings/jupyter-remote/notices.jupyterlab-settings"


@pytest.mark.either_release
def test_who_looks_elsewhere_is_told_when_a_long_cell_has_ended(browser: Browser, alice: Person):
    # By default it is a minute.
    alice.sh(f"mkdir -p $(dirname {SETTINGS}) && echo '{{\"seconds\": 2}}' > {SETTINGS}")
    # Chromium's own list of what it has shown cannot be asked for.
    browser.context.add_init_script(
        "window.told = []; window.Notification = class { constructor(text) { window.told.push(text); } };"
        "window.Notification.permission = 'granted';"
    )
    # A page without a window has it always.
    browser.context.add_init_script("window.looks = true; document.hasFocus = () => window.looks;")
    browser.login(PASSWORD)
    browser.new_notebook()
    # Whoever looks sees it; and what is quick is no news.
    browser.run_cell("import time; time.sleep(3)")
    browser.page.evaluate("window.looks = false")
    browser.run_cell("1")
    assert browser.page.evaluate("window.told") == []
    browser.run_cell("time.sleep(3); 1 / 0")
    toast = browser.page.locator(".jp-toast-message, .Toastify__toast")
    expect(toast.get_by_text("A cell of Untitled.ipynb has failed after 1 min.").first).to_be_visible()
    assert browser.page.evaluate("window.told") == ["A cell of Untitled.ipynb has failed after 1 min."]
    expect(browser.page).to_have_title(re.compile(r"\u2718 Untitled"))
    # JupyterLab writes it anew when it likes, and is not in the way.
    browser.page.evaluate("document.title = 'Another.ipynb - JupyterLab'")
    expect(browser.page).to_have_title("\u2718 Another.ipynb - JupyterLab")
    browser.page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(browser.page).to_have_title("Another.ipynb - JupyterLab")
