"""Jupyter's messages: signed frames on the kernel's side, two forms of websocket messages on the browser's.

Frames are those after ``<IDS|MSG>``: signature, header, parent header, metadata, content, buffers. See
"The wire protocol" in jupyter_client's documentation, and for ``v1.kernel.websocket.jupyter.org``
"Kernel websocket protocols" in jupyter_server's.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import os
import struct
import time
from collections.abc import Sequence
from typing import Any

from . import websocket

DELIMITER = b"<IDS|MSG>"

#: Version of the messages that we make ourselves.
PROTOCOL = "5.3"

#: The channels that a client sends on.
INCOMING = ("shell", "control", "stdin")


class Signer:
    """Signs messages with a kernel's key, as the kernel and its clients do."""

    def __init__(self, key: bytes) -> None:
        self._hmac = hmac.new(key, digestmod=hashlib.sha256) if key else None

    def signed(self, parts: Sequence[bytes]) -> list[bytes]:
        """*parts* (header, parent header, metadata, content, buffers) with the signature before them."""
        if self._hmac is None:
            return [b"", *parts]
        mac = self._hmac.copy()
        for part in parts[:4]:
            mac.update(part)
        return [mac.hexdigest().encode(), *parts]

    def make(self, kind: str, content: dict[str, Any], parent: bytes = b"{}") -> list[bytes]:
        """The frames of a message of our own, as if the kernel had sent it."""
        header = {
            "msg_id": os.urandom(16).hex(),
            "session": "jupyter-remote",
            "username": "jupyter-remote",
            "date": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
            "msg_type": kind,
            "version": PROTOCOL,
        }
        return self.signed([_pack(header), parent, b"{}", _pack(content)])


def _pack(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


# -- to the browser ----------------------------------------------------------------------------------


def to_browser(protocol: str, channel: str, frames: Sequence[bytes], number: int = 0) -> tuple[int, bytes]:
    """A kernel's message as a websocket message: (opcode, payload).

    :param number: of the record, for a page or program that counts; it finds it at the beginning of the metadata.
    """
    if protocol:
        if number:
            frames = [*frames]
            more = b"" if frames[3][1:].lstrip() == b"}" else b","
            frames[3] = b'{"jupyter_remote":%d%b%b' % (number, more, frames[3][1:])
        return websocket.BINARY, _to_v1(channel, frames[1:])
    header, parent, metadata, content = (json.loads(part) for part in frames[1:5])
    if number:
        metadata = {"jupyter_remote": number, **metadata}
    message = {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": header["msg_type"],
        "parent_header": parent,
        "metadata": metadata,
        "content": content,
        "buffers": [],
        "channel": channel,
    }
    if len(frames) == 5:
        return websocket.TEXT, json.dumps(message).encode()
    del message["buffers"]
    blobs = [json.dumps(message).encode(), *frames[5:]]
    offset, offsets = 4 * (len(blobs) + 1), []
    for blob in blobs:
        offsets.append(offset)
        offset += len(blob)
    return websocket.BINARY, b"".join([struct.pack(f"!{len(blobs) + 1}I", len(blobs), *offsets), *blobs])


def _to_v1(channel: str, parts: Sequence[bytes]) -> bytes:
    name = channel.encode()
    offset = 8 * (len(parts) + 3)
    offsets = [offset]
    offset += len(name)
    for part in parts:
        offsets.append(offset)
        offset += len(part)
    offsets.append(offset)
    return b"".join([struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), name, *parts])


# -- from the browser --------------------------------------------------------------------------------


def from_browser(protocol: str, opcode: int, payload: bytes) -> tuple[str, list[bytes]]:
    """A websocket message as (channel, header, parent header, metadata, content, buffers).

    :raises ValueError: it is no message, or for a channel that no client sends on.
    """
    channel, parts = from_server(protocol, opcode, payload)
    if channel not in INCOMING:
        raise ValueError(f"not a message for a kernel: {channel!a}")
    return channel, parts


def from_server(protocol: str, opcode: int, payload: bytes) -> tuple[str, list[bytes]]:
    """As :func:`from_browser`, of the other side: on any channel.

    :raises ValueError: it is no message.
    """
    try:
        channel, parts = _from_v1(payload) if protocol else _from_json(opcode, payload)
    except (KeyError, IndexError, TypeError, struct.error, RecursionError) as error:
        raise ValueError(f"not a message: {error!r}") from None
    if len(parts) < 4:
        raise ValueError("not a message: too short")
    return channel, parts


def _from_v1(payload: bytes) -> tuple[str, list[bytes]]:
    (count,) = struct.unpack_from("<Q", payload)
    if not 6 <= count <= len(payload) // 8:
        raise ValueError(f"{count} parts")
    offsets = struct.unpack_from(f"<{count}Q", payload, 8)
    pieces = [payload[start:end] for start, end in itertools.pairwise(offsets)]
    return pieces[0].decode("ascii", "replace"), pieces[1:]


def _from_json(opcode: int, payload: bytes) -> tuple[str, list[bytes]]:
    buffers: list[bytes] = []
    if opcode == websocket.BINARY:
        (count,) = struct.unpack_from("!I", payload)
        if not 1 <= count <= len(payload) // 4:
            raise ValueError(f"{count} parts")
        offsets = [*struct.unpack_from(f"!{count}I", payload, 4), len(payload)]
        payload, *buffers = (payload[start:end] for start, end in itertools.pairwise(offsets))
    message = json.loads(payload)
    # A client may leave out what is empty; without a channel it means shell, as it always has.
    parts = [message["header"], message.get("parent_header") or {}, message.get("metadata") or {}, message["content"]]
    return str(message.get("channel") or "shell"), [*map(_pack, parts), *buffers]
