"""Compressed websockets: agreed on by the server with the browser (RFC 7692), done by the keeper."""

from __future__ import annotations

import re
from typing import TypedDict

from tornado.websocket import WebSocketHandler

from .keepers import Keeper

NAME = "permessage-deflate"
#: One offer or parameter of a header, up to the comma or semicolon after it; a quoted value may contain these.
_PART = re.compile(r'(?:[^,;"]|"(?:[^"\\]|\\.)*")+|[,;]')
#: Bits of a window that zlib can have; one of 8 it cannot.
_WINDOWS = {str(bits): bits for bits in range(9, 16)}


class Agreed(TypedDict):
    """What the keeper is told; :mod:`jupyter_remote.keeper.wire` says what it means."""

    window: int
    takeover: bool


def agree(websocket: WebSocketHandler, keeper: Keeper) -> Agreed | None:
    """Take the browser's offer, if it makes one and the keeper can keep to it. Before the handshake."""
    # Whatever the owner has configured: tornado's own compression is not the keeper's.
    websocket.get_compression_options = lambda: None  # type: ignore[method-assign]
    if not keeper.status.get("deflate"):
        return None
    found = accepted(websocket.request.headers.get("Sec-WebSocket-Extensions", ""))
    if found is None:
        return None
    answer, agreed = found
    websocket.set_header("Sec-WebSocket-Extensions", answer)
    return agreed


def accepted(offers: str) -> tuple[str, Agreed] | None:
    """The answer to the first offer that we can keep to, and what was agreed on then.

    :param offers: ``Sec-WebSocket-Extensions`` of a browser.
    """
    for name, parameters in _parsed(offers):
        if name == NAME and (agreed := _kept_to(parameters)):
            # Each message of the browser's is then unpacked by itself: no memory for a context in between.
            answer = [NAME, "client_no_context_takeover"]
            if not agreed["takeover"]:
                answer.append("server_no_context_takeover")
            if "server_max_window_bits" in parameters:
                answer.append(f"server_max_window_bits={agreed['window']}")
            return "; ".join(answer), agreed
    return None


def _kept_to(parameters: dict[str, str | None]) -> Agreed | None:
    """What an offer comes to; None where it is none, or asks for what cannot be had."""
    agreed = Agreed(window=15, takeover=True)
    for name, value in parameters.items():
        match name, value:
            case "server_no_context_takeover", None:
                agreed["takeover"] = False
            case "server_max_window_bits", str(bits) if bits in _WINDOWS:
                agreed["window"] = _WINDOWS[bits]
            case "client_no_context_takeover", None:
                pass
            case "client_max_window_bits", bits if bits is None or bits in {"8", *_WINDOWS}:
                pass
            case _:
                return None
    return agreed


def _parsed(offers: str) -> list[tuple[str, dict[str, str | None]]]:
    """The offers, each with its parameters; one with a parameter that comes twice is left out."""
    found: list[tuple[str, dict[str, str | None]]] = []
    for offer in _split(offers, ","):
        name, *parameters = (part.strip() for part in _split(offer, ";"))
        pairs = [parameter.partition("=") for parameter in parameters]
        named = {key.strip().lower(): value.strip().strip('"') if equals else None for key, equals, value in pairs}
        if len(named) == len(pairs):
            found.append((name.lower(), named))
    return found


def _split(text: str, at: str) -> list[str]:
    pieces = [""]
    for part in _PART.findall(text):
        if part == at:
            pieces.append("")
        else:
            pieces[-1] += part
    return pieces
