"""JupyterLab's own buttons: files up, and down again."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from lab.box import Box
from playwright.sync_api import Route, expect

from tests.browser.browser import Browser
from tests.client import wait_until
from tests.installed import PASSWORD


def upload(browser: Browser, file: Path) -> None:
    """Choose *file* with the button above the list of files."""
    with browser.page.expect_file_chooser() as chooser:
        browser.page.locator(".jp-FileBrowser [data-jp-item-name=uploader]").click()
    chooser.value.set_files(file)


def listed(browser: Browser, name: str):
    return browser.page.locator(".jp-DirListing-item", has_text=name)


@pytest.mark.one_release
def test_a_file_goes_up_in_pieces_and_comes_down_as_it_was(browser: Browser, box: Box, tmp_path: Path):
    browser.login(PASSWORD)
    browser.wait_for_lab()
    name = "Größe & mehr 100%.bin"
    file = tmp_path / name
    file.write_bytes(os.urandom(5_000_000))
    answers: list[int] = []
    browser.page.on(
        "response",
        lambda answer: (
            answers.append(answer.status) if answer.request.method == "PUT" and ".bin" in answer.url else None
        ),
    )
    upload(browser, file)
    listed(browser, name).wait_for()
    assert [status for status in answers if status not in (200, 201)] == []
    assert len(answers) == 5
    assert box.path(f"/home/alice/{name}").read_bytes() == file.read_bytes()

    listed(browser, name).click(button="right")
    with browser.page.expect_download() as download:
        browser.page.locator(".lm-Menu-item[data-command='filebrowser:download']").click()
    assert download.value.path().read_bytes() == file.read_bytes()
    assert download.value.suggested_filename == name
    assert browser.complaints == []


@pytest.mark.one_release
def test_an_upload_that_loses_its_connection_says_so_and_leaves_the_old_file(
    browser: Browser, box: Box, tmp_path: Path
):
    box.write("/home/alice/kept.bin", "the good one", owner="alice")
    browser.login(PASSWORD)
    browser.wait_for_lab()
    file = tmp_path / "kept.bin"
    file.write_bytes(os.urandom(4_000_000))
    sent: list[Route] = []

    def fail_third(route: Route) -> None:
        if route.request.method != "PUT":
            route.continue_()
            return
        sent.append(route)
        route.abort() if len(sent) == 3 else route.continue_()

    browser.page.route("**/api/contents/kept.bin*", fail_third)
    upload(browser, file)
    browser.page.locator(".jp-Dialog button", has_text="Overwrite").click()
    expect(browser.page.locator(".jp-Dialog-header", has_text=re.compile("Upload Error"))).to_be_visible()
    assert box.read("/home/alice/kept.bin") == "the good one"
    assert box.sh("ls -A /home/alice | grep -ci upload || true") == "0"
    browser.page.locator(".jp-Dialog button", has_text="Close").click()

    # once more, in the same tab
    browser.page.unroute("**/api/contents/kept.bin*")
    upload(browser, file)
    browser.page.locator(".jp-Dialog button", has_text="Overwrite").click()
    kept = box.path("/home/alice/kept.bin")
    wait_until(lambda: kept.read_bytes() != b"the good one", "the second upload does not come")
    # not a piece of it
    assert kept.read_bytes() == file.read_bytes()
