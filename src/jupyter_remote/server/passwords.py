"""Comparing passwords: slow on purpose, so in a thread of its own, with few places in front of it."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from jupyter_server.auth.security import passwd_check

#: Comparisons that wait, or are under way, at most: so many of strangers, and so many of familiar callers besides.
#: Each takes a tenth of a second.
PLACES = 4

#: Below the event loop and the kernels (nice(1)), but not so far that a busy kernel makes a login take minutes.
_NICENESS = 5


class Passwords:
    """The one thread that hashes."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="password", initializer=_step_back)
        self._taken = {True: 0, False: 0}

    def has_place(self, familiar: bool) -> bool:
        """Whether one more would be begun within a second."""
        return self._taken[familiar] < PLACES

    async def is_right(self, hashed: str, typed: str, familiar: bool) -> bool:
        """Whether *typed* is the password that was hashed."""
        self._taken[familiar] += 1
        try:
            loop = asyncio.get_running_loop()
            return bool(await loop.run_in_executor(self._thread, passwd_check, hashed, typed))
        finally:
            self._taken[familiar] -= 1


def _step_back() -> None:
    # Of this thread alone, and of those that argon2 starts from it.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)
