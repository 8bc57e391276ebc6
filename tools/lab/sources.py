"""Which apt sources a suite is installed from: this machine's own, where it has them."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from jupyter_remote.run import run
from lab import host


@cache
def for_suite(suite: str) -> list[str]:
    """The ``deb …`` lines for *suite*.

    The machine's own sources, with its codename replaced by *suite* when both belong to the same
    distribution. Empty when they do not: mmdebstrap knows the default mirrors of the others.
    """
    host.require("/usr/share/distro-info/debian.csv")
    release = host.os_release()
    own_suite, distribution = release.get("VERSION_CODENAME", ""), release.get("ID", "")
    if suite != own_suite and suite not in _suites(distribution):
        return []
    keyring = Path(f"/usr/share/keyrings/{distribution}-archive-keyring.gpg")
    options = f"[signed-by={keyring}] " if keyring.exists() else ""
    components: dict[tuple[str, str], list[str]] = {}
    for uri, release_name, component in _own_targets(distribution):
        if release_name == own_suite or release_name.startswith(f"{own_suite}-"):
            key = uri, release_name.replace(own_suite, suite, 1)
            if component not in components.setdefault(key, []):
                components[key].append(component)
    return [f"deb {options}{uri} {name} {' '.join(parts)}" for (uri, name), parts in components.items()]


@cache
def apt_options() -> list[str]:
    """What this machine's apt is told about the trust in dates, as lines of apt.conf.

    A machine behind a mirror that keeps old states cannot insist on fresh ones, nor can its boxes.
    """
    dump = run("apt-config", "dump").stdout.splitlines()
    return [line for line in dump if line.startswith(("Acquire::Check-Valid-Until", "Acquire::Check-Date"))]


def _own_targets(distribution: str) -> list[tuple[str, str, str]]:
    """(URI, release, component) of each package list that apt knows of this machine's distribution."""
    columns = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    question = ("apt-get", "indextargets", "--format", columns, "Created-By: Packages")
    if not run(*question).stdout:
        run("apt-get", "-qq", "update")
    rows = (line.split("|") for line in run(*question).stdout.splitlines())
    return [(uri, release, component) for origin, uri, release, component in rows if origin.lower() == distribution]


def _suites(distribution: str) -> set[str]:
    table = Path(f"/usr/share/distro-info/{distribution}.csv")
    if not table.exists():
        return set()
    with table.open() as rows:
        return {row["series"] for row in csv.DictReader(rows)}
