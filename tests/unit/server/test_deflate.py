"""Compressed websockets: which offer of a browser's is taken, and that a browser gets everything then."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from running import SOURCES, Running
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from jupyter_remote.passes import TOKEN, Pass, Passes, digest_of, new_secret
from jupyter_remote.server.deflate import accepted
from tests.client import PATIENCE

ALWAYS = "permessage-deflate; client_no_context_takeover"
Answer = TypeVar("Answer")


@pytest.mark.parametrize(
    ("offers", "answer", "window", "takeover"),
    [
        # Chromium and Safari, and Firefox.
        ("permessage-deflate; client_max_window_bits", ALWAYS, 15, True),
        ("permessage-deflate", ALWAYS, 15, True),
        (
            "Permessage-Deflate; server_no_context_takeover; server_max_window_bits=10",
            f"{ALWAYS}; server_no_context_takeover; server_max_window_bits=10",
            10,
            False,
        ),
        ('x-other; a="b,c;d", permessage-deflate; server_max_window_bits="12"', f"{ALWAYS}; server_max_window_bits=12",
         12, True),
        # A window that zlib cannot have; the browser would do without, too.
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ALWAYS, 15, True),
    ],
)  # fmt: skip
def test_the_first_offer_that_we_can_keep_to_is_taken(offers: str, answer: str, window: int, takeover: bool):
    assert accepted(offers) == (answer, {"window": window, "takeover": takeover})


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; something_new",
        'permessage-deflate; "',
        ",;,=;",
    ],
)
def test_no_other_offer_is_taken(offers: str):
    assert accepted(offers) is None


# -- with another implementation, tornado's ----------------------------------------------------------


@pytest.fixture
def server(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server whose kernels outlive it, not started."""
    running = make_server().keep_kernels()
    yield running
    running.close()


class Visitor:
    """Connects with a token, and offers compression."""

    def __init__(self, server: Running) -> None:
        self.address = f"127.0.0.1:{server.listen_on_port()}/jupyter"
        self._token = new_secret(TOKEN)
        self._headers = {"Authorization": f"token {self._token}"}
        Passes(server.state / "tokens").add(Pass(digest_of(self._token), time.time(), name="script"))

    def start(self, what: str) -> dict[str, str]:
        """Start a kernel or a terminal: ``kernels``, ``terminals``."""
        answer = httpx.post(f"http://{self.address}/api/{what}", json={}, headers=self._headers, timeout=PATIENCE)
        answer.raise_for_status()
        return dict(answer.json())

    async def connect(self, path: str, *, offers: bool = True) -> WebSocketClientConnection:
        """A websocket, which offers compression or does not."""
        request = HTTPRequest(f"ws://{self.address}/{path}", headers=self._headers)
        return await websocket_connect(request, compression_options={} if offers else None)


def cell(code: str) -> str:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s", "version": "5"}
    content = {"code": code, "silent": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    return json.dumps({**message, "buffers": []})


async def _printed(connection: WebSocketClientConnection, code: str) -> str:
    await connection.write_message(cell(code))
    text = ""
    while True:
        answer = await connection.read_message()
        assert answer is not None, "the connection was closed"
        message = json.loads(answer)
        if message["msg_type"] == "stream":
            text += message["content"]["text"]
        if message["msg_type"] == "execute_reply":
            return text


async def _typed(connection: WebSocketClientConnection, line: str, end: str) -> str:
    await connection.write_message(json.dumps(["stdin", line]))
    text = ""
    while end not in text:
        answer = await connection.read_message()
        assert answer is not None, "the connection was closed"
        kind, *values = json.loads(answer)
        text += values[0] if kind == "stdout" else ""
    return text


def within_time(work: Awaitable[Answer]) -> Answer:
    async def patiently() -> Answer:
        return await asyncio.wait_for(work, PATIENCE)

    return asyncio.run(patiently())


EXTENSIONS = "Sec-WebSocket-Extensions"


def test_what_a_kernel_and_a_terminal_print_arrives_whole(server: Running):
    visitor = Visitor(server)
    server.start().wait_until_ready()
    kernel, terminal = visitor.start("kernels")["id"], visitor.start("terminals")["name"]

    async def visit() -> None:
        channels = await visitor.connect(f"api/kernels/{kernel}/channels?session_id=s")
        assert channels.headers[EXTENSIONS] == ALWAYS
        # The request is compressed too.
        printed = await _printed(channels, f"# {'comment ' * 1000}\nfor n in range(30000): print(n)")
        assert printed == "".join(f"{n}\n" for n in range(30_000))
        channels.close()
        shell = await visitor.connect(f"terminals/websocket/{terminal}")
        assert shell.headers[EXTENSIONS] == ALWAYS
        seen = await _typed(shell, "seq 100''000 103000; echo d''one\r", "\r\ndone")
        numbers = [int(line) for line in seen.split() if line.isdigit() and len(line) == 6]
        assert numbers == list(range(100_000, 103_001))
        shell.close()
        stock = await visitor.connect(f"api/kernels/{kernel}/channels?session_id=t", offers=False)
        assert EXTENSIONS not in stock.headers
        assert await _printed(stock, "print('x' * 1000)") == "x" * 1000 + "\n"
        stock.close()

    within_time(visit())


def test_a_keeper_of_before_is_not_asked_to_compress(server: Running, tmp_path: Path):
    visitor = Visitor(server)
    sources = tmp_path / "before"
    shutil.copytree(SOURCES / "jupyter_remote", sources / "jupyter_remote", ignore=shutil.ignore_patterns("*.pyc"))
    main = sources / "jupyter_remote/keeper/__main__.py"
    assert main.read_text().count('            "deflate": True,\n') == 1
    main.write_text(main.read_text().replace('            "deflate": True,\n', ""))
    server.take_sources(sources).start().wait_until_ready()
    kernel = visitor.start("kernels")["id"]
    server.stop()
    server.take_sources(SOURCES).start().wait_until_ready()

    async def visit() -> None:
        channels = await visitor.connect(f"api/kernels/{kernel}/channels?session_id=s")
        assert EXTENSIONS not in channels.headers
        assert await _printed(channels, "print('x' * 1000)") == "x" * 1000 + "\n"
        channels.close()

    within_time(visit())
