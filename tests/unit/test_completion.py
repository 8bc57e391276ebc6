"""What a shell offers after Tab. (That shells ask is proved in a box.)"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"


def offered(line: str) -> set[str]:
    """As argcomplete's scripts ask: the answer comes on descriptor 8."""
    reading, writing = os.pipe()
    program = (
        f"import os, sys; os.dup2({writing}, 8); sys.argv[0] = 'jupyter-remote'\n"
        "from jupyter_remote.cli import main; main()"
    )
    environment = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"],
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], env=environment, pass_fds=[writing], capture_output=True)
    os.close(writing)
    with os.fdopen(reading) as answer:
        words = answer.read().split("\n")
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in words if word.strip()}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jupyter-remote ado", {"adopt"}),
        ("jupyter-remote config get tls.m", {"tls.mode"}),
        ("jupyter-remote config set base_url /lab kernels.s", {"kernels.sudo"}),
        ("jupyter-remote config set interface ", {"lab", "notebook"}),
        ("jupyter-remote config set user alice tls.mode ac", {"acme"}),
        ("jupyter-remote status --w", {"--watch"}),
    ],
)
def test_commands_settings_and_their_words_are_offered(line: str, expected: set[str]):
    assert {word for word in offered(line) if not word.startswith("-") or "--" in line} == expected
