"""The main job, in a browser: log in through Apache, run a cell."""

from __future__ import annotations

import pytest
from lab.box import Box, Person
from playwright.sync_api import expect

from tests.browser.browser import Browser
from tests.installed import PASSWORD


def test_logging_in_and_running_a_cell(browser: Browser):
    browser.open()
    browser.screenshot("login")
    browser.login(PASSWORD)
    browser.new_notebook()
    assert browser.run_cell("6 * 7") == "42"
    assert browser.run_cell("import getpass, sys; print(getpass.getuser(), sys.prefix)").startswith(
        "alice /var/lib/jupyter-remote/users/alice/"
    )
    # Nobody is asked whether they want news from elsewhere.
    expect(browser.page.get_by_text("notified about official Jupyter news")).to_have_count(0)
    browser.screenshot("notebook")
    assert browser.complaints == []


@pytest.mark.one_release
def test_a_wrong_password_stays_outside(browser: Browser):
    browser.try_login("wrong")
    expect(browser.page.locator("input[name=password]")).to_be_visible()
    assert "/login" in browser.page.url
    browser.open("lab")
    assert "/login" in browser.page.url


@pytest.mark.one_release
def test_a_terminal_is_alices_shell(browser: Browser, alice: Person):
    browser.login(PASSWORD)
    browser.open_terminal()
    browser.page.keyboard.type("id -un > whoami.txt; pwd >> whoami.txt\n")
    alice.sh("until grep -q home whoami.txt; do sleep 0.2; done", timeout=60)
    assert alice.sh("cat whoami.txt").split() == ["alice", "/home/alice"]


@pytest.mark.either_release
def test_a_saved_notebook_is_on_alices_disk(browser: Browser, box: Box, alice: Person):
    browser.login(PASSWORD)
    browser.new_notebook()
    browser.run_cell("print('kept')")
    browser.page.keyboard.press("Control+s")
    browser.page.get_by_text("Rename and Save").click()
    expect(browser.page.get_by_text("Rename and Save")).to_have_count(0)
    alice.sh("until grep -q kept Untitled.ipynb; do sleep 0.2; done", timeout=30)
    assert box.sh("stat -c %U /home/alice/Untitled.ipynb") == "alice"


@pytest.mark.one_release
def test_a_page_that_finds_no_server_goes_on_by_itself_when_there_is_one(browser: Browser, box: Box):
    browser.login(PASSWORD)
    box.sh("systemctl stop jupyter-remote.service jupyter-remote.socket")
    browser.open("lab")
    expect(browser.page.locator("#state")).to_contain_text("switched off")
    browser.screenshot("away")
    box.sh("systemctl start jupyter-remote.service")
    browser.wait_for_lab()
