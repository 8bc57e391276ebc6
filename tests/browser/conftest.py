"""Fixtures of the tests in a real browser."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from lab.box import Box

from tests.browser.browser import Browser, browsing

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture
def browser(box: Box, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A Chromium at the Jupyter of ``box``, not logged in. Trusts the box's authority."""
    with browsing(box) as window:
        yield window
        if request.node.stash.get(_FAILED, False):
            print(f"what it showed: {window.screenshot(f'failed-{request.node.name}')}")
            print("what the page complained of:", *window.complaints, sep="\n")
            print("what it asked:", *window.page.locator(".jp-Dialog").all_inner_texts(), sep="\n")
