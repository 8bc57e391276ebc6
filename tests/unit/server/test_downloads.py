"""``files/PATH``: what a browser gets, and how it goes on after a download was broken off."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import pytest
from running import Browser, Running

from tests.client import wait_until

#: more than is sent without a thread, and than fits into a socket
LARGE = 3_000_000


@pytest.fixture
def large(shared: Running) -> Iterator[Path]:
    path = shared.home / "large.bin"
    path.write_bytes(os.urandom(LARGE))
    yield path
    path.unlink(missing_ok=True)


#: with the owner's cookie alone nobody gets a file: another site's page could have made the browser ask
REFERER = {"Referer": "https://box.test/jupyter/lab"}


def fetch(owner: Browser, path: str, **headers: str) -> httpx.Response:
    """As a page of ours does it."""
    return owner.get(path, headers=REFERER | headers)


def descriptors(server: Running) -> set[str]:
    """What the server has open below its owner's home."""
    assert server.process is not None
    found = set()
    for number in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            found.add(str(number.readlink()))
        except FileNotFoundError:
            continue
    return {name for name in found if name.startswith(str(server.home))}


def test_a_file_comes_as_it_is_with_its_length_and_a_tag(owner: Browser, large: Path):
    answer = fetch(owner, "files/large.bin")
    assert answer.status_code == 200
    assert answer.content == large.read_bytes()
    assert answer.headers["content-length"] == str(LARGE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["cache-control"] == "no-cache"
    head = owner.http.head(f"{owner.url}/files/large.bin", headers=REFERER)
    assert head.headers["content-length"] == str(LARGE)
    assert head.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537])
def test_files_of_each_size_are_complete(owner: Browser, shared: Running, size: int):
    path = shared.home / "sized"
    path.write_bytes(os.urandom(size))
    assert fetch(owner, "files/sized").content == path.read_bytes()
    # and the next one on the same connection
    assert fetch(owner, "files/sized").content == path.read_bytes()
    path.unlink()


def test_a_copy_that_is_still_good_is_not_sent_again(owner: Browser, large: Path):
    first = fetch(owner, "files/large.bin")
    tag = {"If-None-Match": first.headers["etag"]}
    assert fetch(owner, "files/large.bin", **tag).status_code == 304
    changed = {"If-Modified-Since": first.headers["last-modified"]}
    assert fetch(owner, "files/large.bin", **changed).status_code == 304
    # in the same second, and of the same length
    large.write_bytes(os.urandom(LARGE))
    assert fetch(owner, "files/large.bin", **tag).status_code == 200


@pytest.mark.parametrize(
    "asked, begin, end",
    [("0-9", 0, 10), ("1000000-", 1_000_000, LARGE), ("-100000", LARGE - 100_000, LARGE), ("5-99999999", 5, LARGE)],
)
def test_a_range_of_it(owner: Browser, large: Path, asked: str, begin: int, end: int):
    answer = fetch(owner, "files/large.bin", **{"Range": f"bytes={asked}"})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{LARGE}"
    assert answer.content == large.read_bytes()[begin:end]


def test_a_range_that_there_is_not(owner: Browser, large: Path):
    answer = fetch(owner, "files/large.bin", **{"Range": f"bytes={LARGE}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{LARGE}"


def test_the_rest_of_a_file_is_sent_only_of_the_same_one(owner: Browser, large: Path):
    before = fetch(owner, "files/large.bin").headers
    rest = {"Range": "bytes=100-"}
    same = fetch(owner, "files/large.bin", **{**rest, "If-Range": before["etag"]})
    assert (same.status_code, same.content) == (206, large.read_bytes()[100:])
    # A date cannot tell two versions of one second apart.
    dated = fetch(owner, "files/large.bin", **{**rest, "If-Range": before["last-modified"]})
    assert (dated.status_code, len(dated.content)) == (200, LARGE)
    large.write_bytes(os.urandom(LARGE))
    other = fetch(owner, "files/large.bin", **{**rest, "If-Range": before["etag"]})
    assert (other.status_code, other.content) == (200, large.read_bytes())


@pytest.mark.parametrize(
    "name", ["ein Fisch äöü.txt", "100%.txt", "a+b&c=d;e.txt", "q?#.txt", "\u202ex\U0001f41f.bin", "'\".txt"]
)
def test_names_of_all_kinds(owner: Browser, shared: Running, name: str):
    (shared.home / name).write_text(name)
    answer = fetch(owner, f"files/{quote(name)}?download=1")
    assert answer.content == name.encode()
    disposition, _, shown = answer.headers["content-disposition"].partition("; filename*=utf-8''")
    assert (disposition, unquote(shown)) == ("attachment", name)
    assert "content-disposition" not in fetch(owner, f"files/{quote(name)}").headers
    (shared.home / name).unlink()


def test_what_is_no_file_is_refused(owner: Browser, shared: Running):
    home = shared.home
    (home / "directory").mkdir()
    os.mkfifo(home / "pipe")
    (home / ".hidden").write_text("x")
    (home / "closed").write_text("x")
    (home / "closed").chmod(0)
    try:
        assert fetch(owner, "files/directory").status_code == 403
        assert fetch(owner, "files/pipe").status_code == 403
        assert fetch(owner, "files/.hidden").status_code == 404
        assert fetch(owner, "files/nothing").status_code == 404
        assert fetch(owner, "files/..%2f..%2fetc%2fpasswd").status_code == 403
        if os.geteuid() != 0:
            assert fetch(owner, "files/closed").status_code == 403
    finally:
        for name in ("pipe", ".hidden", "closed"):
            (home / name).unlink()
        (home / "directory").rmdir()


def test_a_link_is_followed_wherever_it_leads_as_the_list_of_files_does(owner: Browser, shared: Running):
    (shared.top / "elsewhere").write_text("there")
    (shared.home / "link").symlink_to(shared.top / "elsewhere")
    assert owner.api("GET", "contents/link")["content"] == "there"
    assert fetch(owner, "files/link").text == "there"
    (shared.home / "link").unlink()


def test_nobody_gets_a_file_without_a_login(visitor: Browser, large: Path):
    for headers in ({}, {"Range": "bytes=0-10"}, {"If-None-Match": "*"}):
        answer = visitor.get("files/large.bin", headers=REFERER | headers)
        assert answer.status_code == 403
        assert len(answer.content) < 200
        assert "etag" not in answer.headers


def test_a_page_of_another_site_gets_nothing_with_the_owners_cookie(owner: Browser, large: Path):
    assert owner.get("files/large.bin", headers={"Referer": "https://elsewhere.test/"}).status_code == 403


def _begin(owner: Browser, path: str) -> socket.socket:
    """Ask for a file, and read no more than the beginning."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(owner.path))
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in owner.http.cookies.jar)
    connection.sendall(
        f"GET /jupyter/{path} HTTP/1.1\r\nHost: box.test\r\nCookie: {cookies}\r\n"
        f"Referer: {REFERER['Referer']}\r\n"
        "X-Real-IP: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n".encode()
    )
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def _rest(connection: socket.socket) -> bytes:
    received = []
    while piece := connection.recv(1 << 20):
        received.append(piece)
    return b"".join(received)


def test_a_file_that_becomes_shorter_ends_in_the_middle(owner: Browser, large: Path):
    connection = _begin(owner, "files/large.bin")
    os.truncate(large, 1_000_000)
    # The connection ends before what was announced has come: no browser takes that for all.
    assert len(_rest(connection)) < LARGE
    connection.close()
    assert fetch(owner, "files/large.bin").headers["content-length"] == "1000000"


def test_a_file_that_is_replaced_is_sent_to_its_end(owner: Browser, large: Path):
    old = large.read_bytes()
    connection = _begin(owner, "files/large.bin")
    large.with_name("new").write_bytes(b"x" * LARGE)
    large.with_name("new").replace(large)
    received = b""
    while len(received.partition(b"\r\n\r\n")[2]) < LARGE:
        received += connection.recv(1 << 20)
    assert received.endswith(old)
    connection.close()


def test_a_download_that_is_cancelled_leaves_nothing(owner: Browser, shared: Running, large: Path):
    connections = [_begin(owner, "files/large.bin") for _ in range(5)]
    assert str(large) in descriptors(shared)
    for connection in connections:
        connection.close()
    wait_until(lambda: not descriptors(shared), lambda: f"still open: {descriptors(shared)}")


def test_other_requests_are_answered_while_downloads_wait(owner: Browser, large: Path):
    connections = [_begin(owner, "files/large.bin") for _ in range(40)]
    assert owner.get("api/status").status_code == 200
    assert all(len(_rest_of(connection)) == LARGE for connection in connections)
    for connection in connections:
        connection.close()


def _rest_of(connection: socket.socket) -> bytes:
    received = b""
    while len(received.partition(b"\r\n\r\n")[2]) < LARGE:
        received += connection.recv(1 << 20)
    return received.partition(b"\r\n\r\n")[2]


def test_a_download_does_not_hold_up_the_end_of_the_server(server: Running):
    (server.home / "large.bin").write_bytes(bytes(LARGE))
    server.start().wait_until_ready()
    with server.owner() as owner:
        connection = _begin(owner, "files/large.bin")
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 10
        assert len(_rest(connection)) < LARGE
        connection.close()
