"""Fixtures of the tests in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab.box import Box

from tests.browser.browser import Browser, browsing


@pytest.fixture
def browser(box: Box) -> Iterator[Browser]:
    """A Chromium at the Jupyter of ``box``, not logged in. Trusts the box's authority."""
    with browsing(box) as window:
        yield window
