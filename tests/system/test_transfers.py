"""Big files up and down, through https: with little memory, and nothing half done when something breaks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from lab.box import Box, Person

from tests.client import Client, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

MIB = 1 << 20
#: with the owner's cookie alone nobody gets a file: another site's page could have made the browser ask
REFERER = {"Referer": "https://box.test/jupyter/lab"}
HTTP = ["--http1.1", "--http2"]
NAMES = [
    "ein Fisch äöü.txt",
    "100%.txt",
    "a+b&c=d;e.txt",
    "q?#.txt",
    "\u202ex\U0001f41f.bin",
    "%2e%2e.txt",
    "[x]{y}|^`'\".txt",
    "back\\slash.txt",
]


class Memory:
    """How much the server, and each process of Apache, has grown to since this was made."""

    def __init__(self, box: Box) -> None:
        self.box = box
        for pid in self._processes():
            # proc_pid_clear_refs(5): the peak begins anew.
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.before = {pid: self._of(pid, "VmRSS") for pid in self._processes()}

    def _processes(self) -> list[int]:
        wanted = ("jupyter_remote.server", "apache2")
        return [one.pid for one in self.box.processes() if any(name in " ".join(one.argv) for name in wanted)]

    def _of(self, pid: int, what: str) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))

    def most(self) -> int:
        """The growth of whichever has grown most, in bytes. Those that came meanwhile have grown from nothing."""
        return max(self._of(pid, "VmHWM") - self.before.get(pid, 0) for pid in self._processes())


@pytest.fixture
def token(alice: Person) -> str:
    return alice.sh("jupyter-remote token create transfers").split()[-1]


@pytest.fixture
def big(box: Box, alice: Person) -> Path:
    """600 MiB, most of them not on any disk."""
    alice.sh("truncate -s 600M big.bin")
    path = box.path("/home/alice/big.bin")
    with path.open("r+b") as file:
        for place in range(0, 600 * MIB, 7_654_321):
            file.seek(place)
            file.write(place.to_bytes(8))
    return path


def open_files(box: Box) -> list[str]:
    """What the server has open in its owner's home."""
    server = next(one.pid for one in box.processes() if "jupyter_remote.server" in " ".join(one.argv))
    found = []
    for number in Path(f"/proc/{server}/fd").iterdir():
        try:
            found.append(str(number.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in found if "/home/alice/" in name]


def curl(box: Box, token: str, path: str, options: str = "", end: str = "") -> str:
    return box.sh(
        f"curl -sk {options} -H 'Authorization: token {token}' --resolve box.test:443:127.0.0.1"
        f" 'https://box.test/jupyter/files/{path}' {end}",
        timeout=300,
    )


def pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
    """As JupyterLab cuts a file: 1, 2, … and -1 for the last one."""
    for begin in range(0, len(content), MIB):
        yield (begin // MIB + 1 if begin + MIB < len(content) else -1), content[begin : begin + MIB]


def piece_of(number: int, piece: bytes) -> dict[str, object]:
    return {"type": "file", "format": "base64", "chunk": number, "content": base64.b64encode(piece).decode()}


# -- down ------------------------------------------------------------------------------------------


@pytest.mark.either_release
@pytest.mark.parametrize("http", HTTP)
def test_a_big_file_comes_complete_and_takes_no_memory(box: Box, big: Path, token: str, http: str):
    curl(box, token, "big.bin", f"{http} -r 0-9999999", "> /dev/null")
    memory = Memory(box)
    received = curl(box, token, "big.bin", http, "| sha256sum").split()[0]
    with big.open("rb") as file:
        assert received == hashlib.file_digest(file, "sha256").hexdigest()
    assert memory.most() < 30 * MIB


@pytest.mark.either_release
@pytest.mark.parametrize("http", HTTP)
def test_browsers_that_take_their_time_or_give_up_cost_nothing(box: Box, big: Path, token: str, http: str):
    curl(box, token, "big.bin", f"{http} -r 0-9999999", "> /dev/null")
    memory = Memory(box)
    give_up = f"{http} --limit-rate 1M --max-time 3 -o /dev/null"
    one = f"curl -sk {give_up} -H 'Authorization: token {token}' https://localhost/jupyter/files/big.bin"
    box.sh(f"for n in 1 2 3 4 5 6 7 8 9 10; do {one} & done; wait")
    assert memory.most() < 30 * MIB
    wait_until(lambda: not open_files(box), lambda: f"still open: {open_files(box)}")


@pytest.mark.either_release
def test_a_download_goes_on_after_a_restart_of_the_server(box: Box, big: Path, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    received = bytearray()
    with (
        pytest.raises(httpx.HTTPError),
        visitor.http.stream("GET", f"{visitor.url}/files/big.bin", headers=REFERER) as answer,
    ):
        tag, length = answer.headers["etag"], int(answer.headers["content-length"])
        assert length == big.stat().st_size
        for piece in answer.iter_raw(MIB):
            received += piece
            if len(received) == 20 * MIB:
                box.sh("systemctl restart jupyter-remote")
    assert 20 * MIB <= len(received) < length
    rest = {**REFERER, "Range": f"bytes={len(received)}-", "If-Range": tag}
    with visitor.http.stream("GET", f"{visitor.url}/files/big.bin", headers=rest) as answer:
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {len(received)}-{length - 1}/{length}"
        digest = hashlib.sha256(received)
        for piece in answer.iter_raw():
            digest.update(piece)
    with big.open("rb") as file:
        assert digest.digest() == hashlib.file_digest(file, "sha256").digest()
    # Another file by now: all of it, and not the rest.
    big.write_bytes(b"x" * MIB)
    answer = visitor.get("files/big.bin", headers={**rest, "Range": "bytes=10-"})
    assert (answer.status_code, answer.content) == (200, b"x" * MIB)


@pytest.mark.either_release
@pytest.mark.parametrize("http", HTTP)
def test_a_file_that_becomes_shorter_is_no_complete_download(box: Box, big: Path, token: str, http: str):
    end = "> /tmp/received & sleep 1; truncate -s 400M /home/alice/big.bin; wait %1; echo ended $?"
    # 18 and 92: the transfer ended with data outstanding, a stream was not closed cleanly
    assert curl(box, token, "big.bin", f"{http} --limit-rate 100M", end) in ("ended 18", "ended 92")


@pytest.mark.either_release
def test_text_comes_as_it_is_so_that_the_rest_can_be_fetched(box: Box, alice: Person, client: MakeClient):
    box.write("/home/alice/text.txt", "word " * 100_000, owner="alice")
    visitor = client(box).login(PASSWORD)
    whole = visitor.get("files/text.txt", headers={**REFERER, "Accept-Encoding": "gzip, br"})
    assert "content-encoding" not in whole.headers
    assert whole.headers["content-length"] == "500000"
    rest = {**REFERER, "Accept-Encoding": "gzip, br", "Range": "bytes=400000-", "If-Range": whole.headers["etag"]}
    answer = visitor.get("files/text.txt", headers=rest)
    assert (answer.status_code, answer.content) == (206, whole.content[400_000:])
    assert visitor.get("files/text.txt", headers={**REFERER, "If-None-Match": whole.headers["etag"]}).status_code == 304


@pytest.mark.either_release
def test_names_of_all_kinds_come_through_apache(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    for name in NAMES:
        body = {"type": "file", "format": "text", "content": name}
        assert visitor.send("PUT", f"api/contents/{quote(name)}", body).is_success, name
        assert box.path(f"/home/alice/{name}").read_text() == name
        answer = visitor.get(f"files/{quote(name)}?download=1", headers=REFERER)
        assert (answer.status_code, answer.text) == (200, name)
        assert answer.headers["content-disposition"].startswith("attachment; filename*=utf-8''")


def test_strangers_directories_and_hidden_files_get_nothing(box: Box, big: Path, alice: Person, client: MakeClient):
    box.write("/home/alice/.secret", "hidden", owner="alice")
    alice.sh("mkdir directory; mkfifo pipe")
    stranger, visitor = client(box), client(box).login(PASSWORD)
    for headers in ({}, {"Range": "bytes=0-10"}):
        answer = stranger.get("files/big.bin", headers=REFERER | headers)
        assert answer.status_code == 403
        assert len(answer.content) < 200
    for path, status in (
        ("directory", 403),
        ("pipe", 403),
        (".secret", 404),
        ("nothing", 404),
        ("%2e%2e/%2e%2e/etc/passwd", 404),
    ):
        assert visitor.get(f"files/{path}", headers=REFERER).status_code == status, path
    assert open_files(box) == []


# -- up --------------------------------------------------------------------------------------------


@pytest.mark.either_release
def test_a_big_upload_takes_no_memory_and_is_there_at_its_end(box: Box, alice: Person, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    box.write("/home/alice/up.bin", "the good one", owner="alice")
    old = box.path("/home/alice/up.bin")
    content = os.urandom(MIB) * 200 + b"end"
    warm = visitor.send("PUT", "api/contents/warm.bin", piece_of(1, content[:MIB]))
    assert warm.is_success
    memory = Memory(box)
    for number, piece in pieces(content):
        assert old.read_text() == "the good one"
        visitor.send("PUT", "api/contents/up.bin", piece_of(number, piece)).raise_for_status()
    assert hashlib.sha256(old.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert memory.most() < 40 * MIB
    assert old.stat().st_uid == box.path("/home/alice").stat().st_uid


@pytest.mark.either_release
def test_a_connection_that_breaks_in_the_midst_leaves_the_old_file(box: Box, alice: Person, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    box.write("/home/alice/up.bin", "the good one", owner="alice")
    content = os.urandom(3 * MIB)
    body = json.dumps(piece_of(2, content[MIB : 2 * MIB])).encode()
    visitor.send("PUT", "api/contents/up.bin", piece_of(1, content[:MIB])).raise_for_status()
    _send_half(visitor, "api/contents/up.bin", body)
    # also a whole file, which is one request
    _send_half(
        visitor, "api/contents/up.bin", json.dumps({"type": "file", "format": "text", "content": "x" * MIB}).encode()
    )
    assert box.path("/home/alice/up.bin").read_text() == "the good one"
    assert alice.sh("ls -A | grep -i upload || true") == ""
    # The piece itself is sent again by whoever goes on.
    for number, piece in list(pieces(content))[1:]:
        visitor.send("PUT", "api/contents/up.bin", piece_of(number, piece)).raise_for_status()
    assert box.path("/home/alice/up.bin").read_bytes() == content


def _send_half(visitor: Client, path: str, body: bytes) -> None:
    """Begin a request, and hang up."""
    plain = socket.create_connection((visitor.address, 443), timeout=60)
    with visitor.context.wrap_socket(plain, server_hostname="box.test") as connection:
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.http.cookies.jar)
        token = next(cookie.value for cookie in visitor.http.cookies.jar if cookie.name == "_xsrf")
        head = (
            f"PUT /jupyter/{path} HTTP/1.1\r\nHost: box.test\r\nCookie: {cookies}\r\nX-XSRFToken: {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[: len(body) // 2])
        try:
            connection.unwrap()
        except (ssl.SSLError, OSError):
            return


@pytest.mark.one_release
def test_an_upload_writes_what_the_owner_may_write_and_nothing_else(box: Box, alice: Person, client: MakeClient):
    alice.sh("echo good > locked; chmod 444 locked; echo old > given; echo old > read-only")
    box.sh("mkdir /home/alice/data && cd /home/alice && mv given read-only data && chown root:root data/read-only")
    visitor = client(box).login(PASSWORD)

    def upload(path: str) -> int:
        for number, piece in ((1, b"new " * (MIB // 4)), (-1, b"end")):
            answer = visitor.send("PUT", f"api/contents/{path}", piece_of(number, piece))
            if not answer.is_success:
                break
        return answer.status_code

    assert upload("locked") == 403
    assert upload("data/read-only") == 403
    assert upload("data/new") == 403
    # Its directory is root's, and it is alice's.
    assert upload("data/given") == 200
    assert alice.sh("cat locked data/read-only; tail -c 3 data/given; stat -c ' %U %s' data/given").split("\n") == [
        "good",
        "old",
        f"end alice {MIB + 3}",
    ]
    assert alice.sh("ls -A data").split() == ["given", "read-only"]


@pytest.mark.either_release
def test_a_full_disk_leaves_the_old_file(box: Box, alice: Person, client: MakeClient):
    box.sh("mkdir /home/alice/small && mount -t tmpfs -o size=4m,mode=777 tmpfs /home/alice/small")
    box.sh("systemctl restart jupyter-remote")
    box.write("/home/alice/small/up.bin", "the good one", owner="alice")
    visitor = client(box).login(PASSWORD)
    answers = [
        visitor.send("PUT", "api/contents/small/up.bin", piece_of(number, os.urandom(MIB))) for number in range(1, 7)
    ]
    refused = next(answer for answer in answers if not answer.is_success)
    assert refused.status_code == 500
    assert "No space left" in refused.json()["message"]
    assert box.read("/home/alice/small/up.bin") == "the good one"
    assert box.sh("ls -A /home/alice/small").split() == ["up.bin"]
    # and what it took is free again
    assert int(box.sh("df --output=used /home/alice/small").split()[-1]) < 100


@pytest.mark.either_release
def test_a_notebook_is_saved_in_one_request_that_may_be_large(box: Box, alice: Person, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    output = {"output_type": "stream", "name": "stdout", "text": "x" * (64 * MIB)}
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "", "execution_count": 1, "outputs": [output]}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    visitor.send("PUT", "api/contents/large.ipynb", {"type": "notebook", "content": notebook}).raise_for_status()
    saved = json.loads(box.read("/home/alice/large.ipynb"))["cells"][0]["outputs"][0]["text"]
    assert len("".join(saved)) == 64 * MIB
