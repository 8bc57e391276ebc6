"""What `jupyter-remote status` shows of its facts, and the refused logins among them."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from jupyter_remote import kernels, screen
from jupyter_remote.kernels import Kept
from jupyter_remote.refusals import LARGEST, Refusals
from jupyter_remote.run import Finding, Mistake
from jupyter_remote.status import Disk, Login, Status

NOW = 1_000_000.0


def status(**more: object) -> Status:
    facts: dict[str, object] = {
        "version": "1", "address": "https://box.test/jupyter", "owner": "alice", "server": "running", "since": "today",
        "memory_bytes": 70 << 20, "kernels": 1, "kernels_memory_bytes": 90 << 20, "apache": "running",
        "certificate": "self-signed, until 2030", "fingerprint": ":".join(["AB"] * 32), "trusted": False,
        "trust": "import it", "authority_fingerprint": ":".join(["CD"] * 32), "password": "set",
        "second_factor": "off", "conda": "", "running": [], "browsers": 1,
        "last_login": Login(NOW - 7200, "203.0.113.9", "password", "Firefox"), "refused_logins": 0,
        "disks": [Disk("/home/alice", 5 << 30, 10 << 30)], "machine_memory_bytes": 8 << 30,
        "machine_free_bytes": 4 << 30,
    }  # fmt: skip
    return Status(**{**facts, **more})  # type: ignore[arg-type]


def shown(facts: Status, width: int = 80, height: int = 0, *, terminal: bool = False) -> str:
    """What stands on a terminal of that size, or comes through a pipe."""
    file = io.StringIO()
    colours = "standard" if terminal else None
    console = Console(file=file, width=width, force_terminal=terminal, color_system=colours, highlight=False)
    console.print(screen._whole(facts, width, NOW, height), soft_wrap=not terminal)
    return file.getvalue()


def kept(number: int, **more: object) -> Kept:
    facts: dict[str, object] = {"state": "idle", "memory": 90 << 20, "started": NOW - 60 * number, "cpu": 12.3}
    return Kept(f"id{number}", "kernel", f"n{number}.ipynb", "Python 3.13", **{**facts, **more})  # type: ignore[arg-type]


def test_the_facts_are_there_in_words() -> None:
    said = shown(status(running=[kept(1, state="busy")]))
    for expected in (
        "Address      https://box.test/jupyter", "running since today, 70M", "12%", "90M", "n1.ipynb", "busy",
        "memory 4G of 8G; disk 5G of 10G at /home/alice", "no login in 24 hours", "All is well.",
        "1 browser, the last 2h 0min ago from 203.0.113.9 with password (Firefox)",
    ):  # fmt: skip
        assert expected in said, said
    assert "\x1b" not in said


def test_what_only_the_owner_may_see_is_left_out_for_others() -> None:
    said = shown(status(running=None, browsers=None, last_login=None, refused_logins=None))
    assert "Logged in" not in said
    assert "Refused" not in said


def test_refused_logins_are_told_with_the_last_one() -> None:
    said = shown(status(refused_logins=3, last_refused=Login(NOW - 30, "198.51.100.7", "wrong password")))
    assert "3 logins in 24 hours, the last just now from 198.51.100.7: wrong password" in said


def test_a_command_that_mends_something_is_never_broken_into_lines() -> None:
    command = "sudo jupyter-remote " + "x" * 100
    said = shown(status(findings=[Finding("It is broken.", command)], notes=[Finding("Little memory.", "free")]))
    assert command in said
    assert "All is well." not in said
    assert said.index("It is broken.") < said.index("Little memory.")


@pytest.mark.parametrize("height", [24, 30, 50])
def test_a_screen_is_enough_however_many_kernels_there_are(height: int) -> None:
    facts = status(running=[kept(number) for number in range(40)], kernels=40)
    said = shown(facts, height=height, terminal=True)
    assert len(said.splitlines()) <= height
    assert "more: jupyter-remote kernels" in said
    assert "All is well." in said


def test_a_certificate_that_is_trusted_needs_no_fingerprint() -> None:
    assert "SHA-256" in shown(status())
    assert "SHA-256" not in shown(status(trusted=True, trust="", authority_fingerprint=""))


def test_nothing_that_others_have_named_gets_at_the_terminal() -> None:
    bad = "\x1b[2J[bold]x"
    facts = status(
        running=[Kept("i", "kernel", bad, bad, "idle")], last_login=Login(NOW, bad, bad, bad),
        refused_logins=1, last_refused=Login(NOW, bad, bad),
    )  # fmt: skip
    said = shown(facts)
    assert "\x1b" not in said
    assert "[bold]x" in said


def test_watching_is_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with pytest.raises(Mistake, match="terminal"):
        screen.watch(status)


def test_the_processors_work_is_that_of_the_time_between() -> None:
    before = {"id1": 0.0}
    (one, two) = kernels.measured([kept(1), kept(2)], before, 2.0)
    # Nobody counts what has no unit.
    assert (one.cpu, two.cpu) == (None, None)


# --- refused logins ----------------------------------------------------------------------------------


def test_refused_logins_are_remembered_with_address_and_reason(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path / "refused")
    begun = time.time() - 1
    refusals.note("203.0.113.9", "wrong password")
    refusals.note("2001:db8::1", "too many attempts, wait 3 s")
    assert [(one.address, one.why) for one in refusals.since(begun)] == [
        ("203.0.113.9", "wrong password"),
        ("2001:db8::1", "too many attempts, wait 3 s"),
    ]
    assert refusals.since(time.time() + 10) == []
    assert (tmp_path / "refused").stat().st_mode & 0o777 == 0o600


def test_who_knocks_without_end_fills_no_disk(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path / "refused")
    for number in range(5000):
        refusals.note("203.0.113.9", f"attempt {number}")
    assert (tmp_path / "refused").stat().st_size < LARGEST + 100
    found = refusals.since(0)
    assert found[-1].why == "attempt 4999"
    assert [int(one.why.split()[1]) for one in found] == list(range(5000 - len(found), 5000))


def test_a_file_that_cannot_be_written_or_read_is_no_trouble(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path / "not there" / "refused")
    refusals.note("203.0.113.9", "wrong password")
    assert refusals.since(0) == []
    (tmp_path / "refused").write_bytes(b"\xff\xfe\n123\n12 a b c\n")
    assert [one.why for one in Refusals(tmp_path / "refused").since(0)] == ["b c"]
