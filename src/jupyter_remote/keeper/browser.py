"""What browsers get: the journal, each session from where it was, in order, once.

A *session* is one page's connection to one kernel; it keeps its id when the network comes and goes. How
far the page has got is known from its pongs: each ping carries the number of the last record sent before it.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

from . import messages
from .journal import ASKED, CHANNELS, IOPUB, Journal, Reader, Record
from .loop import Loop
from .messages import Signer
from .websocket import GOING_AWAY, NORMAL, PING, Websocket
from .wire import HOUR

#: Bytes that may be on their way to a page: what comes later stays in the journal until the page has acknowledged
#: them. At first, and at most: JupyterLab draws all that a cell has printed anew for each message, and so a page
#: that is late (seconds until it acknowledges) gets fewer and bigger ones, twice as much each time.
WINDOW, MOST, LATE = 1 << 18, 1 << 21, 0.2
#: Seconds from one full window to the next, at least: a page stays usable. And at most: one may not acknowledge.
PAUSE, PATIENCE = 0.03, 5.0
#: Records behind, from which on what a kernel prints is merged: a page cannot take each line by itself. One that
#: has had to wait for its acknowledgement gets everything merged.
BEHIND = 32
#: Bytes of records that are kept in memory too, so that a page that keeps up costs no reading.
RECENT = 1 << 17
#: Sessions that are remembered after their page has gone.
SESSIONS = 1000

_PREFIX = b"ws-"


def identity(session: str) -> bytes:
    """Whom the kernel answers, for a message of this session."""
    return _PREFIX + session.encode()


class _Page:
    """Where a session is."""

    __slots__ = ("acknowledged", "connection")

    def __init__(self, acknowledged: int) -> None:
        self.acknowledged = acknowledged
        self.connection: Connection | None = None


class Feed:
    """The journal and all who read it here."""

    def __init__(self, loop: Loop, journal: Journal, signer: Signer, changed: Callable[[bool], None]) -> None:
        """
        :param changed: called when the number of connections has changed (True), or what pages have (False).
        """
        self.loop, self.journal, self.signer, self._changed = loop, journal, signer, changed
        self._recent: deque[tuple[Record, int]] = deque()
        self._recent_size = 0
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        #: the last record that some page has for certain
        self.delivered = 0

    @property
    def connections(self) -> list[Connection]:
        """Those that are open."""
        return [page.connection for page in self._pages.values() if page.connection is not None]

    @property
    def sessions(self) -> dict[str, int]:
        """The pages that are connected, and up to which record each has everything."""
        return {page.connection.session: page.acknowledged for page in self._pages.values() if page.connection}

    def add(self, channel: int, to: bytes, frames: list[bytes]) -> None:
        """A message: first into the journal, then to whom it concerns."""
        number = self.journal.append(channel, to, frames)
        size = sum(map(len, frames))
        self._recent.append((Record(number, channel, to, frames), size))
        self._recent_size += size
        while self._recent_size > RECENT and len(self._recent) > 1:
            self._recent_size -= self._recent.popleft()[1]
        if channel != ASKED:
            for connection in self.connections:
                connection.pump()

    def records(self, start: int, reader: Reader) -> Iterator[Record]:
        """From number *start* on: out of memory, or else from the disk."""
        if start > self.journal.number:
            return
        if not self._recent or start < self._recent[0][0].number:
            for record in reader.read(start):
                yield record
                start = record.number + 1
        # The disk may be full and have nothing of what memory has.
        for index in range(max(0, len(self._recent) - (self.journal.number - start + 1)), len(self._recent)):
            yield self._recent[index][0]

    def attach(
        self,
        file: int,
        *,
        session: str,
        protocol: str,
        login: str,
        label: str,
        max_message: int,
        ping: float,
        early: bytes,
        state: str,
        on_message: Callable[[str, str, list[bytes]], None],
        after: int | None = None,
        deflate: dict[str, Any] | None = None,
    ) -> None:
        """A browser has connected. A session that was here before goes on where it was.

        :param after: a page that counts has everything up to this number, for certain; 0: it is new.
        :param state: the kernel's; a page that comes to a busy kernel would otherwise not know.
        :param on_message: called with (session, channel, parts) for each message from the browser.
        :param deflate: how messages are compressed, if they are.
        """
        page = self._pages.get(session)
        if page is None:
            page = self._pages[session] = _Page(self.journal.number)
        elif page.connection is not None:
            # The old one is what is left of a network that is gone.
            page.connection.close(NORMAL, "connected again")
            page.connection = None
        self._pages.move_to_end(session)
        if after:
            # It may know the numbers of a journal that was before this one.
            page.acknowledged = after if after <= self.journal.number else 0
        page.connection = Connection(
            self, page, file, session, protocol, login, label, max_message, ping, on_message, deflate
        )
        page.connection.counts = after is not None
        self._forget_old()
        self._changed(True)
        page.connection.begin(early, state)

    def detach(self, page: _Page, connection: Connection) -> None:
        """Its network has gone; the page may come back."""
        if page.connection is connection:
            page.connection = None
            self._changed(True)

    def acknowledge(self, page: _Page, number: int) -> None:
        """The page has everything up to this record."""
        page.acknowledged = max(page.acknowledged, number)
        self.delivered = max(self.delivered, number)
        self._changed(False)

    def keep_logins(self, login: str) -> None:
        """Close what was opened under another login."""
        for connection in self.connections:
            if connection.login != login:
                connection.close(GOING_AWAY, "logged out")

    def hang_up(self, labels: list[str], at_once: bool) -> None:
        """Close what has one of these labels."""
        for connection in self.connections:
            if connection.label in labels:
                connection.hang_up(at_once)

    def close(self, reason: str) -> None:
        """Say goodbye to all."""
        for connection in self.connections:
            connection.close(GOING_AWAY, reason)

    def _forget_old(self) -> None:
        gone = [session for session, page in self._pages.items() if page.connection is None]
        for session in gone[: max(0, len(self._pages) - SESSIONS)]:
            del self._pages[session]


class Connection:
    """One browser's websocket."""

    def __init__(
        self,
        feed: Feed,
        page: _Page,
        file: int,
        session: str,
        protocol: str,
        login: str,
        label: str,
        max_message: int,
        ping: float,
        on_message: Callable[[str, str, list[bytes]], None],
        deflate: dict[str, Any] | None,
    ) -> None:
        self._feed, self._page = feed, page
        self.session, self.protocol, self.login, self.label = session, protocol, login, label
        self._identity = identity(session)
        self._pass_on = on_message
        self._reader = Reader(feed.journal.directory)
        #: the last record that was sent, or that is none of this page's business
        self._position = page.acknowledged
        #: what the ping that is under way carries, and how many bytes were sent before it
        self._asked, self._asked_at = page.acknowledged, 0
        #: bytes that were sent, and that the page has for certain; how many may lie between
        self._sent = self._received = 0
        self._window = WINDOW
        #: since when nothing is sent, as the window is full; 0: it is not
        self._full_since = 0.0
        self._pumping = False
        #: whether the page wants to know the number of each record
        self.counts = False
        self._websocket = Websocket(
            feed.loop,
            file,
            on_message=self._message,
            on_pong=self._pong,
            on_writable=self.pump,
            on_end=self._end,
            max_message=max_message,
            ping=ping,
            most=HOUR,
            deflate=deflate,
        )

    def begin(self, early: bytes, state: str) -> None:
        """Send what the page has missed, and then the state that the kernel is in."""
        self.pump()
        if state != "starting" and self._position == self._feed.journal.number:
            self._send("iopub", self._feed.signer.make("status", {"execution_state": state}))
        if early:
            self._websocket.feed(early)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye."""
        self._websocket.close(code, reason)

    def hang_up(self, at_once: bool) -> None:
        """:meth:`.Websocket.hang_up`."""
        self._websocket.hang_up(at_once)

    # -- to the browser ------------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what there is, as far as the network takes it."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._position < self._feed.journal.number and not self._full_since:
                if self._sent - self._received >= self._window:
                    self._wait()
                else:
                    self._send_some()
        finally:
            self._pumping = False
        self._ask()

    def _send_some(self) -> None:
        """Send some of what there is: what can be merged, or until the window is full."""
        behind = self._feed.journal.number - self._position > (BEHIND if self._window == WINDOW else 1)
        merger = _Merger() if behind else None
        expected = self._position + 1
        for record in self._feed.records(expected, self._reader):
            if record.number > expected:
                self._lost(expected, record.number - 1)
            expected = record.number + 1
            if record.channel == ASKED or (record.channel != IOPUB and record.identity != self._identity):
                self._position = record.number
                continue
            if merger is not None and merger.takes(record):
                if merger.size < self._window:
                    continue
                self._position = record.number
                break
            if merger is not None and merger.size:
                # Before the record that does not fit; that one comes with the next round.
                self._position = record.number - 1
                break
            self._send(CHANNELS[record.channel], record.frames, record.number)
            self._position = record.number
            if self._sent - self._received >= self._window:
                return
        else:
            if self._position < self._feed.journal.number and not (merger and merger.size):
                # Nothing is left of the rest.
                self._lost(expected, self._feed.journal.number)
            self._position = self._feed.journal.number
        if merger is not None and merger.size:
            self._send("iopub", merger.message(self._feed.signer), self._position)

    def _wait(self) -> None:
        """The window is full. Wait for the page; but not for ever."""
        since = self._full_since = time.monotonic()
        self._feed.loop.later(PATIENCE, lambda: self._go_on(since, self._sent))

    def _go_on(self, since: float, received: int) -> None:
        """No longer wait, if it is still the window that was full at this moment."""
        if since == self._full_since:
            self._full_since, self._received = 0.0, received
            self.pump()

    def _lost(self, first: int, last: int) -> None:
        if last < first:
            return
        text = (
            f"\n[{last - first + 1} messages of this kernel were dropped here before this page had them: its journal "
            "is full (kernels.journal_size), or the disk is.]\n"
        )
        self._send("iopub", self._feed.signer.make("stream", {"name": "stderr", "text": text}))

    def _send(self, channel: str, frames: list[bytes], number: int = 0) -> None:
        try:
            opcode, payload = messages.to_browser(self.protocol, channel, frames, number if self.counts else 0)
        except (ValueError, KeyError, TypeError):
            # Not a message; stock Jupyter does not pass it on either.
            return
        self._sent += len(payload)
        self._websocket.send(opcode, payload)

    def _ask(self) -> None:
        """Ask the page how far it has got, one question at a time."""
        if self._asked <= self._page.acknowledged < self._position and not self._websocket.unsent:
            self._asked, self._asked_at = self._position, self._sent
            self._websocket.send(PING, b"%d" % self._asked)

    def _pong(self, payload: bytes) -> None:
        if not payload.isdigit():
            return
        self._feed.acknowledge(self._page, int(payload))
        if int(payload) >= self._asked:
            self._received = max(self._received, self._asked_at)
        since, received = self._full_since, self._received
        if since and self._sent - received < self._window:
            late = time.monotonic() - since
            self._window = min(2 * self._window, MOST) if late > LATE else max(self._window // 2, WINDOW)
            self._feed.loop.later(max(0.0, PAUSE - late), lambda: self._go_on(since, received))
        self._ask()

    # -- from the browser ----------------------------------------------------------------------------

    def _message(self, opcode: int, payload: bytes) -> None:
        try:
            channel, parts = messages.from_browser(self.protocol, opcode, payload)
        except ValueError as error:
            print(f"from a browser: {error}", flush=True)
            return
        self._pass_on(self.session, channel, parts)

    def _end(self) -> None:
        self._reader.close()
        self._feed.detach(self._page, self)


class _Merger:
    """Adjacent pieces of one stream of one cell, made into one message."""

    def __init__(self) -> None:
        self._first: list[bytes] = []
        self._name = ""
        self._texts: list[str] = []
        self.size = 0

    def takes(self, record: Record) -> bool:
        """Whether the record is a piece that goes with those before it; then it is taken."""
        if record.channel != IOPUB or b'"stream"' not in record.frames[1]:
            return False
        if self._first and record.frames[2] != self._first[2]:
            return False
        try:
            content: dict[str, Any] = json.loads(record.frames[4])
            name, text = content["name"], content["text"]
        except (ValueError, KeyError, TypeError):
            return False
        if self._first and name != self._name:
            return False
        self._first, self._name = self._first or record.frames, name
        self._texts.append(text)
        self.size += len(text) + 1
        return True

    def message(self, signer: Signer) -> list[bytes]:
        """The whole."""
        content = {"name": self._name, "text": "".join(self._texts)}
        return signer.signed([*self._first[1:4], json.dumps(content).encode()])
