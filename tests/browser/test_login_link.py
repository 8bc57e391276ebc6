"""A login link, in a real browser."""

from __future__ import annotations

import pytest
from lab.box import Box

from tests.browser.browser import Browser


@pytest.mark.one_release
def test_a_login_link_logs_in_and_leaves_neither_the_address_bar_nor_the_history_behind(box: Box, browser: Browser):
    link = box.sh("jupyter-remote url")
    token = link.partition("#token=")[2]
    assert token
    browser.page.goto(link)
    browser.wait_for_lab()
    shown = browser.page.evaluate("location.href")
    assert shown.startswith(f"{browser.url}/lab") and "#" not in shown
    browser.page.go_back()
    browser.page.wait_for_load_state()
    assert token not in browser.page.url
    assert not [complaint for complaint in browser.complaints if "Content Security Policy" in complaint]
    assert box.places_with(token) == []

    # Once more, by somebody who is logged in already, and an incomplete one.
    browser.page.goto(box.sh("jupyter-remote url"))
    browser.wait_for_lab()
    assert box.sh("ls /run/jupyter-remote/alice/login") == ""
    browser.page.goto(f"{browser.url}/login?link")
    browser.page.get_by_text("This login link is not complete").wait_for()

    browser.open("logout")
    browser.page.goto(link)
    browser.page.get_by_text("This login link has been used").wait_for()
