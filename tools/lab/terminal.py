"""A terminal that a test looks at and types on, as a person would."""

from __future__ import annotations

import time
from pathlib import Path

import pexpect
import pyte

from lab import picture

KEYS = {
    "enter": "\r",
    "tab": "\t",
    "escape": "\x1b",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "backspace": "\x7f",
    "space": " ",
    "ctrl-c": "\x03",
    "ctrl-d": "\x04",
}
#: "application cursor keys", DEC's private mode 1, as pyte keeps it
_CURSOR_KEYS = 1 << 5


class Terminal:
    """A program on a terminal of *columns* times *rows* characters.

    What counts is the screen: a program that redraws only what changed never prints its text whole.
    """

    def __init__(self, argv: list[str], *, columns: int = 80, rows: int = 24) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=2000)
        self._stream = pyte.Stream(self._screen)
        self._child = pexpect.spawn(argv[0], argv[1:], dimensions=(rows, columns), encoding="utf-8", timeout=120)
        #: everything the program ever printed, with its control sequences
        self.raw = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(force=True)

    def screen(self) -> str:
        """The text on the screen now, without blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def expect(self, text: str, timeout: float = 120) -> str:
        """Wait until *text* is on the screen, and return the screen.

        A line break in *text*'s place on the screen counts as a blank.

        :param timeout: seconds.
        :raises AssertionError: it does not appear, or the program ended before. The message has the screen.
        """
        give_up = time.monotonic() + timeout
        while text not in self.screen() and text not in self._flowing():
            if not self._read(0.2):
                if text in self._flowing():
                    break
                raise AssertionError(f"the program ended without showing {text!r}:\n{self.screen()}")
            if time.monotonic() > give_up:
                raise AssertionError(f"{text!r} does not appear on the terminal:\n{self.screen()}")
        # what else belongs to this picture
        while self._read(0.1, once=True):
            pass
        return self.screen()

    def forget(self) -> None:
        """Clear the screen, so that what a program asks a second time is not taken for the first.

        Only for programs that write line by line: others redraw no more than what changed.
        """
        self._screen.reset()

    def type(self, text: str) -> None:
        """Type *text*, without the Enter key."""
        self._child.send(text)

    def press(self, *keys: str) -> None:
        """Press keys by their names (:data:`KEYS`)."""
        for key in keys:
            code = KEYS[key]
            if _CURSOR_KEYS in self._screen.mode and code.startswith("\x1b["):
                code = code.replace("[", "O")  # what a terminal sends to a program that asked for it
            self._child.send(code)
            time.sleep(0.02)  # a program takes an escape sequence that is split, or joined, for other keys

    def answer(self, text: str) -> None:
        """Type *text* and Enter."""
        self.type(text)
        self.press("enter")

    def wait(self, timeout: float = 600) -> int:
        """Wait for the end of the program and return its exit code.

        :raises AssertionError: it still runs after *timeout* seconds.
        """
        give_up = time.monotonic() + timeout
        while self._read(0.5):
            if time.monotonic() > give_up:
                raise AssertionError(f"the program does not end:\n{self.screen()}")
        self._child.close()
        return self._child.exitstatus if self._child.exitstatus is not None else -(self._child.signalstatus or 0)

    def picture(self, path: Path) -> None:
        """Write the screen as a PNG."""
        picture.of_screen(self._screen, path)

    def _flowing(self) -> str:
        # lines that were broken inside a dialog have its frame around them
        lines = (line.strip(" │|x") for line in self._screen.display)
        return " ".join(line for line in lines if line)

    def _read(self, seconds: float, *, once: bool = False) -> bool:
        """Take in what comes within *seconds*; False at the end of output or, *once*, when nothing came."""
        try:
            text = self._child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return not once
        except pexpect.EOF:
            return False
        self.raw += text
        self._stream.feed(text)
        return True
