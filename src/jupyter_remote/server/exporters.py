"""What a notebook can be exported as. Notebook asks for it with each page, for a menu that is rarely opened.

To know it all of nbconvert has to be imported: a second or more in which a server of Jupyter answers nobody, and
megabytes that it keeps. Here another process finds it out, once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, ClassVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

#: Below the base URL.
PATH = "api/nbconvert"


class ExportersHandler(APIHandler):
    """``/api/nbconvert``: the same answer as Jupyter's own."""

    auth_resource = "nbconvert"
    _found: ClassVar[asyncio.Task[str] | None] = None

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """The exporters' names, each with the type of what it makes."""
        this = type(self)
        if this._found is None or (this._found.done() and this._found.exception()):
            this._found = asyncio.ensure_future(_find())
        # One that asks and goes away takes it from nobody else.
        self.finish(await asyncio.shield(this._found))


async def _find() -> str:
    """
    :raises HTTPError: they cannot be found out; the log has the reason.
    """
    finder = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", __name__, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    text, _ = await finder.communicate()
    if finder.returncode:
        raise web.HTTPError(500, f"The list of exporters cannot be made: {__name__} ended with {finder.returncode}.")
    return text.decode()


def exporters() -> dict[str, Any]:
    """What there is in this environment."""
    from nbconvert.exporters import base  # here: it is what this module keeps out of the server

    found = {}
    for name in base.get_export_names():  # type: ignore[no-untyped-call]
        try:
            exporter = base.get_exporter(name)  # type: ignore[no-untyped-call]
            found[name] = {"output_mimetype": exporter.output_mimetype}
        except ValueError:
            # uninstalled at this moment
            continue
    return found


if __name__ == "__main__":
    print(json.dumps(exporters()))
