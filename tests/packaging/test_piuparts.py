"""Debian's own judge of what a package leaves: it installs, upgrades, removes and purges it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from lab import aptproxy, host, layers
from lab.scratch import scratch

from jupyter_remote.run import run

#: where the system that is tried has the package of a version ago
EARLIER = "earlier"


def offer(root: Path, package: Path) -> None:
    """Have apt in *root* know *package*."""
    place = root / EARLIER
    place.mkdir()
    copy = shutil.copy(package, place)
    control = run("dpkg-deb", "--field", package).stdout.rstrip("\n")
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    facts = f"Filename: ./{Path(copy).name}\nSize: {package.stat().st_size}\nSHA256: {digest}"
    (place / "Packages").write_text(f"{control}\n{facts}\n")
    (root / f"etc/apt/sources.list.d/{EARLIER}.list").write_text(f"deb [trusted=yes] file:///{EARLIER} ./\n")


@pytest.mark.either_release
@pytest.mark.parametrize("recommends", ["without", "with"])
def test_piuparts_finds_nothing_left_behind(suite: str, deb: Path, older: Path, recommends: str) -> None:
    host.require("piuparts")
    layers.ensure(suite, "base")
    with scratch(suite, "base") as system:
        # Made ready for apt by the first command.
        system.run("true")
        offer(system.root, older)
        found = run(
            "piuparts", f"--distribution={suite}", f"--existing-chroot={system.root}", "--keep-sources-list",
            f"--proxy={aptproxy.ensure()}", "--no-eatmydata", "--fail-if-inadequate",
            # debconf's own, where apt asks its questions before it unpacks.
            "--ignore-regex=^/var/cache/debconf/tmp.ci/?$",
            *(["--install-recommends"] if recommends == "with" else []), deb,
            check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
        assert ("Setting up apache2 (" in found.stdout) == (recommends == "with")
        assert "PASS: Installation and purging test." in found.stdout
        # From the version of before.
        assert "PASS: Installation, upgrade and purging tests." in found.stdout
