"""RFC 7692: compressed messages on a websocket whose browser has offered to take them.

What the browser sends is compressed message by message (the server has asked for that); what it gets shares one
context, since most of a kernel's messages differ from the one before in a few bytes only.
"""

from __future__ import annotations

import zlib
from typing import Any

#: Of zlib, for a context of 64 KiB: more gains little, and a higher level costs up to five times as much.
LEVEL, WINDOW, MEMORY = 1, 13, 6
#: Bytes of the shortest message that is compressed: the rest fits into one packet as it is.
LEAST = 200
#: Bytes from which on a sample of that many is tried first, and the part of it that must remain at most.
SAMPLE, PAYS = 2048, 0.9

#: What each compressed message ends with, and is sent without.
_END = b"\x00\x00\xff\xff"


class Deflate:
    """What was agreed on for one connection.

    :param agreed: ``deflate`` of :mod:`.wire`.
    """

    def __init__(self, agreed: dict[str, Any]) -> None:
        self._window = min(WINDOW, int(agreed["window"]))
        self._takeover = bool(agreed["takeover"])
        self._context = self._new_context()

    def _new_context(self) -> Any:  # zlib has no name for it
        return zlib.compressobj(LEVEL, zlib.DEFLATED, -self._window, MEMORY)

    @staticmethod
    def pays(message: bytes) -> bool:
        """Whether the message gets shorter by enough. Text does, an image in base64 by a quarter, a bare one not."""
        if len(message) < 2 * SAMPLE:
            return len(message) >= LEAST
        # From its middle: each begins with text.
        middle = len(message) // 2
        sample = message[middle - SAMPLE // 2 : middle + SAMPLE // 2]
        return len(zlib.compress(sample, LEVEL)) < PAYS * SAMPLE

    def compress(self, piece: bytes | memoryview, final: bool) -> bytes:
        """The next piece of a message, compressed.

        :param final: whether it is the message's last.
        """
        data: bytes = self._context.compress(piece)
        if not final:
            return data
        data += self._context.flush(zlib.Z_SYNC_FLUSH)
        if not self._takeover:
            self._context = self._new_context()
        return data[: -len(_END)]


def inflated(message: bytes, most: int) -> bytes:
    """A whole message of the browser's in the clear.

    :raises ValueError: it is not a compressed message.
    :raises OverflowError: it would be longer than *most* bytes; no more than that was unpacked.
    """
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = unpacking.decompress(message + _END, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(data) > most:
        raise OverflowError("message too big")
    return data
