"""What is seen, and fetched, while a page opens."""

from __future__ import annotations

import pytest
from lab.box import Box
from playwright.sync_api import Route, expect

from jupyter_remote.server.opening import SCRIPTS
from tests import opening
from tests.browser.browser import Browser
from tests.installed import PASSWORD


@pytest.mark.one_release
def test_a_page_names_the_scripts_that_it_loads_and_no_others(browser: Browser, box: Box):
    browser.login(PASSWORD)
    unused: list[str] = []
    browser.context.on("console", lambda message: unused.append(message.text) if "preload" in message.text else None)
    loaded = opening.scripts(browser, box)
    for page, scripts in SCRIPTS.items():
        assert set(loaded[page]) == set(scripts), "a new version? Run tools/startup-scripts"
    assert unused == []


@pytest.mark.one_release
def test_something_is_seen_before_any_script_has_come(browser: Browser):
    browser.login(PASSWORD)
    held: list[Route] = []
    browser.page.route("**/static/**/*.js*", lambda route: held.append(route))
    browser.page.goto(f"{browser.url}/lab", wait_until="commit")
    sight = browser.page.locator("#jupyter-remote-opening")
    expect(sight).to_be_visible()
    browser.screenshot("opening")
    assert held
    browser.page.unroute("**/static/**/*.js*")
    browser.page.reload()
    browser.wait_for_lab()
    expect(sight).to_be_hidden()
