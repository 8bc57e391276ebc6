"""Reports to systemd, sd_notify(3): ready, what we are doing, still alive, stopping. No library needed."""

from __future__ import annotations

import contextlib
import socket

from tornado.ioloop import PeriodicCallback


class Notifier:
    """The one connection to systemd's notification socket. Without a socket everything is a no-op."""

    def __init__(self, address: str, watchdog: float) -> None:
        """
        :param address: ``$NOTIFY_SOCKET``: a path, or an abstract name after ``@``; or empty.
        :param watchdog: the longest silence that systemd accepts, in seconds, or 0.
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self._pulse = (
            # From the event loop itself, so that a loop that hangs falls silent.
            PeriodicCallback(lambda: self.tell("WATCHDOG=1"), watchdog * 1000 / 3) if watchdog else None
        )

    def tell(self, *assignments: str) -> None:
        """Send one message. A manager that does not listen is not our failure."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(assignments).encode(), self._address)

    def ready(self, status: str) -> None:
        """The next request is answered. From now on the watchdog is fed."""
        self.tell("READY=1", f"STATUS={status}", "WATCHDOG=1")
        if self._pulse is not None:
            self._pulse.start()

    def stopping(self, status: str) -> None:
        """The stop has begun. The watchdog is still fed until the loop ends."""
        self.tell("STOPPING=1", f"STATUS={status}")
