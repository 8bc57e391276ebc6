"""Work that takes long, beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


def in_background(work: Callable[[], None], name: str) -> asyncio.Future[None]:
    """Do *work* in a thread. Must be called in the event loop.

    A daemon: the server's stop does not wait for it.

    :param name: of the thread.
    :returns: what becomes done when the work is, or gets its exception. Nobody need ask for it.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    # An error that nobody has asked for must not be reported a second time.
    done.add_done_callback(lambda done: done.cancelled() or done.exception())

    def finish(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: Exception | None = None
        try:
            work()
        except Exception as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(finish, error)
        except RuntimeError:
            return  # the server has stopped meanwhile

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
