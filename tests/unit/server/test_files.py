"""Lists of directories: what Jupyter itself would say, without what it costs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from running import Running

from jupyter_remote.server.files import Files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """All that can be in a directory."""
    top = tmp_path / "notebooks"
    inner = top / "inner ñ"
    inner.mkdir(parents=True)
    for name in ("a.ipynb", "b.txt", "c", "d.png", "e.tar.gz", ".hidden", "~x.pyc", "100%.csv", "old.txt"):
        (inner / name).write_text(name)
    (inner / "b.txt").chmod(0o444)
    os.utime(inner / "old.txt", (-1e10, -1e10))
    (inner / "deeper").mkdir()
    (inner / "deeper.ipynb").mkdir()
    (inner / "__pycache__").mkdir()
    (inner / "to-file").symlink_to("b.txt")
    (inner / "to-directory").symlink_to("deeper")
    (inner / "to-nowhere").symlink_to("missing")
    (inner / "to-itself").symlink_to("to-itself")
    os.mkfifo(inner / "pipe")
    return top


def listed(manager: AsyncLargeFileManager, path: str) -> dict[str, Any]:
    model: dict[str, Any] = asyncio.run(manager.get(path))
    model["content"].sort(key=lambda entry: entry["name"])
    return model


@pytest.mark.parametrize("path", ["", "inner ñ", "/inner ñ/"])
@pytest.mark.parametrize("options", [{}, {"allow_hidden": True}, {"hide_globs": ["*.txt"]}])
def test_a_list_says_what_jupyters_own_says(directory: Path, path: str, options: dict[str, Any]):
    ours, stock = (kind(root_dir=str(directory), **options) for kind in (Files, AsyncLargeFileManager))
    assert listed(ours, path) == listed(stock, path)
    assert listed(ours, path)["content"]


@pytest.fixture
def server(make_server: Callable[[], Running]) -> Iterator[Running]:
    """A server, running."""
    running = make_server().start().wait_until_ready()
    yield running
    running.close()


def test_a_list_is_one_event_for_the_pages_and_not_one_for_each_file(server: Running):
    many = server.home / "notebooks" / "many" if (server.home / "notebooks").is_dir() else server.home / "many"
    many.mkdir()
    for n in range(50):
        (many / f"{n}.txt").touch()
    with server.owner() as owner:
        events = owner.events()
        assert len(owner.api("GET", "contents/many?content=1")["content"]) == 50
        owner.api("GET", "contents/many/7.txt?content=0")
        paths = []
        while "many/7.txt" not in paths:
            event = events.recv()
            if '"get"' in event:
                paths.append(next(path for path in ("many/7.txt", "many", "?") if f'"{path}"' in event or path == "?"))
        assert paths == ["many", "many/7.txt"]
        events.close()
