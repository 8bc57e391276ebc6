"""``GET api/kernels/ID/running``: what runs in a notebook, for a page that has just loaded it.

JupyterLab knows only the cells that it has started itself; a page that is loaded in the middle of a run would
not show what they print from now on. With this it does: labextensions/jupyter-remote/kernels.js.
"""

from __future__ import annotations

import json

from jupyter_server.base.handlers import APIHandler
from tornado import web

from .saver import Saver

#: Below the base URL.
PATH = r"/api/kernels/([^/]+)/running"


class RunningHandler(APIHandler):
    """Answers ``[{"request": ID, "session": ID, "cell": ID, "begun": BOOL, "count": N or null}, …]``.

    These are the requests that have not ended, or whose end the loaded notebook does not have.
    """

    auth_resource = "kernels"

    def initialize(self, saver: Saver) -> None:
        """:param saver: knows which cells run."""
        self._saver = saver

    @web.authenticated
    async def get(self, kernel_id: str) -> None:
        """Say it."""
        if kernel_id not in self.kernel_manager:
            raise web.HTTPError(404, f"Kernel does not exist: {kernel_id}")
        runs = await self._saver.running(kernel_id)
        self.finish(
            json.dumps(
                [
                    {
                        "request": run.id,
                        "session": run.session,
                        "cell": run.cell,
                        "begun": run.begun,
                        "count": run.announced,
                    }
                    for run in runs
                ]
            )
        )
