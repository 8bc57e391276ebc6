"""Fixtures of the tests on booted systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.box import Box

from tests import authority as acme
from tests import installed
from tests.authority import Authority
from tests.conda import served
from tests.conda.served import Served
from tests.container import Container, plain_container
from tests.website import Website


@pytest.fixture
def website(fresh_box: Box) -> Website:
    """A site that is served by the Apache of ``fresh_box`` before we come: pages, an alias, a redirect."""
    return Website.set_up(fresh_box)


@pytest.fixture
def container(suite: str) -> Iterator[Container]:
    """A plain container: no systemd runs in it; its own network, in which apt reaches packages."""
    with plain_container(suite) as inside:
        yield inside


@pytest.fixture
def channel() -> Callable[[Box], Served]:
    """A conda channel and an installer in a box: ``channel(box).url``; ``conda-forge`` means it there."""
    return served.set_up


@pytest.fixture
def authority(suite: str, deb: Path) -> Iterator[Authority]:
    """An ACME authority in a box that is as ``box`` is: ``authority.box``, ``authority.url``."""
    with Box(suite, layer=installed.layer(suite, deb), binds=acme.binds(suite)) as box:
        yield Authority.set_up(box)
