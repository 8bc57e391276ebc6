"""Waiting for several things at once: ZMQ sockets, other sockets, moments. asyncio would cost 6 MB a kernel."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import zmq

READ = zmq.POLLIN
WRITE = zmq.POLLOUT


class Loop:
    """Calls back, until :meth:`stop`."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._callbacks: dict[Any, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._count = itertools.count(1)
        self._stopped = False

    def watch(self, source: Any, callback: Callable[[int], None], events: int = READ) -> None:
        """Call *callback* with what can be done, whenever something can be done.

        :param source: a ZMQ socket or a file descriptor.
        """
        self._callbacks[source] = callback
        self._poller.register(source, events)

    def forget(self, source: Any) -> None:
        """No more calls for it, not even those that are due."""
        if self._callbacks.pop(source, None) is not None:
            self._poller.unregister(source)

    def later(self, seconds: float, callback: Callable[[], None]) -> int:
        """Call *callback* once; the answer is for :meth:`cancel`."""
        timer = next(self._count)
        heapq.heappush(self._timers, (time.monotonic() + seconds, timer, callback))
        return timer

    def cancel(self, timer: int) -> None:
        """Do not make that call. Must not be said of one that was made."""
        self._cancelled.add(timer)

    def stop(self) -> None:
        """Return from :meth:`run` soon."""
        self._stopped = True

    def run(self) -> None:
        """Until somebody says stop."""
        while not self._stopped:
            for source, events in self._poller.poll(self._wait()):
                callback = self._callbacks.get(source)
                if callback is not None:
                    callback(events)
            self._call_due()

    def _wait(self) -> int | None:
        """Milliseconds until the next moment; None without one."""
        return max(0, math.ceil((self._timers[0][0] - time.monotonic()) * 1000)) if self._timers else None

    def _call_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, timer, callback = heapq.heappop(self._timers)
            if timer in self._cancelled:
                self._cancelled.discard(timer)
            else:
                callback()
