"""Fixtures of the keeper's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kept import Kept


@pytest.fixture
def make_kept(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """Makes keepers, and ends them."""
    made: list[Kept] = []

    def make(**order: Any) -> Kept:
        made.append(Kept(tmp_path, **order))
        return made[-1]

    yield make
    for kept in made:
        kept.close()


@pytest.fixture
def kept(make_kept: Callable[..., Kept]) -> Kept:
    """A keeper with an ipykernel."""
    return make_kept()
