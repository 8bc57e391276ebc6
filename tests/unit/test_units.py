"""What can be said of the units without starting them."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
UNITS = TOP / "systemd"

#: Directives of systemd.exec(5) that take something away from a process.
_RESTRICTION = re.compile(
    r"(NoNewPrivileges|CapabilityBoundingSet|Private\w+|Protect\w+|Restrict\w+|Lock\w+|SystemCall\w+|"
    r"MemoryDenyWriteExecute|UMask|RemoveIPC|\w+Paths|Device\w+|IPAddress\w+)="
)


def directives(unit: str) -> list[str]:
    lines = (UNITS / unit).read_text().splitlines()
    return [line for line in lines if re.match(r"[A-Z]\w*=", line)]


def test_kernels_run_with_no_fewer_restrictions_than_the_server() -> None:
    restrictions = {line for line in directives("jupyter-remote.service") if _RESTRICTION.match(line)}
    assert len(restrictions) >= 15
    assert restrictions <= set(directives("jupyter-remote-kernel@.service"))


def test_what_runs_somebodys_code_runs_as_nobody_without_its_drop_in() -> None:
    for unit in ("jupyter-remote.service", "jupyter-remote.socket", "jupyter-remote-kernel@.service",
                 "jupyter-remote-kernel.socket"):  # fmt: skip
        assert f"AssertPathExists=/etc/systemd/system/{unit}.d/50-owner.conf" in directives(unit)


def test_the_server_takes_no_kernel_along() -> None:
    """Neither by a dependency, nor by a directory that ends with it."""
    words = " ".join(directives("jupyter-remote.service"))
    assert "RuntimeDirectoryPreserve=yes" in words
    for unit in ("jupyter-remote.service", "jupyter-remote.socket", "jupyter-remote-kernel@.service"):
        for line in directives(unit):
            if re.match(r"(Requires|Requisite|BindsTo|PartOf|Upholds|PropagatesStopTo)=", line):
                assert "kernel" not in line and unit != "jupyter-remote-kernel@.service", line


def test_needrestart_leaves_kernels_alone_and_restarts_the_server() -> None:
    text = (TOP / "etc/needrestart/conf.d/jupyter-remote.conf").read_text()
    (pattern,) = re.findall(r"override_rc}\{qr\((.+)\)} = 0;", text)
    assert re.search(pattern, "jupyter-remote-kernel@3-812-1000.service")
    assert not re.search(pattern, "jupyter-remote.service")
