"""The server's first lines: what must happen before Jupyter is imported.

Kept apart from :mod:`.app` because the time from here to the first answer is what a person waits for
after a restart.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from ..run import Mistake

#: sysexits(3): the configuration is at fault, another try would end the same way.
EX_CONFIG = 78
EX_USAGE = 64


def main(argv: list[str]) -> int:
    """Serve until a signal comes.

    :param argv: program and the path of ``server.json``.
    :returns: the exit code: 0 after a planned stop.
    """
    # Importing makes hundreds of thousands of objects and hardly any garbage: collecting in between
    # was a tenth of the start.
    gc.disable()
    # jsonschema looks for this optional checker of one string format ("iri", which no schema of
    # Jupyter's uses) and, if it is there, builds a grammar for it: more than half of the start.
    # None means: not installed.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

    if len(argv) != 2:
        print("usage: python -P -m jupyter_remote.server /path/server.json", file=sys.stderr)
        return EX_USAGE

    from . import app

    try:
        app.serve(Path(argv[1]))
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return mistake.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
