"""A terminal: a shell, what it has printed lately, and the browsers that show it.

With browsers it speaks terminado's protocol, as JupyterLab knows it: lists in JSON, ``["setup", {}]``,
``["stdout", TEXT]`` and ``["disconnect", 1]`` to them, ``["stdin", TEXT]`` and ``["set_size", ROWS, COLUMNS, …]``
from them. A browser that comes (back) is reset and shown what was printed lately.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import re
import signal
import termios
import time
from collections.abc import Callable
from typing import Any

from .cgroup import Cgroup
from .loop import READ, WRITE, Loop
from .process import Process
from .websocket import GOING_AWAY, NORMAL, TEXT, Websocket

#: Bytes of what was printed that are kept, and how many more it takes until the oldest are cut off.
SCROLLBACK, SURPLUS = 1 << 20, 1 << 16
#: Bytes that a browser is shown which could not keep up; xterm.js keeps 1000 lines itself.
GLANCE = 1 << 17
#: Bytes of one message, and bytes that may wait for the network in front of a browser.
CHUNK, WINDOW = 1 << 14, 1 << 17
#: Bytes that a browser may be behind while the shell prints on, and seconds that the shell waits for
#: browsers which take nothing.
BEHIND, PATIENCE = 1 << 16, 2.0
#: Seconds after which a browser connects again. It is reset then, and shown what was printed lately: not often.
DAY = 86400.0
#: Bytes that were typed and that nobody has read; what is typed then is dropped, as a full terminal does.
TYPED = 1 << 20
#: Rows and columns, until a browser says its own.
SIZE = (24, 80)
#: More than that is nobody's screen.
LARGEST = 10_000

#: Seconds that a shell gets for its last words (it writes its history), and browsers for taking them.
GRACE, FAREWELL = 0.5, 3.0
#: Seconds until we look again at a terminal that no process has open, and in which a program sees a changed size.
AGAIN, BLINK = 1.0, 0.1

#: Switches of the terminal that are on and off by a number, and its reset.
_SWITCHES = re.compile(rb"\x1b\[\?([0-9;]+)([hl])|\x1bc")
#: Those that matter to what comes after: arrow keys, colours, wrapping, cursor, mouse, pasting, the other screen.
_KNOWN = {b"%d" % n for n in (1, 5, 6, 7, 9, 25, 45, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004)}
#: The screen of full-screen programs, under its three numbers.
_OTHER_SCREEN = {b"47", b"1047", b"1049"}
#: On, when a terminal begins.
_ON = {b"7", b"25"}

#: What a terminal answers, as if it were typed. Whoever asked has got the answer long ago; shown again, it
#: would be asked again, and the answer be found at the prompt.
_QUESTIONS = re.compile(
    rb"\x1b\[[>=?]?[0-9;]*c"  # what are you
    rb"|\x1b\[\??[0-9;]*n"  # where is the cursor, and are you well
    rb"|\x1b\[>[0-9;]*q"  # which version
    rb"|\x1b\[\??[0-9;]*\$p"  # is this switch on
    rb"|\x1b\[[0-9;]*x"  # which parameters
    rb"|\x1b\[(?:1[1-9]|2[01])(?:;[0-9]*)*t"  # how big is the window
    rb"|\x1b\[\?u"  # which keyboard protocol
    rb"|\x1bP[$+]q[^\x07\x1b]*(?:\x07|\x1b\\)"  # which setting, which capability
    rb"|\x1b\](?:[45];[0-9]+|1[0-9]);\?(?:;\?)*(?:\x07|\x1b\\)"  # which colour
)


class Scrollback:
    """What was printed lately: UTF-8, by positions, which are bytes since the terminal's start."""

    def __init__(self, size: int = SCROLLBACK) -> None:
        self._size = size
        self._data = bytearray()
        #: of the first byte that is still here
        self.start = 0
        # Which switches are on and off where the scrollback begins.
        self._switches: dict[bytes, bool] = {}

    @property
    def end(self) -> int:
        """Where the next byte will be."""
        return self.start + len(self._data)

    def append(self, data: bytes) -> None:
        """
        :param data: whole characters.
        """
        self._data += data
        if len(self._data) > self._size + SURPLUS:
            at = self._boundary(len(self._data) - self._size)
            self._switches = self._switches_at(at)
            del self._data[:at]
            self.start += at

    def back(self, size: int) -> int:
        """A position about *size* bytes before the end where one can begin to show it."""
        return self.start + (self._boundary(len(self._data) - size) if size < len(self._data) else 0)

    def _boundary(self, at: int) -> int:
        """An index, not much beyond this one, where neither a character nor an escape sequence is cut in two."""
        data = self._data
        line = data.find(b"\n", at, at + SURPLUS) + 1
        # Programs that write all over the screen have no lines.
        found = line or data.find(b"\x1b", at, at + SURPLUS)
        if found < 0:
            found = at
            while found < len(data) and data[found] & 0xC0 == 0x80:
                found += 1
        # Pictures and titles are strings that begin with an escape sequence; they may have lines of their own.
        opened = data.rfind(b"\x1b", 0, found)
        if opened >= 0 and data[opened + 1 : opened + 2].decode("latin-1") in tuple("P]X^_"):
            closed = data.find(b"\x1b", found)
            if data.find(b"\x07", opened, found) < 0 <= closed:
                return closed
        return found

    def _switches_at(self, at: int) -> dict[bytes, bool]:
        switches = dict(self._switches)
        for found in _SWITCHES.finditer(self._data, 0, at):
            if found[1] is None:
                switches.clear()
                continue
            for number in found[1].split(b";"):
                if number in _OTHER_SCREEN:
                    for screen in _OTHER_SCREEN:
                        switches.pop(screen, None)
                if number in _KNOWN or number in _OTHER_SCREEN:
                    switches[number] = found[2] == b"h"
        return switches

    def preparation(self, position: int) -> bytes:
        """What makes a terminal that was just switched on one that may be shown what is from *position* on."""
        return b"".join(
            b"\x1b[?%b%b" % (number, b"h" if on else b"l")
            for number, on in self._switches_at(position - self.start).items()
            if on != (number in _ON)
        )

    def is_on_other_screen(self) -> bool:
        """Whether a full-screen program has the screen now."""
        switches = self._switches_at(len(self._data))
        return any(switches.get(screen, False) for screen in _OTHER_SCREEN)

    def read(self, position: int, until: int, *, whole: bool) -> bytes:
        """Some of what is from *position* on, whole characters.

        :param whole: do not cut an escape sequence in two either.
        """
        data, begin = self._data, position - self.start
        end = limit = min(begin + CHUNK, until - self.start)
        if end < until - self.start:
            while data[end] & 0xC0 == 0x80:
                end -= 1
            if whole:
                end = data.rfind(b"\x1b", begin + 1, limit)
                if data[end : end + 2] == b"\x1b\\":
                    # the end of a longer one
                    end = data.rfind(b"\x1b", begin + 1, end)
                if end < 0:
                    return self.read(position, until, whole=False)
        return bytes(data[begin:end])


class Terminal:
    """A shell and its terminal, until the shell ends.

    :raises OSError: there is no terminal left, or the shell cannot be started.
    """

    def __init__(
        self, loop: Loop, order: dict[str, Any], changed: Callable[[bool], None], done: Callable[[], None]
    ) -> None:
        """
        :param order: what :mod:`.wire` says.
        :param changed: called with whether it is worth telling at once.
        :param done: called when the shell has ended and browsers have been told.
        """
        self.loop, self._changed, self._done = loop, changed, done
        self._cgroup = Cgroup(order.get("memory_limit"))
        start = order["start"]
        self._memo: dict[str, Any] = start.get("memo") or {}
        self.scrollback = Scrollback()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tabs: list[Tab] = []
        self._typed = bytearray()
        self._started = self._activity = time.time()
        self._is_reading = self._is_waiting = self._is_blinking = False
        # What the loop watches the terminal for.
        self._events = 0
        #: whether the shell has
        self.has_ended = False
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self._size = SIZE
        termios.tcsetwinsize(self._master, self._size)
        try:
            self._process = Process(loop, self._cgroup, start["argv"], start["env"], start["cwd"], self._ended, slave)
        finally:
            os.close(slave)
        self.pace()

    # -- from the shell ------------------------------------------------------------------------------

    def pace(self) -> None:
        """Read what the shell prints, or let it wait for the browsers: as fast as the fastest takes it."""
        if self.has_ended:
            return
        tabs = self._tabs
        reading = not tabs or any(tab.behind < BEHIND for tab in tabs) or all(tab.is_stalled() for tab in tabs)
        if not reading and not self._is_waiting:
            self._is_waiting = True
            self.loop.later(PATIENCE / 4, self._stop_waiting)
        self._is_reading = reading
        self._watch()

    def _stop_waiting(self) -> None:
        self._is_waiting = False
        self.pace()

    def _watch(self) -> None:
        events = (READ if self._is_reading else 0) | (WRITE if self._typed else 0)
        if events == self._events:
            return
        self._events = events
        if events:
            self.loop.watch(self._master, self._ready, events)
        else:
            self.loop.forget(self._master)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._type()
        # Whatever is not "may be written" is something to be read, be it an error.
        if events & ~WRITE and not self._read():
            # No process has it open, though the shell lives; one may open it again.
            self.loop.forget(self._master)
            self._events = 0
            self.loop.later(AGAIN, self.pace)

    def _read(self) -> bool:
        """Read some; False when nobody is at the other end."""
        pieces = []
        is_open = True
        try:
            # One read gives 4 KiB at most.
            for _ in range(CHUNK >> 12):
                pieces.append(os.read(self._master, CHUNK))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            is_open = False
        self._print(b"".join(pieces))
        return is_open

    def _print(self, data: bytes, final: bool = False) -> None:
        text = self._decoder.decode(data, final)
        if text:
            self.scrollback.append(text.encode())
            self._activity = time.time()
            self._changed(False)
            for tab in list(self._tabs):
                tab.pump()
        self.pace()

    def _ended(self, code: int) -> None:
        """The shell has ended. What it printed last is still in the terminal, 64 KiB at most."""
        for _ in range(100):
            before = self.scrollback.end
            if not self._read() or self.scrollback.end == before:
                break
        self._print(b"", final=True)
        self.has_ended = True
        self.loop.forget(self._master)
        print(f"the shell has ended with {code}", flush=True)
        # The server first: a page that was told asks it for what there is, and must not find this one.
        self._changed(True)
        for tab in list(self._tabs):
            tab.pump()
        if self._tabs:
            self.loop.later(FAREWELL, self._done)
        else:
            self._done()

    # -- to the shell --------------------------------------------------------------------------------

    def type(self, text: str) -> None:
        """Something was typed or pasted."""
        self._activity = time.time()
        self._changed(False)
        if self.has_ended:
            return
        if len(self._typed) > TYPED:
            print("nobody reads what is typed; dropped", flush=True)
            return
        self._typed += text.encode(errors="replace")
        self._type()

    def _type(self) -> None:
        with contextlib.suppress(OSError):
            while self._typed:
                del self._typed[: os.write(self._master, self._typed[:CHUNK])]
        self._watch()

    def resize(self) -> None:
        """Be as big as the smallest browser: a terminal that is bigger than the window is worse."""
        sizes = [tab.size for tab in self._tabs if tab.size is not None]
        if sizes:
            self._size = (min(rows for rows, _ in sizes), min(columns for _, columns in sizes))
            self._set_size(self._size)

    def _set_size(self, size: tuple[int, int]) -> None:
        # The programs in front get a SIGWINCH if it is another one.
        if not self.has_ended and termios.tcgetwinsize(self._master) != size:
            termios.tcsetwinsize(self._master, size)

    def redraw(self) -> None:
        """Have a full-screen program draw everything anew, which most do only for a size that has changed."""
        if self._is_blinking:
            return
        self._is_blinking = True
        rows, columns = self._size
        self._set_size((rows - 1 if rows > 1 else 2, columns))
        self.loop.later(BLINK, self._redraw)

    def _redraw(self) -> None:
        self._is_blinking = False
        self._set_size(self._size)

    def signal(self, number: int) -> None:
        """To the shell's process group; SIGKILL to all that it has started."""
        self._process.signal(number)
        if number == signal.SIGKILL:
            _kill_session(self._process.pid)

    # -- browsers ------------------------------------------------------------------------------------

    def attach(self, file: int, line: dict[str, Any], early: bytes) -> None:
        """A browser has connected.

        :param line: ``websocket`` of :mod:`.wire`.
        :param early: what it has sent already.
        """
        login, label = str(line.get("login", "")), str(line.get("label", ""))
        tab = Tab(self, file, login, label, int(line["max_message"]), float(line["ping"]), line.get("deflate"))
        self._tabs.append(tab)
        tab.begin(early)
        self.pace()
        self._changed(True)

    def detach(self, tab: Tab) -> None:
        """It has gone."""
        self._tabs.remove(tab)
        self.resize()
        self.pace()
        self._changed(True)
        if self.has_ended and not self._tabs:
            self._done()

    def keep_logins(self, login: str) -> None:
        """Close what was opened under another login."""
        for tab in list(self._tabs):
            if tab.login != login:
                tab.close(GOING_AWAY, "logged out")

    def hang_up(self, labels: list[str], at_once: bool) -> None:
        """Close what has one of these labels."""
        for tab in list(self._tabs):
            if tab.label in labels:
                tab.hang_up(at_once)

    # -- the whole -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """As :mod:`.wire` says."""
        process, memory = self._process, self._cgroup.memory()
        return {
            "pid": process.pid if process.returncode is None else None,
            "returncode": process.returncode,
            "started": self._started,
            "execution_state": "dead" if self.has_ended else "busy" if self._is_busy() else "idle",
            "activity": self._activity,
            "connections": len(self._tabs),
            "sequence": 0,
            "delivered": 0,
            "kernel_info": None,
            "memory": None
            if memory is None
            else {"current": memory.current, "peak": memory.peak, "limit": memory.limit},
            "memo": self._memo,
            "labels": sorted({tab.label for tab in self._tabs}),
        }

    def _is_busy(self) -> bool:
        """Whether the shell has given the terminal to a program."""
        try:
            return os.tcgetpgrp(self._master) not in (0, self._process.pid)
        except OSError:
            return False

    def close(self, patience: float) -> None:
        """End all that runs in the terminal, within *patience* seconds or by force."""
        self.has_ended = True
        for tab in list(self._tabs):
            tab.say_goodbye()
        # One that was stopped would hear nothing.
        self._process.signal(signal.SIGCONT)
        # Shells ignore SIGTERM. SIGHUP is what they get when a window is closed: they write their history and
        # tell their jobs.
        self._process.finish(max(patience, GRACE), signal.SIGHUP)
        _kill_session(self._process.pid)
        os.close(self._master)


class Tab:
    """One browser's websocket."""

    def __init__(
        self,
        terminal: Terminal,
        file: int,
        login: str,
        label: str,
        max_message: int,
        ping: float,
        deflate: dict[str, Any] | None,
    ) -> None:
        self._terminal = terminal
        self.login, self.label = login, label
        #: rows and columns, once it has said them
        self.size: tuple[int, int] | None = None
        # Of the next byte that it gets; before the scrollback's start when it has to be shown anew.
        self._position = -1 if terminal.scrollback.end else 0
        # Up to here it is shown what is old.
        self._old = 0
        self._moved = time.monotonic()
        self._is_saying_goodbye = self._is_new = False
        self._websocket = Websocket(
            terminal.loop,
            file,
            on_message=self._message,
            on_pong=lambda _: None,
            on_writable=self._writable,
            on_end=lambda: terminal.detach(self),
            max_message=max_message,
            ping=ping,
            most=DAY,
            deflate=deflate,
        )

    def begin(self, early: bytes) -> None:
        """Greet it, and show what there is."""
        self._is_new = True
        self._say("setup", {})
        self.pump()
        self._is_new = False
        if early:
            self._websocket.feed(early)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye, without telling anything about the shell."""
        self._websocket.close(code, reason)

    def hang_up(self, at_once: bool) -> None:
        """:meth:`.Websocket.hang_up`."""
        self._websocket.hang_up(at_once)

    # -- to the browser ------------------------------------------------------------------------------

    @property
    def behind(self) -> int:
        """Bytes that have been printed and not been sent to it."""
        return self._terminal.scrollback.end - self._position

    def is_stalled(self) -> bool:
        """Whether it has taken nothing for long."""
        return time.monotonic() - self._moved > PATIENCE

    def pump(self) -> None:
        """Send what there is, as far as the network takes it."""
        scrollback = self._terminal.scrollback
        while self._websocket.unsent < WINDOW and self._position < scrollback.end:
            if self._position < scrollback.start:
                self._begin_anew()
            is_old = self._position < self._old
            data = scrollback.read(self._position, self._old if is_old else scrollback.end, whole=is_old)
            self._position += len(data)
            self._moved = time.monotonic()
            self._say("stdout", (_QUESTIONS.sub(b"", data) if is_old else data).decode(errors="replace"))
        if self._terminal.has_ended and self._position >= scrollback.end:
            self.say_goodbye()

    def _begin_anew(self) -> None:
        """Clear what it shows (xterm.js: the lines above too) and go back to what was printed lately."""
        scrollback = self._terminal.scrollback
        self._position = scrollback.start if self._is_new else scrollback.back(GLANCE)
        self._old = scrollback.end
        self._say("stdout", "\x1bc" + scrollback.preparation(self._position).decode())
        if scrollback.is_on_other_screen():
            self._terminal.redraw()

    def say_goodbye(self) -> None:
        """The shell has ended."""
        if not self._is_saying_goodbye:
            self._is_saying_goodbye = True
            self._say("disconnect", 1)
            self._websocket.close(NORMAL)

    def _say(self, kind: str, value: object) -> None:
        if value != "":
            self._websocket.send(TEXT, json.dumps([kind, value], ensure_ascii=False).encode())

    def _writable(self) -> None:
        self.pump()
        self._terminal.pace()

    # -- from the browser ----------------------------------------------------------------------------

    def _message(self, opcode: int, payload: bytes) -> None:
        del opcode
        try:
            kind, *values = json.loads(payload)
        except (ValueError, TypeError):
            return
        match kind, values:
            case "stdin", [str(text), *_]:
                self._terminal.type(text)
            case "set_size", [int(rows), int(columns), *_] if 0 < rows <= LARGEST and 0 < columns <= LARGEST:
                self.size = (rows, columns)
                self._terminal.resize()


def _kill_session(leader: int) -> None:
    """End all processes of a session, whatever process group they are in; where no cgroup does it."""
    for _ in range(10):
        found = False
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{int(name)}/stat", "rb") as file:
                    # pid (name) state parent group session …; the name may be anything
                    state, _, _, session = file.read().rpartition(b")")[2].split()[:4]
                if int(session) == leader and state not in (b"Z", b"X"):
                    os.kill(int(name), signal.SIGKILL)
                    found = True
        if not found:
            return
