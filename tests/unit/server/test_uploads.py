"""Uploads in pieces, as JupyterLab sends them: a file is all there, or as it was before."""

from __future__ import annotations

import base64
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running import Browser, Running

from tests.client import wait_until

PIECE = 1 << 20


@pytest.fixture
def home(shared: Running) -> Iterator[Path]:
    """A directory below the owner's, empty."""
    directory = shared.home / "up"
    directory.mkdir()
    yield directory
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def pieces(content: bytes) -> list[tuple[int, bytes]]:
    """With their numbers: 1, 2, … and -1 for the last one."""
    cut = [content[begin : begin + PIECE] for begin in range(0, len(content), PIECE)]
    return [*enumerate(cut[:-1], 1), (-1, cut[-1])]


def send(owner: Browser, path: str, number: int, piece: bytes) -> httpx.Response:
    body = {
        "type": "file",
        "format": "base64",
        "name": path.rpartition("/")[2],
        "chunk": number,
        "content": base64.b64encode(piece).decode(),
    }
    return owner.send("PUT", f"api/contents/{path}", body)


def unfinished(server: Running) -> list[str]:
    """Files that the server has open below the owner's home, and that nobody sees."""
    assert server.process is not None
    links = [
        str(number.readlink()) for number in Path(f"/proc/{server.process.pid}/fd").iterdir() if number.is_symlink()
    ]
    return [link for link in links if link.startswith(str(server.home))]


def test_a_file_appears_when_its_last_piece_has_come(owner: Browser, shared: Running, home: Path):
    content = os.urandom(3 * PIECE + 5)
    for number, piece in pieces(content):
        assert list(home.iterdir()) == []
        answer = send(owner, "up/new.bin", number, piece)
        assert answer.is_success
        model = answer.json()
        assert (model["path"], model["type"], model["content"]) == ("up/new.bin", "file", None)
    assert model["size"] == len(content)
    assert (home / "new.bin").read_bytes() == content
    assert [path.name for path in home.iterdir()] == ["new.bin"]
    assert (home / "new.bin").stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert unfinished(shared) == []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_until_then_the_old_file_is_what_there_is_and_its_mode_stays(owner: Browser, home: Path):
    old = home / "old.bin"
    old.write_bytes(b"the good one")
    old.chmod(0o640)
    content = os.urandom(2 * PIECE + 1)
    for number, piece in pieces(content):
        assert old.read_bytes() == b"the good one"
        assert owner.api("GET", "contents/up/old.bin")["content"] == "the good one"
        assert send(owner, "up/old.bin", number, piece).status_code == 200
    assert old.read_bytes() == content
    assert old.stat().st_mode & 0o777 == 0o640


def test_an_upload_that_is_broken_off_leaves_the_old_file_and_nothing_else(owner: Browser, shared: Running, home: Path):
    (home / "old.bin").write_bytes(b"the good one")
    for number in range(1, 4):
        assert send(owner, "up/old.bin", number, os.urandom(PIECE)).is_success
    assert [path.name for path in home.iterdir()] == ["old.bin"]
    assert (home / "old.bin").read_bytes() == b"the good one"
    # Another version of it, whose end could be the other one's as well: nothing is guessed.
    content = os.urandom(PIECE + 1)
    first, last = pieces(content)
    assert send(owner, "up/old.bin", *first).is_success
    assert send(owner, "up/old.bin", *last).status_code == 409
    assert (home / "old.bin").read_bytes() == b"the good one"
    assert unfinished(shared) == []
    assert send(owner, "up/old.bin", *first).is_success
    assert send(owner, "up/old.bin", *last).is_success
    assert (home / "old.bin").read_bytes() == content
    assert unfinished(shared) == []


def test_the_same_file_once_more_after_an_upload_that_was_broken_off(owner: Browser, home: Path):
    content = os.urandom(5 * PIECE)
    for number, piece in pieces(content)[:3]:
        assert send(owner, "up/again.bin", number, piece).is_success
    for number, piece in pieces(content):
        assert send(owner, "up/again.bin", number, piece).is_success
    assert (home / "again.bin").read_bytes() == content


def test_what_was_sent_is_not_kept(owner: Browser, shared: Running, home: Path):
    """Of requests that have been answered: Python collects handlers late, and bodies were kept as long."""
    assert shared.process is not None
    status = Path(f"/proc/{shared.process.pid}/status")

    def resident() -> int:
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmRSS"))

    piece = os.urandom(PIECE)
    for number in range(1, 11):
        assert send(owner, "up/long.bin", number, piece).is_success
    before = resident()
    for number in range(11, 111):
        assert send(owner, "up/long.bin", number, piece).is_success
    assert send(owner, "up/long.bin", -1, piece).is_success
    assert (home / "long.bin").stat().st_size == 111 * PIECE
    assert resident() - before < 20 * PIECE


def test_of_two_uploads_of_one_name_the_later_one_counts(owner: Browser, home: Path):
    earlier, later = pieces(os.urandom(6 * PIECE)), pieces(content := os.urandom(6 * PIECE))
    for number, piece in earlier[:3]:
        assert send(owner, "up/two.bin", number, piece).is_success
    assert send(owner, "up/two.bin", *later[0]).is_success
    refused = send(owner, "up/two.bin", *earlier[3])
    assert refused.status_code == 409
    assert "Another upload of up/two.bin" in refused.json()["message"]
    for number, piece in later[1:]:
        assert send(owner, "up/two.bin", number, piece).is_success
    assert (home / "two.bin").read_bytes() == content


@pytest.mark.parametrize("begun", [1, 2, 3])
@pytest.mark.parametrize("lengths", [(5, 5), (5, 2), (2, 5), (3, 4)])
def test_two_uploads_that_take_turns_are_never_mixed(owner: Browser, home: Path, begun: int, lengths: tuple[int, int]):
    """Each stops at its first refusal, as JupyterLab does. What there is then is one of them, or the old file."""
    (home / "mixed.bin").write_bytes(b"the good one")
    contents = [os.urandom(length * PIECE) for length in lengths]
    left = [pieces(content) for content in contents]
    turns = [0] * begun + [1, 0] * 12
    complete = []
    for turn in turns:
        if not left[turn]:
            continue
        if send(owner, "up/mixed.bin", *left[turn].pop(0)).is_success:
            complete += [contents[turn]] if not left[turn] else []
        else:
            left[turn] = []
    assert (home / "mixed.bin").read_bytes() == (complete[-1] if complete else b"the good one")
    assert [path.name for path in home.iterdir()] == ["mixed.bin"]


def test_two_uploads_of_the_same_content_are_one(owner: Browser, home: Path):
    content = os.urandom(4 * PIECE)
    left = [pieces(content), pieces(content)]
    answers = []
    for turn in [0, 1] * 4:
        if left[turn]:
            answer = send(owner, "up/same.bin", *left[turn].pop(0))
            answers.append(answer.status_code)
            left[turn] = left[turn] if answer.is_success else []
    assert (home / "same.bin").read_bytes() == content
    assert answers.count(409) == 1


def test_pieces_without_a_beginning_and_out_of_order_are_refused(owner: Browser, home: Path):
    assert send(owner, "up/none.bin", 2, b"x").status_code == 409
    assert send(owner, "up/none.bin", -1, b"x").status_code == 409
    assert send(owner, "up/none.bin", 1, b"x").is_success
    assert send(owner, "up/none.bin", 3, b"x").status_code == 409
    assert send(owner, "up/none.bin", -1, b"y").is_success
    assert (home / "none.bin").read_bytes() == b"xy"
    for number in (0, -2, 1.5, True, "1"):
        body = {"type": "file", "format": "text", "chunk": number, "content": "x"}
        assert owner.send("PUT", "api/contents/up/none.bin", body).status_code == 400


def test_pieces_that_are_none_are_refused(owner: Browser, home: Path):
    for wrong in ({"type": "notebook"}, {"format": "json"}, {"content": None}, {"content": "x"}, {"content": {}}):
        body = {"type": "file", "format": "base64", "chunk": 1, "content": "eHh4", **wrong}
        assert owner.send("PUT", "api/contents/up/no.bin", body).status_code == 400, wrong
    assert list(home.iterdir()) == []


def test_what_may_not_be_uploaded_to_is_said_at_the_first_piece(owner: Browser, home: Path, shared: Running):
    assert send(owner, "up", 1, b"x").status_code == 400
    assert send(owner, "nothing/here.bin", 1, b"x").status_code == 404
    assert send(owner, "up/.hidden", 1, b"x").status_code == 400
    assert send(owner, "../outside", 1, b"x").status_code == 404
    assert list(home.iterdir()) == []
    assert unfinished(shared) == []


def test_only_a_file_is_replaced(owner: Browser, home: Path):
    os.mkfifo(home / "pipe")
    assert send(owner, "up/pipe", 1, b"x").status_code == 400
    assert (home / "pipe").is_fifo()


def test_the_new_file_is_for_those_whom_the_old_one_was_for(owner: Browser, home: Path):
    old = home / "shared.bin"
    old.write_bytes(b"the good one")
    # Version 2; the owner rw, one user rw, the group nothing, at most rw, others nothing: ls says 0660.
    entries = [(0x01, 6, -1), (0x02, 6, os.getuid()), (0x04, 0, -1), (0x10, 6, -1), (0x20, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(old, "system.posix_acl_access", access)
    os.setxattr(old, "user.note", b"kept")
    assert old.stat().st_mode & 0o777 == 0o660
    for number, piece in pieces(content := os.urandom(PIECE + 1)):
        assert send(owner, "up/shared.bin", number, piece).is_success
    assert old.read_bytes() == content
    assert os.getxattr(old, "system.posix_acl_access") == access
    assert os.getxattr(old, "user.note") == b"kept"


def test_an_upload_to_a_link_goes_where_it_leads(owner: Browser, home: Path):
    (home / "link").symlink_to("real.bin")
    for number, piece in pieces(content := os.urandom(PIECE + 1)):
        assert send(owner, "up/link", number, piece).is_success
    assert (home / "link").is_symlink()
    assert (home / "real.bin").read_bytes() == content


@pytest.mark.parametrize("name", ["ein Fisch äöü.bin", "100%.bin", "x" * 255, "'\";.bin"])
def test_names_of_all_kinds(owner: Browser, home: Path, name: str):
    for number, piece in pieces(content := os.urandom(PIECE + 1)):
        assert send(owner, f"up/{name}".replace("%", "%25"), number, piece).is_success
    assert (home / name).read_bytes() == content


def test_nobody_uploads_without_a_login(visitor: Browser, home: Path):
    assert send(visitor, "up/x.bin", 1, b"x").status_code == 403
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_in_the_midst_leaves_the_old_file(server: Running, how: signal.Signals):
    server.start().wait_until_ready()
    file = server.home / "kept.bin"
    file.write_bytes(b"the good one")
    with server.owner() as owner:
        for number in range(1, 4):
            assert send(owner, "kept.bin", number, os.urandom(PIECE)).is_success
        server.signal(how)
        server.wait()
        assert file.read_bytes() == b"the good one"
        assert [path.name for path in server.home.iterdir() if "upload" in path.name] == []
        server.start().wait_until_ready()
        refused = send(owner, "kept.bin", 4, b"x")
        assert refused.status_code == 409
        assert "Upload it once more" in refused.json()["message"]
        for number, piece in pieces(content := os.urandom(PIECE + 1)):
            assert send(owner, "kept.bin", number, piece).is_success
        assert file.read_bytes() == content


def test_uploads_of_many_files_at_once(owner: Browser, shared: Running, home: Path):
    contents = {f"many{number}.bin": os.urandom(2 * PIECE) for number in range(20)}
    for turn in range(2):
        for name, content in contents.items():
            assert send(owner, f"up/{name}", *pieces(content)[turn]).is_success
    wait_until(lambda: not unfinished(shared), "files are still open")
    assert all((home / name).read_bytes() == content for name, content in contents.items())
