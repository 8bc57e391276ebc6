"""Modules that Jupyter imports when it starts and that hardly anybody, or nobody, needs here.

They were a sixth of the start, and 8 MiB: docs/figures.md. Before Jupyter is imported.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

#: Optional checkers of formats in JSON schemas ("iri", "duration") that no schema of Jupyter's has. jsonschema does
#: without one that is not installed. The first builds a grammar, which took longer than all the rest of the start.
UNNEEDED = ("rfc3987_syntax", "isoduration")

#: For lists of allowed extensions on another server, and for a gateway: imported when they are used.
LATE = ("requests", "websocket")

#: JupyterLab's way to install extensions from PyPI, which is switched off (config.py), with all that it would import.
UNUSED = {"jupyterlab.extensions.pypi": "PyPIExtensionManager"}


def leave_out() -> None:
    """Have what is imported from now on do without them."""
    for name in UNNEEDED:
        # None means: not installed.
        sys.modules[name] = None  # type: ignore[assignment]
    for name in LATE:
        sys.modules[name] = _Late(name)
    for name, wanted in UNUSED.items():
        sys.modules[name] = _Nothing(name)
        setattr(sys.modules[name], wanted, None)


def end() -> None:
    """Jupyter is imported: who wants the unused ones from now on gets them."""
    for name in UNUSED:
        if isinstance(sys.modules.get(name), _Nothing):
            del sys.modules[name]


class _Nothing(ModuleType):
    """A name to import, with nothing behind it."""


class _Late(ModuleType):
    """Stands where a module would, until somebody wants something of it."""

    def __getattr__(self, name: str) -> Any:
        # (importlib.util.LazyLoader's loads its module at the second `import` already.)
        own = self.__name__
        if sys.modules.get(own) is self:
            del sys.modules[own]
        return getattr(importlib.import_module(own), name)
