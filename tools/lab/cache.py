"""Where the lab keeps what is expensive to make, and how it is made only once."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def directory() -> Path:
    """The cache directory, made if missing. Nothing in it is precious."""
    path = Path(os.environ.get("JUPYTER_REMOTE_CACHE") or Path.home() / ".cache/jupyter-remote")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock named by *path* (a file beside it ending in ``.lock``); waits for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Make the directory *target* with *build*, unless it is there already.

    :param build: gets an empty directory to fill. When it raises, nothing is kept.
    :returns: *target*. It appears in one step, so whoever sees it sees all of it.
    """
    if target.exists():
        return target
    with locked(target):
        if not target.exists():
            partial = target.with_name(target.name + ".partial")
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
            try:
                build(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            partial.rename(target)
    return target
