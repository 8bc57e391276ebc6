"""Files are put in place together, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_remote.transaction import Transaction


class Trouble(Exception):
    pass


def test_files_are_written_with_their_mode(tmp_path: Path) -> None:
    with Transaction() as transaction:
        assert transaction.write(tmp_path / "new" / "key", "secret", 0o600)
    assert (tmp_path / "new" / "key").read_text() == "secret"
    assert (tmp_path / "new" / "key").stat().st_mode & 0o777 == 0o600


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    for expected in (True, False):
        with Transaction() as transaction:
            assert transaction.write(tmp_path / "file", "text") is expected


def test_a_failure_puts_everything_back(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("before")
    old.chmod(0o640)
    undone = []
    with pytest.raises(Trouble), Transaction() as transaction:
        transaction.write(old, "after", 0o640)
        transaction.write(tmp_path / "new", "text")
        transaction.on_rollback(lambda: undone.append(old.read_text()))
        raise Trouble
    assert old.read_text() == "before"
    assert old.stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "new").exists()
    # In reverse: what was done last was taken back first.
    assert undone == ["after"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_one_thing_that_cannot_be_taken_back_does_not_keep_the_others(tmp_path: Path) -> None:
    def impossible() -> None:
        raise OSError("no")

    with pytest.raises(Trouble), Transaction() as transaction:
        transaction.write(tmp_path / "new", "text")
        transaction.on_rollback(impossible)
        raise Trouble
    assert not (tmp_path / "new").exists()
