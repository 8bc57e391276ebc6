"""Debian's own judge of what a package leaves: it installs, removes and purges it, without what it recommends."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import aptproxy, host, layers
from lab.scratch import scratch

from jupyter_remote.run import run


@pytest.mark.either_release
def test_piuparts_finds_nothing_left_behind(suite: str, deb: Path) -> None:
    host.require("piuparts")
    layers.ensure(suite, "base")
    with scratch(suite, "base") as system:
        # Made ready for apt by the first command.
        system.run("true")
        found = run(
            "piuparts", f"--distribution={suite}", f"--existing-chroot={system.root}", "--keep-sources-list",
            f"--proxy={aptproxy.ensure()}", "--no-eatmydata", "--fail-if-inadequate",
            # debconf's own, where apt asks its questions before it unpacks.
            "--ignore-regex=^/var/cache/debconf/tmp.ci/?$", deb,
            check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
