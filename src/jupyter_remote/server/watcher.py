"""Tells open pages that the list of kernels has changed.

Jupyter's front end asks for the list once a minute. Our part in it, ``labextensions/``, asks as soon as this
event comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from jupyter_events import EventLogger

#: Jupyter's own events are at events.jupyter.org. Nothing is fetched from an event's name.
SCHEMA_ID = "https://events.jupyter-remote.invalid/kernelspecs/v1"

SCHEMA = {
    "$id": SCHEMA_ID,
    "version": "1",
    "title": "Kernelspecs have changed",
    "description": "The list of kernels is another one than a moment ago.",
    "type": "object",
    "properties": {},
}

#: Seconds between two looks, and the most of the time that looking may take.
PAUSE = 1.0
SHARE = 0.02


class Watcher:
    """Looks at the list of kernels while somebody would want to know.

    :param look: returns the list, or anything else that is equal as long as the list is.
    :param is_watched: whether a page listens. Who has a kernel only does not count: what comes while no page
        listens must be told to the first that listens again.
    """

    def __init__(self, look: Callable[[], Any], is_watched: Callable[[], bool], events: EventLogger) -> None:
        self._look = look
        self._is_watched = is_watched
        self._events = events
        events.register_event_schema(SCHEMA)

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = PAUSE
        known = None
        while True:
            await asyncio.sleep(pause)
            if not self._is_watched():
                known = None
                continue
            began = time.monotonic()
            seen = self._look()
            pause = max(PAUSE, (time.monotonic() - began) / SHARE)
            # A page that was just opened has asked for the list before we looked.
            if seen != known:
                self.announce()
            known = seen

    def announce(self) -> None:
        """Tell open pages now."""
        self._events.emit(schema_id=SCHEMA_ID, data={})
