"""What a long run says while it goes on: how far it is, and each failure as it happens.

A run that is cut off has then said what failed and where its time went.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

#: seconds between two lines of progress
EVERY = 60


class Progress:
    """A plugin of the process that sees all tests: with several workers, the one that hands them out."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal
        self._started = self._said = time.monotonic()
        self._done = 0
        #: test -> seconds, set-up and clean-up included
        self._seconds: Counter[str] = Counter()
        #: the longest since the last line
        self._longest: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        self._longest[report.nodeid] = self._seconds[report.nodeid]
        if report.failed:
            self._line(f"{report.nodeid} ({report.when}) FAILED\n{report.longreprtext}")
        self._done += report.when == "teardown"
        if time.monotonic() - self._said > EVERY:
            longest = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self._longest.most_common(2))
            self._line(f"{self._done} tests; last: {longest}")
            self._said = time.monotonic()
            self._longest.clear()

    def pytest_terminal_summary(self) -> None:
        files: Counter[str] = Counter()
        for name, seconds in self._seconds.items():
            files[name.partition("::")[0]] += seconds
        if sum(files.values()) > EVERY:
            self._terminal.section("where the time went")
            for name, seconds in files.most_common(25):
                self._terminal.write_line(f"{seconds:6.0f} s  {name}")

    def _line(self, text: str) -> None:
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        self._terminal.ensure_newline()
        self._terminal.write_line(f"{minutes:3}:{seconds:02} {text}")
        self._terminal.flush()


def register(config: pytest.Config) -> None:
    """Have all this said in a run with *config*."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(terminal))
