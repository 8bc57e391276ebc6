"""What was there before an adoption, so that it can be put back byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import paths
from ..run import EX_DATAERR, die
from ..settings import Scalar
from ..transaction import replace, sync
from .servers import OldKernel, OldServer, Pane

#: Root's alone: there is a password's hash in it. A file for each adoption, numbered.
DIRECTORY = paths.STATE_DIR / "adopted"


@dataclass
class Record:
    """One adoption.

    ``files`` has the text of each file before, and the digest of what it was made into: Apache's, the settings and the
    password's hash. ``settings`` are the values of keys before, None for those that were not set.
    """

    owner: str
    when: float = field(default_factory=time.time)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    settings: dict[str, Scalar | None] = field(default_factory=dict)
    server: OldServer | None = None
    path: Path = DIRECTORY / "0.json"


def keep(record: Record) -> None:
    """Write it down before anything is changed.

    :raises OSError: it cannot be written.
    """
    DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = max((_number(path) for path in DIRECTORY.glob("*.json")), default=0) + 1
    record.path = DIRECTORY / f"{number}.json"
    known = asdict(record)
    del known["path"]
    # ASCII with escapes: a file that is no UTF-8 comes back as it was.
    replace(record.path, json.dumps(known, indent=1) + "\n", 0o600)
    # Before Apache's files, which may be on another disk: a power cut must not keep those and lose this.
    for directory in (DIRECTORY, DIRECTORY.parent):
        sync(directory)


def last() -> Record | None:
    """The latest adoption that has not been undone.

    :raises Mistake: it cannot be read.
    """
    found = sorted(DIRECTORY.glob("*.json"), key=_number)
    if not found:
        return None
    path = found[-1]
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        server = known.pop("server")
        if server:
            server["kernels"] = [OldKernel(**one) for one in server["kernels"]]
            server["tmux"] = Pane(**server["tmux"]) if server["tmux"] else None
        files = {name: tuple(each) for name, each in known.pop("files").items()}
        return Record(
            **known,
            files=files,
            server=OldServer(**server) if server else None,
            path=path,
        )
    except (ValueError, TypeError, LookupError) as error:
        die(f"{path} cannot be read: {error}.", hint=f"It is what was there before: look into {path}", code=EX_DATAERR)


def digest(text: str) -> str:
    """By which it is seen whether somebody has edited a file meanwhile."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read(path: Path) -> str:
    """A file's text, whatever bytes it has; empty without it."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _number(path: Path) -> int:
    return int(path.stem) if re.fullmatch(r"\d{1,9}", path.stem) else 0
