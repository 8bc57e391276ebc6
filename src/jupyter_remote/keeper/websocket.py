"""RFC 6455 from the server's side, after the handshake: frames on a socket that was handed to us.

One extension, if it was agreed on: compression. A library for this would cost each kernel more memory than it needs
itself.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .deflate import Deflate, inflated
from .loop import READ, WRITE, Loop

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
#: Bits of a frame's first byte: it is the message's last; the message is compressed; of extensions that nobody knows.
_FINAL, _COMPRESSED, _UNKNOWN = 0x80, 0x40, 0x30

#: Close codes: the end of this connection's purpose, going away, a protocol error, damaged, too big.
NORMAL, GOING_AWAY, PROTOCOL_ERROR, DAMAGED, TOO_BIG = 1000, 1001, 1002, 1007, 1009
#: Jupyter's clients connect again by themselves.
SERVICE_RESTART = 1012

#: Bytes that are compressed in one go; between two of them the others get their turn.
PIECE = 1 << 16
#: Bytes of the longest control frame.
_SHORT = 125

#: Seconds that the other side gets to answer our close frame.
PATIENCE = 2.0


class Websocket:
    """One connection.

    :param file: the descriptor; ours from now on.
    :param on_message: called with (opcode, message).
    :param on_pong: called with the payload of each pong.
    :param on_writable: called when everything that was sent is in the kernel's buffer.
    :param on_end: called once, when the connection is gone.
    :param max_message: bytes of the longest message that is accepted.
    :param ping: seconds between pings; silence of three times as long ends the connection. 0: none.
    :param most: seconds after which the browser has to connect again. A process of Apache's that is to end (at each
        reload, thus every day) stays while it has one connection, and keeps one of Apache's few places: with as many of
        them as there are places no site of the machine is answered any more (ServerLimit, 16).
    :param deflate: what was agreed on with the browser (:mod:`.wire`); None: nothing is compressed.
    """

    def __init__(
        self,
        loop: Loop,
        file: int,
        *,
        on_message: Callable[[int, bytes], None],
        on_pong: Callable[[bytes], None],
        on_writable: Callable[[], None],
        on_end: Callable[[], None],
        max_message: int,
        ping: float,
        most: float,
        deflate: dict[str, Any] | None = None,
    ) -> None:
        self._deflate = None if deflate is None else Deflate(deflate)
        self._loop = loop
        self._socket = socket.socket(fileno=file)
        self._socket.setblocking(False)
        self._file = file
        self._on_message, self._on_pong = on_message, on_pong
        self._on_writable, self._on_end = on_writable, on_end
        self._max_message = max_message
        self._ping = ping
        self._received = bytearray()
        self._out = bytearray()
        #: messages that wait for what is in front of them: opcode, payload, whether to compress it
        self._waiting: deque[tuple[int, bytes, bool]] = deque()
        #: bytes of the first of them that are on their way
        self._begun = 0
        #: opcode and pieces of a message that comes in several frames, their bytes, and whether they are compressed
        self._opcode = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_compressed = False
        self._heard = time.monotonic()
        self._last = self._heard + most
        self._closing = self._ended = False
        loop.watch(file, self._ready)
        self._timer = loop.later(ping, self._tick) if ping else 0

    @property
    def unsent(self) -> int:
        """Bytes that wait here for the network."""
        return len(self._out) + sum(len(payload) for _, payload, _ in self._waiting) - self._begun

    # -- sending -------------------------------------------------------------------------------------

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame, or keep it until it can be sent. After the end nothing happens."""
        if self._closing or self._ended:
            return
        if opcode >= CLOSE or self._deflate is None:
            self._put(_FINAL | opcode, payload)
            return
        compressed = self._deflate.pays(payload)
        if self._waiting or (compressed and len(payload) > PIECE):
            self._waiting.append((opcode, payload, compressed))
            if len(self._waiting) == 1 and not self._out:
                self._send_piece()
        elif compressed:
            self._put(_FINAL | _COMPRESSED | opcode, self._deflate.compress(payload, True))
        else:
            self._put(_FINAL | opcode, payload)

    def _send_piece(self) -> None:
        """Send some of the first message that waits: a frame of its own, between which control frames may come."""
        assert self._deflate is not None
        opcode, payload, compressed = self._waiting[0]
        if not compressed:
            self._waiting.popleft()
            self._put(_FINAL | opcode, payload)
            return
        first, end = self._begun == 0, self._begun + PIECE
        final = end >= len(payload)
        data = self._deflate.compress(memoryview(payload)[self._begun : end], final)
        if final:
            self._waiting.popleft()
        self._begun = 0 if final else end
        head = (_FINAL if final else 0) | (_COMPRESSED | opcode if first else CONTINUED)
        self._put(head, data)

    def _put(self, first: int, payload: bytes) -> None:
        """
        :param first: the frame's first byte.
        """
        size = len(payload)
        if size <= _SHORT:
            head = struct.pack("!BB", first, size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", first, 126, size)
        else:
            head = struct.pack("!BBQ", first, 127, size)
        waiting = bool(self._out)
        self._out += head
        self._out += payload
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._socket.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            self._loop.watch(self._file, self._ready, READ | WRITE)
            return
        except OSError:
            self.end()
            return
        # The next piece is for the loop's next round.
        self._loop.watch(self._file, self._ready, READ | WRITE if self._waiting else READ)

    # -- receiving -----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take in bytes that somebody else has read from the connection."""
        self._received += data
        self._read_frames()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
            if self._waiting and not self._out and not self._ended:
                self._send_piece()
            if not self.unsent and not self._ended:
                self._on_writable()
        if self._ended or not events & ~WRITE:
            return
        try:
            data = self._socket.recv(1 << 17)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        self._heard = time.monotonic()
        self.feed(data)

    def _read_frames(self) -> None:
        while not self._ended:
            frame = self._take_frame()
            if frame is None:
                return
            first, payload = frame
            opcode, final = first & 0x0F, bool(first & _FINAL)
            if opcode >= CLOSE:
                if not final or first & _COMPRESSED or len(payload) > _SHORT:
                    self.close(PROTOCOL_ERROR, "not a control frame")
                    return
                self._control(opcode, payload)
                continue
            if bool(opcode) == bool(self._opcode) or (first & _COMPRESSED and not opcode):
                self.close(PROTOCOL_ERROR, "continues nothing, or begins too early")
                return
            if opcode:
                self._opcode, self._is_compressed = opcode, bool(first & _COMPRESSED)
            self._pieces.append(payload)
            self._size += len(payload)
            if self._size > self._max_message:
                self.close(TOO_BIG, "message too big")
                return
            if final:
                message, opcode = b"".join(self._pieces), self._opcode
                self._opcode, self._pieces, self._size = 0, [], 0
                if not self._closing:
                    self._take_message(opcode, message)

    def _take_message(self, opcode: int, message: bytes) -> None:
        if self._is_compressed:
            try:
                message = inflated(message, self._max_message)
            except ValueError:
                self.close(DAMAGED, "not compressed as agreed on")
                return
            except OverflowError:
                self.close(TOO_BIG, "message too big")
                return
        self._on_message(opcode, message)

    def _take_frame(self) -> tuple[int, bytes] | None:
        """The next frame (first byte, payload); None while it is not complete, or when it is none."""
        received = self._received
        if len(received) < 2:
            return None
        first, second = received[0], received[1]
        size, at = second & 0x7F, 2
        if size == 126:
            at = 4
            if len(received) >= at:
                (size,) = struct.unpack_from("!H", received, 2)
        elif size == 127:
            at = 10
            if len(received) >= at:
                (size,) = struct.unpack_from("!Q", received, 2)
        if first & (_UNKNOWN if self._deflate else _UNKNOWN | _COMPRESSED) or not second & 0x80:
            # Bits of extensions that were not agreed on; a client that does not mask.
            self.close(PROTOCOL_ERROR, "not a frame of a client")
            received.clear()
            return None
        if len(received) < at:
            return None
        if size > self._max_message:
            self.close(TOO_BIG, "message too big")
            received.clear()
            return None
        if len(received) < at + 4 + size:
            return None
        payload = unmasked(bytes(received[at : at + 4]), bytes(received[at + 4 : at + 4 + size]))
        del received[: at + 4 + size]
        return first, payload

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.send(PONG, payload)
        elif opcode == PONG:
            self._on_pong(payload)
        elif opcode == CLOSE:
            if not self._closing:
                self._put(_FINAL | CLOSE, payload[:2])
            self.end()

    # -- the end -------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._ended:
            return
        if time.monotonic() - self._heard > 3 * self._ping:
            self.end()
            return
        if time.monotonic() > self._last:
            self.close(SERVICE_RESTART, "connect again")
            return
        self.send(PING, b"")
        self._timer = self._loop.later(self._ping, self._tick)

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye, and end when the other side has said it too, or after :data:`PATIENCE` seconds."""
        if self._closing or self._ended:
            return
        self._closing = True
        goodbye = struct.pack("!H", code) + reason.encode()[:120]
        if self._waiting:
            # Behind them, a piece in each round of the loop: who is gone takes none, and others are not kept waiting.
            self._waiting.append((CLOSE, goodbye, False))
        else:
            self._put(_FINAL | CLOSE, goodbye)
        if not self._ended:
            self._loop.later(PATIENCE, self.end)

    def hang_up(self, at_once: bool) -> None:
        """Close it, for a reason that is not the page's.

        :param at_once: nobody is waited for, since the web server in between is about to end: the page connects again.
            Else who has opened it may not come in any more.
        """
        if at_once:
            self.close(SERVICE_RESTART, "connect again")
            self.end()
        else:
            self.close(GOING_AWAY, "logged out")

    def end(self) -> None:
        """Close the socket, whatever the other side thinks."""
        if self._ended:
            return
        self._ended = True
        self._loop.forget(self._file)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._on_end()


def unmasked(mask: bytes, payload: bytes) -> bytes:
    """What a client has masked, in the clear."""
    size = len(payload)
    if not size:
        return payload
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
