"""One virtual machine for all tests here: it takes a minute to boot, and each test has a kernel of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.vm import Vm

from tests import installed


@pytest.fixture(scope="session")
def vm(suite: str, deb: Path) -> Iterator[Vm]:
    """As ``box``, in a virtual machine; kernels may have 300 MiB."""
    with Vm(suite, installed.layer(suite, deb)) as machine:
        machine.sh("jupyter-remote config set kernels.memory_limit 300M")
        yield machine
