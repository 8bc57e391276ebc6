"""The page ``/status``: how things stand, for who is logged in.

The facts are those of ``jupyter-remote status --json``, which is asked as the owner would ask it in a terminal: a
process of its own finds them out, and this one has nothing to import and nobody to keep waiting.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import ClassVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado import web

from . import pages

#: The page and what it asks for, below the base URL.
PAGE, FACTS = "status", "api/jupyter-remote/status"

#: Seconds for which an answer is good: several tabs may ask.
_FRESH = 3.0
#: Seconds that it may take; a disk that does not answer takes for ever.
_PATIENCE = 60.0


class StatusPage(JupyterHandler):
    """The page. It may stand in a frame of our own pages: JupyterLab's tab."""

    @property
    def content_security_policy(self) -> str:
        return pages.POLICY_FOR_FRAMES

    @web.authenticated
    def get(self) -> None:
        """The page, which asks for the facts."""
        for name in ("X-Content-Type-Options", "Referrer-Policy"):
            self.set_header(name, pages.HEADERS[name])
        self.set_header("Cache-Control", "no-store")
        self.finish(
            pages.render(
                "status.html",
                host=self.request.host_name,
                icon=f"{self.base_url}static/favicon.ico",
                facts=f"{self.base_url}{FACTS}",
                scripts=f"{self.base_url}{pages.SCRIPTS}",
            )
        )


class StatusFacts(APIHandler):
    """The facts, as JSON."""

    auth_resource = "server"
    _found: ClassVar[asyncio.Task[str] | None] = None
    _when: ClassVar[float] = 0.0

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """What ``jupyter-remote status --json`` says."""
        this = type(self)
        if this._found is None or (this._found.done() and time.monotonic() > this._when + _FRESH):
            this._found = asyncio.ensure_future(_ask())
            this._found.add_done_callback(lambda _: setattr(this, "_when", time.monotonic()))
        # Who asks and goes away takes it from nobody else.
        text = await asyncio.shield(this._found)
        self.set_header("Cache-Control", "no-store")
        self.finish(text)


async def _ask() -> str:
    """
    :raises HTTPError: there is no answer; the log has the reason.
    """
    asked = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "jupyter_remote.cli", "status", "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        text, said = await asyncio.wait_for(asked.communicate(), _PATIENCE)
    except TimeoutError:
        asked.kill()
        raise web.HTTPError(503, f"jupyter-remote status has not ended in {_PATIENCE:.0f} s.") from None
    # 69: something needs attention, which the answer names.
    if asked.returncode not in (0, 69):
        raise web.HTTPError(503, f"jupyter-remote status has ended with {asked.returncode}: {said.decode()[-500:]}")
    return text.decode()
