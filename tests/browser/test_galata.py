"""JupyterLab behind our Apache is JupyterLab, to the test kit of those who make it."""

from __future__ import annotations

import pytest
from lab.box import Box

from tests.browser import kit


@pytest.mark.one_release
def test_their_own_test_kit_finds_nothing_unusual(box: Box):
    outcomes = kit.run_specs(box, kit.HERE)
    assert len(outcomes) >= 6
    assert [one for one in outcomes if one.status != "expected"] == []
