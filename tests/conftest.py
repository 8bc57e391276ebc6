"""Fixtures that all tests share. tests/README.md says how to write a test with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import pytest
from lab.box import Box, Person, sweep

from tests import installed, progress
from tests.client import Client


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--suite", default=",".join(installed.SUITES), help="releases to test on, by codename (default: %(default)s)"
    )
    parser.addoption("--every-release", action="store_true", help="run also those on each that otherwise share")
    parser.addoption(
        "--earlier",
        default=installed.EARLIER,
        metavar="COMMIT",
        help="what upgrades are tried from (default: %(default)s)",
    )
    parser.addoption("--no-build", action="store_true", help="take the packages in dist/ as they are")


def pytest_sessionstart(session: pytest.Session) -> None:
    progress.register(session.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suite" in metafunc.fixturenames:
        test, options = metafunc.definition, metafunc.config.option
        suites = options.suite.split(",")
        if marker := test.get_closest_marker("one_release"):
            # the one that it names, or the last
            suites = [name for name in suites if name in marker.args] or suites[-1:]
        elif test.get_closest_marker("either_release") and not options.every_release:
            # by the name: the same one each time, and each release gets its part
            suites = [suites[crc32(test.name.encode()) % len(suites)]]
        metafunc.parametrize("suite", suites, scope="session")


@pytest.fixture(scope="session")
def deb(suite: str, pytestconfig: pytest.Config) -> Path:
    """The built package of this release."""
    return installed.deb(suite, build=not pytestconfig.getoption("no_build"))


@pytest.fixture(scope="session")
def earlier(suite: str, pytestconfig: pytest.Config) -> Path:
    """The package of an earlier commit of this repository, to upgrade from."""
    commit = pytestconfig.getoption("earlier")
    package = installed.earlier(suite, commit)
    if package is None:
        pytest.skip(f"this checkout has no history that reaches back to {commit}: git fetch --unshallow")
    return package


@pytest.fixture(scope="session")
def older(suite: str, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as it would have been a version ago: other number, other conffile, other code."""
    return installed.older(deb, tmp_path_factory.mktemp("older"))


@pytest.fixture
def bare_box(suite: str) -> Iterator[Box]:
    """A server as it comes: alice is the only person on it, there is no Apache and nothing of ours."""
    with Box(suite, layer="plain") as box:
        yield box


@pytest.fixture
def ready_box(suite: str, deb: Path) -> Iterator[Box]:
    """As ``bare_box``, but everything that our package needs is there already, Apache too."""
    with Box(suite, layer=installed.ready(suite, deb)) as box:
        yield box


@pytest.fixture
def fresh_box(suite: str) -> Iterator[Box]:
    """A server with alice, bob and an Apache that serves its start page; nothing of ours."""
    with Box(suite, layer="box") as box:
        yield box


@pytest.fixture
def box(suite: str, deb: Path) -> Iterator[Box]:
    """A server with alice, bob, Apache and our package, installed for alice with ``installed.PASSWORD``."""
    with Box(suite, layer=installed.layer(suite, deb)) as box:
        yield box


@pytest.fixture
def alice(box: Box) -> Person:
    """The owner of the Jupyter in ``box``."""
    return box.as_user("alice")


@pytest.fixture
def bob(box: Box) -> Person:
    """Another person in ``box``, who has no business with alice's Jupyter."""
    return box.as_user("bob")


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """Makes visitors: ``client(box).login(PASSWORD)``. Each trusts the authority of its box and no other.

    ``client(box, base_url="/lab")`` for another place than /jupyter.
    """
    with ExitStack() as opened:

        def visitor(box: Box, base_url: str = "/jupyter") -> Client:
            url = f"https://{box.hostname}{base_url}"
            return opened.enter_context(Client(box.ip, url, box.read("/var/lib/jupyter-remote/ca.crt")))

        yield visitor


@pytest.fixture(scope="session", autouse=True)
def _leftovers() -> None:
    """Boxes of a run that was killed are in nobody's way."""
    if os.geteuid() == 0:
        sweep()
