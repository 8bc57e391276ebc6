"""Servers in processes of their own; see running.py."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Browser, Running

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements/kernel.txt"


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The wheels that the package brings for the default environment, downloaded once."""
    cache = Path(os.environ.get("JUPYTER_REMOTE_CACHE") or Path.home() / ".cache/jupyter-remote")
    directory = cache / "test-wheels" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The pins are part of the question whether they are there.
        pins = directory / "kernel.txt"
        if not pins.is_file() or pins.read_bytes() != REQUIREMENTS.read_bytes():
            shutil.rmtree(directory)
            directory.mkdir()
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps"]
            subprocess.run([*pip, "--require-hashes", "-r", REQUIREMENTS, "-d", directory], check=True)
            shutil.copy(REQUIREMENTS, pins)
    return directory


@pytest.fixture(scope="session")
def top() -> Iterator[Path]:
    """A directory for servers. Not pytest's: paths of sockets in it would be longer than they may be."""
    directory = Path(tempfile.mkdtemp(prefix="jr-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def environment(top: Path, wheels: Path) -> Path:
    """A default environment, as the first start of a server makes it."""
    directory = top / "first"
    directory.mkdir()
    server = Running(directory, wheels)
    try:
        server.start().wait_until_ready()
        with server.owner() as browser:
            # The answer waits for the environment.
            browser.start_kernel()
        server.stop()
    finally:
        server.close()
    return server.state / f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def make_server(top: Path, wheels: Path, environment: Path) -> Iterator[Callable[[], Running]]:
    """Make servers that have not been started, with an environment that is complete."""
    servers: list[Running] = []
    numbers = itertools.count()

    def make() -> Running:
        directory = top / str(next(numbers))
        directory.mkdir()
        servers.append(Running(directory, wheels, environment))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def new_server(top: Path, wheels: Path) -> Iterator[Running]:
    """A server that has never run: its owner has no default environment yet."""
    directory = Path(tempfile.mkdtemp(dir=top))
    running = Running(directory, wheels)
    yield running
    running.close()


@pytest.fixture
def server(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server that has not been started, of the test's own."""
    running = make_server()
    yield running
    running.close()


@pytest.fixture(scope="session")
def shared(make_server: Callable[[], Running]) -> Running:
    """A server that runs, shared by tests that leave it as it was."""
    return make_server().start().wait_until_ready()


@pytest.fixture
def visitor(shared: Running) -> Iterator[Browser]:
    """A browser at the shared server, not logged in."""
    with shared.visitor() as browser:
        yield browser


@pytest.fixture
def owner(shared: Running) -> Iterator[Browser]:
    """A browser at the shared server, logged in."""
    with shared.owner() as browser:
        yield browser
