"""Bytes to a box's Apache as no browser would send them, and what comes back."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from lab.box import Box

#: seconds of silence after which nothing more is expected of an answer
SILENCE = 3


def connect(box: Box, *, tls: bool = True, alpn: str = "http/1.1", source: str = "") -> socket.socket:
    """A connection to port 443 of *box*, or to port 80 without *tls*. The certificate is not looked at."""
    plain = socket.create_connection((box.ip, 443 if tls else 80), timeout=60, source_address=(source, 0))
    if not tls:
        return plain
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context.wrap_socket(plain, server_hostname=box.hostname)


def hear(connection: socket.socket, silence: float = SILENCE) -> bytes:
    """What comes until the other side closes, or says nothing for a while."""
    heard = b""
    connection.settimeout(silence)
    try:
        while piece := connection.recv(65536):
            heard += piece
    except (TimeoutError, ConnectionError, ssl.SSLError):
        pass
    return heard


def ask(box: Box, request: bytes, *, tls: bool = True, silence: float = SILENCE) -> bytes:
    """Send *request* as it is; everything that comes back."""
    with connect(box, tls=tls) as connection:
        # It may be refused before all of it was said: the answer is there.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(request)
        return hear(connection, silence)


def get(target: str, host: str = "box.test", *more: str) -> bytes:
    """A request, line by line, whose connection ends with the answer."""
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", *more, "", ""]).encode(
        "latin-1"
    )


def statuses(heard: bytes) -> list[int]:
    """The status of each answer in what was heard."""
    return [int(code) for code in re.findall(rb"^HTTP/1\.[01] (\d{3})", heard, re.MULTILINE)]


def status(heard: bytes) -> int:
    """The status of the first answer; 0 when the connection was closed without one."""
    return next(iter(statuses(heard)), 0)


# -- HTTP/2, as far as a liar needs it ----------------------------------------------------------------

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
#: of HPACK's static table
_STATUSES = dict(enumerate((200, 204, 206, 304, 400, 404, 500), start=8))


@dataclass
class H2Answer:
    """What HTTP/2 answers to one request: a status, or 0 when it was refused as malformed."""

    status: int
    body: bytes


def ask_h2(box: Box, headers: Iterable[tuple[bytes, bytes]], body: bytes | None = None) -> H2Answer:
    """Send one request with these header fields, which may hold anything, in this order."""
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)
    with connect(box, alpn="h2") as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
        flags = _END_HEADERS | (_END_STREAM if body is None else 0)
        connection.sendall(_frame(_HEADERS, flags, 1, block))
        if body is not None:
            connection.sendall(_frame(_DATA, _END_STREAM, 1, body))
        answer = H2Answer(0, b"")
        stream = connection.makefile("rb")
        connection.settimeout(SILENCE)
        try:
            while len(head := stream.read(9)) == 9:
                size, kind, flags, number = (*struct.unpack(">I", b"\0" + head[:3]), *struct.unpack(">BBI", head[3:]))
                payload = stream.read(size)
                if kind == _SETTINGS and not flags & _ACK:
                    connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
                elif kind in (_RST_STREAM, _GOAWAY):
                    break
                elif number == 1 and kind == _HEADERS and not answer.status:
                    answer.status = _status_of(payload)
                elif number == 1 and kind == _DATA:
                    answer.body += payload
                if number == 1 and kind in (_HEADERS, _DATA) and flags & _END_STREAM:
                    break
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
        return answer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    """HPACK's string, as it is; a length of 127 or more goes on in the next bytes."""
    size = len(value)
    if size < 127:
        return bytes([size]) + value
    rest, more = size - 127, b"\x7f"
    while rest >= 128:
        more += bytes([rest % 128 + 128])
        rest //= 128
    return more + bytes([rest]) + value


def _status_of(block: bytes) -> int:
    """The first field of an answer, which is its status."""
    while block[0] & 0xE0 == 0x20:  # a new size for a table that we do not keep
        block = block[1:]
    if block[0] & 0x80:
        return _STATUSES[block[0] & 0x7F]
    size, text = block[1] & 0x7F, block[2:]
    if not block[1] & 0x80:
        return int(text[:size])
    # Huffman's code, of which a status needs the ten digits only: three of five bits, then six bits each
    bits = "".join(f"{byte:08b}" for byte in text[:size])
    digits = ""
    while len(digits) < 3:
        length = 5 if bits[:5] < "00011" else 6
        digits += str(int(bits[:length], 2) - (0 if length == 5 else 0b011001 - 3))
        bits = bits[length:]
    return int(digits)
