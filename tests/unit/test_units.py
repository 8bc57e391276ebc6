"""What can be said of the units without starting them."""

from __future__ import annotations

import re
from pathlib import Path

from jupyter_remote import paths, render
from jupyter_remote.accounts import Account
from jupyter_remote.machine import Machine
from jupyter_remote.settings import Settings

TOP = Path(__file__).resolve().parents[2]
UNITS = TOP / "systemd"

#: Directives of systemd.exec(5) that take something away from a process.
_RESTRICTION = re.compile(
    r"(NoNewPrivileges|CapabilityBoundingSet|Private\w+|Protect\w+|Restrict\w+|Lock\w+|SystemCall\w+|"
    r"MemoryDenyWriteExecute|UMask|RemoveIPC|\w+Paths|Device\w+|IPAddress\w+)="
)


#: What notebooks need and the server does not.
_SERVERS_ALONE = {"PrivateDevices", "ProtectProc", "RestrictAddressFamilies", "RestrictNamespaces"}
#: What root is not hindered by, when sudo is allowed.
_STAYS = {"InaccessiblePaths", "PrivateIPC", "PrivateTmp", "ReadWritePaths", "UMask"}


def directives(unit: str) -> list[str]:
    lines = (UNITS / unit).read_text().splitlines()
    return [line for line in lines if re.match(r"[A-Z]\w*=", line)]


def restrictions(unit: str) -> set[str]:
    found = {line for line in directives(unit) if _RESTRICTION.match(line)}
    assert len(found) >= 15
    return found


def test_a_kernel_has_the_servers_restrictions_but_for_what_notebooks_need() -> None:
    missing = restrictions("jupyter-remote.service") - restrictions("jupyter-remote-kernel@.service")
    assert {line.partition("=")[0] for line in missing} == _SERVERS_ALONE


def test_each_restriction_has_its_reason_beside_it() -> None:
    for unit in ("jupyter-remote.service", "jupyter-remote-kernel@.service", "jupyter-remote-hangup.service"):
        # Paragraphs are told by what begins one: a comment after a line that is none.
        paragraphs = re.split(r"\n(?=#)(?<=[^#\n]\n)|\n\n", (UNITS / unit).read_text())
        for paragraph in paragraphs:
            if any(_RESTRICTION.match(line) for line in paragraph.splitlines()):
                assert paragraph.startswith("#"), paragraph


def test_sudo_takes_away_each_wall_that_root_would_meet() -> None:
    alice = Account("alice", 1000, 1000, Path("/home/alice"), "/bin/bash")
    dropins = [
        render.render(Settings(user="alice", kernels_sudo=sudo), alice, Machine(("box",), ()))
        for sudo in ("refused", "allowed")
    ]
    assert not any(map(_RESTRICTION.match, dropins[0][paths.KERNEL_SERVICE_DROPIN].splitlines()))
    taken_back = {
        line.partition("=")[0]: line.partition("=")[2]
        for line in dropins[1][paths.KERNEL_SERVICE_DROPIN].splitlines()
        if _RESTRICTION.match(line)
    }
    walls = {line.partition("=")[0] for line in restrictions("jupyter-remote-kernel@.service")}
    assert taken_back.keys() == walls - _STAYS
    assert set(taken_back.values()) <= {"no", "", "~"}
    others = [{path: text for path, text in one.items() if path != paths.KERNEL_SERVICE_DROPIN} for one in dropins]
    assert others[0] == others[1], "the server gets no more than before"


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


def test_apache_is_never_kept_waiting_nor_taken_along() -> None:
    """Neither is its stop ordered behind ours, nor does anything of ours stop it."""
    words = [line for line in directives("jupyter-remote-hangup.service") if "apache2.service" in line]
    assert [word for word in words if not word.startswith("ExecStop=-")] == [
        "PartOf=apache2.service",
        "WantedBy=apache2.service",
    ]


def test_needrestart_leaves_kernels_alone_and_restarts_the_server() -> None:
    text = (TOP / "etc/needrestart/conf.d/jupyter-remote.conf").read_text()
    (pattern,) = re.findall(r"override_rc}\{qr\((.+)\)} = 0;", text)
    assert re.search(pattern, "jupyter-remote-kernel@3-812-1000.service")
    assert not re.search(pattern, "jupyter-remote.service")
