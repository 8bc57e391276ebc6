"""Whose a connection is that comes to a debugger."""

from __future__ import annotations

import importlib.util
import os
import socket
import struct
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jupyter_remote import keeper

FILE = Path(keeper.__file__).parent / "ipykernel_debugger.py"


@pytest.fixture
def debugger(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The file, as a process that has no debugpy runs it."""
    monkeypatch.setitem(sys.modules, "debugpy", None)
    spec = importlib.util.spec_from_file_location("ipykernel_debugger", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_is_known_to_be_ours(debugger: types.ModuleType, host: str):
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        with socket.create_connection(listening.getsockname()[:2]):
            accepted, _ = listening.accept()
            with accepted:
                assert debugger._whose(accepted) == os.getuid()
        # Whoever has gone could be anybody.
        with socket.create_connection(listening.getsockname()[:2]) as gone:
            accepted, _ = listening.accept()
            gone.close()
            with accepted:
                assert debugger._whose(accepted) is None
        with socket.create_connection(listening.getsockname()[:2]) as broken:
            accepted, _ = listening.accept()
            # not even a goodbye: SO_LINGER of 0 seconds
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            broken.close()
            with accepted:
                assert debugger._whose(accepted) is None


def test_addresses_are_written_as_the_system_writes_them(debugger: types.ModuleType):
    little = sys.byteorder == "little"
    assert debugger._address(("127.0.0.1", 8888)) == ("0100007F:22B8" if little else "7F000001:22B8")
    last = "01000000" if little else "00000001"
    assert debugger._address(("::1", 80, 0, 0)) == f"{'0' * 24}{last}:0050"


def test_a_debugpy_that_is_not_known_does_not_listen(tmp_path: Path):
    package = tmp_path / "debugpy"
    package.mkdir()
    (package / "__init__.py").write_text("def listen(*_): print('listens')\n")
    code = f"import debugpy, runpy; runpy.run_path({str(FILE)!r}); debugpy.listen(0)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert "No debugger, since others could use it" in done.stderr
    assert done.stdout == ""
