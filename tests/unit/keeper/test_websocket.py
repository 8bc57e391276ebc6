"""Frames and compression, as RFC 6455 and RFC 7692 have them: what a browser may send, and what it gets."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest

from jupyter_remote.keeper.deflate import LEAST
from jupyter_remote.keeper.loop import Loop
from jupyter_remote.keeper.websocket import (
    BINARY,
    CLOSE,
    CONTINUED,
    DAMAGED,
    PIECE,
    PING,
    PONG,
    PROTOCOL_ERROR,
    SERVICE_RESTART,
    TEXT,
    TOO_BIG,
    Websocket,
)

FINAL, COMPRESSED = 0x80, 0x40
END = b"\x00\x00\xff\xff"
MOST = 1 << 20
LINES = b"".join(b"%05d epoch 3 loss=0.%04d\n" % (n, n * 7919 % 10_000) for n in range(20_000))


def deflated(message: bytes) -> bytes:
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packing.compress(message) + packing.flush(zlib.Z_SYNC_FLUSH)).removesuffix(END)


class Pair:
    """A connection: its end here, and the browser's. Neither waits for the other; :meth:`turn` lets both work."""

    def __init__(self, deflate: dict[str, int | bool] | None, ping: float = 0, most: float = 3600) -> None:
        ours, self.browser = socket.socketpair()
        # As little as a slow network takes.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.browser.setblocking(False)
        self.loop = Loop()
        self.messages: list[tuple[int, bytes]] = []
        self.websocket = Websocket(
            self.loop,
            ours.detach(),
            on_message=lambda opcode, message: self.messages.append((opcode, message)),
            on_pong=lambda _: None,
            on_writable=lambda: None,
            on_end=lambda: None,
            max_message=MOST,
            ping=ping,
            most=most,
            deflate=deflate,
        )
        self._received = bytearray()

    def turn(self) -> None:
        """Let the keeper's end do what it can do now, and read what it has sent."""
        self.loop.later(0, self.loop.stop)
        self.loop.run()
        self.loop._stopped = False
        with contextlib.suppress(BlockingIOError):
            self._received += self.browser.recv(1 << 20)

    def send(self, first: int, payload: bytes) -> None:
        """A frame of the browser's, masked."""
        mask = os.urandom(4)
        size = len(payload)
        length = (
            bytes((0x80 | size,)) if size < 126
            else struct.pack("!BH", 0xFE, size) if size < 1 << 16
            else struct.pack("!BQ", 0xFF, size)
        )  # fmt: skip
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        data = bytes((first,)) + length + mask + masked
        while data:
            try:
                data = data[self.browser.send(data) :]
            except BlockingIOError:
                self.turn()
        self.turn()

    def frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte, and what is in it."""
        for _ in range(100_000):
            if (found := self._take()) is not None:
                return found
            self.turn()
        raise AssertionError("no frame comes")

    def _take(self) -> tuple[int, bytes] | None:
        received = self._received
        if len(received) < 2:
            return None
        size, at = received[1], 2
        if size == 126:
            at = 4
            size = int.from_bytes(received[2:4])
        elif size == 127:
            at = 10
            size = int.from_bytes(received[2:10])
        if len(received) < at or len(received) < at + size:
            return None
        frame = received[0], bytes(received[at : at + size])
        del received[: at + size]
        return frame

    def code(self) -> int:
        """The code that the connection is closed with."""
        first, payload = self.frame()
        assert first == FINAL | CLOSE
        return int.from_bytes(payload[:2])


class Unpacking:
    """A browser's side of messages that share a context, or do not."""

    def __init__(self, pair: Pair, *, takeover: bool = True, window: int = 15) -> None:
        self._pair, self._takeover, self._window = pair, takeover, window
        self._context = zlib.decompressobj(-window)
        #: frames that the last message came in, and those that came between them
        self.frames: list[int] = []
        self.between: list[tuple[int, bytes]] = []

    def message(self) -> tuple[int, bytes]:
        """The next message: opcode and content."""
        opcode, compressed, payload, self.frames = 0, False, b"", []
        while True:
            first, part = self._pair.frame()
            if first & 0x0F >= CLOSE:
                self.between.append((first & 0x0F, part))
                continue
            if not self.frames:
                opcode, compressed = first & 0x0F, bool(first & COMPRESSED)
            else:
                assert first & 0x7F == CONTINUED
            self.frames.append(len(part))
            payload += part
            if first & FINAL:
                break
        if compressed:
            payload = self._context.decompress(payload + END)
            if not self._takeover:
                self._context = zlib.decompressobj(-self._window)
        return opcode, payload


MakePair = Callable[..., Pair]


@pytest.fixture
def connect() -> Iterator[MakePair]:
    made: list[Pair] = []

    def connect(*, window: int = 15, takeover: bool = True, agreed: bool = True, **times: float) -> Pair:
        made.append(Pair({"window": window, "takeover": takeover} if agreed else None, **times))
        return made[-1]

    yield connect
    for pair in made:
        pair.websocket.end()
        pair.browser.close()


# -- to the browser ----------------------------------------------------------------------------------


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("window", [9, 13, 15])
def test_text_arrives_whole_and_is_a_third_at_most(connect: MakePair, takeover: bool, window: int):
    pair = connect(window=window, takeover=takeover)
    browser = Unpacking(pair, takeover=takeover, window=window)
    for start in range(0, 100_000, 10_000):
        sent = LINES[start : start + 10_000]
        pair.websocket.send(TEXT, sent)
        assert browser.message() == (TEXT, sent)
        assert sum(browser.frames) < len(sent) / (3 if window > 9 else 2)


def test_messages_that_resemble_each_other_cost_next_to_nothing(connect: MakePair):
    pair = connect()
    browser = Unpacking(pair)
    for n in range(20):
        sent = b'{"header": {"msg_id": "%d", "msg_type": "status"}, ' % n + LINES[:400] + b"}"
        pair.websocket.send(BINARY, sent)
        assert browser.message() == (BINARY, sent)
    assert sum(browser.frames) < len(sent) / 10


def test_what_does_not_get_shorter_is_sent_as_it_is(connect: MakePair):
    pair = connect()
    image = b"in front of it is a little text" + os.urandom(100_000)
    for sent in (image, b"x" * (LEAST - 1)):
        pair.websocket.send(BINARY, sent)
        assert pair.frame() == (FINAL | BINARY, sent)


def test_a_long_message_is_compressed_a_piece_at_a_time(connect: MakePair):
    """Others have their turn in between, pings too, and the order stays."""
    pair = connect()
    browser = Unpacking(pair)
    image = os.urandom(100_000)
    for sent in (LINES, b"short", image, LINES[:1000]):
        pair.websocket.send(BINARY, sent)
    assert pair.websocket.unsent > len(LINES) / 2, "all was compressed at once"
    pair.websocket.send(PING, b"7")
    assert browser.message() == (BINARY, LINES)
    assert len(browser.frames) == -(-len(LINES) // PIECE)
    assert browser.between == [(PING, b"7")]
    assert [browser.message() for _ in range(3)] == [(BINARY, sent) for sent in (b"short", image, LINES[:1000])]
    pair.turn()
    assert pair.websocket.unsent == 0


def test_what_was_sent_before_the_end_arrives_before_the_end(connect: MakePair):
    pair = connect()
    pair.websocket.send(TEXT, LINES)
    pair.websocket.close(1000)
    assert pair.websocket.unsent > len(LINES) / 2, "others would have waited"
    assert Unpacking(pair).message() == (TEXT, LINES)
    assert pair.code() == 1000


def test_nothing_is_compressed_for_a_browser_that_has_not_agreed(connect: MakePair):
    pair = connect(agreed=False)
    pair.websocket.send(TEXT, LINES)
    assert pair.frame() == (FINAL | TEXT, LINES)
    pair.send(FINAL | COMPRESSED | TEXT, deflated(b"hello"))
    assert pair.code() == PROTOCOL_ERROR


# -- from the browser --------------------------------------------------------------------------------


def test_a_message_in_pieces_is_one_whatever_comes_between(connect: MakePair):
    pair = connect()
    packed = deflated(LINES[:50_000])
    pair.send(COMPRESSED | TEXT, packed[:1000])
    pair.send(FINAL | PING, b"still there?")
    pair.send(CONTINUED, packed[1000:1000])
    pair.send(FINAL | CONTINUED, packed[1000:])
    pair.send(FINAL | TEXT, b"plain")
    pair.send(FINAL | COMPRESSED | BINARY, deflated(b""))
    assert pair.messages == [(TEXT, LINES[:50_000]), (TEXT, b"plain"), (BINARY, b"")]
    assert pair.frame() == (FINAL | PONG, b"still there?")


def test_a_small_message_that_unpacks_to_very_much_is_refused_before_it_is_there(connect: MakePair):
    pair = connect()
    packed = deflated(bytes(64 << 20))
    assert len(packed) < MOST
    tracemalloc.start()
    try:
        pair.send(FINAL | COMPRESSED | BINARY, packed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pair.code() == TOO_BIG
    assert pair.messages == []
    assert peak < 20 << 20


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(FINAL | COMPRESSED | TEXT, b"\xff\xff\xff")], DAMAGED),
        ([(FINAL | COMPRESSED | PING, b"")], PROTOCOL_ERROR),
        ([(PING, b"")], PROTOCOL_ERROR),
        ([(FINAL | PING, bytes(126))], PROTOCOL_ERROR),
        ([(FINAL | CONTINUED, b"x")], PROTOCOL_ERROR),
        ([(TEXT, b"x"), (FINAL | COMPRESSED | CONTINUED, b"x")], PROTOCOL_ERROR),
        ([(TEXT, b"x"), (FINAL | TEXT, b"x")], PROTOCOL_ERROR),
        ([(FINAL | 0x20 | TEXT, b"x")], PROTOCOL_ERROR),
    ],
)
def test_what_is_not_a_message_ends_the_connection(connect: MakePair, frames: list[tuple[int, bytes]], code: int):
    pair = connect()
    for first, payload in frames:
        pair.send(first, payload)
    assert pair.code() == code
    assert pair.messages == []


def test_a_connection_that_is_old_is_opened_again(connect: MakePair):
    pair = connect(ping=0.2, most=0.3)
    began = time.monotonic()
    frame = None
    while (frame is None or frame[0] == FINAL | PING) and time.monotonic() < began + 20:
        pair.turn()
        frame = pair._take()
    assert frame is not None
    assert frame[0] == FINAL | CLOSE
    assert int.from_bytes(frame[1][:2]) == SERVICE_RESTART
    assert time.monotonic() - began >= 0.3
