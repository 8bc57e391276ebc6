"""Outputs that nobody watches are written to notebooks, and pages are not disturbed by it.

Real files, contents managers and journals. A page is :class:`Page`, which does what JupyterLab 4.6 does
(``Context._maybeSave`` of @jupyterlab/docregistry).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from said import Kernel

from jupyter_remote.keeper.journal import IOPUB
from jupyter_remote.server.saver import MEMO, Contents, Pace, Saver
from jupyter_remote.server.uploads import LargeFiles

#: seconds after which something hangs
PATIENCE = 60

AT_ONCE = Pace(gather=0, idle=0, idle_factor=0, busy=0, busy_factor=0, asking=0)

Story = Callable[[], Coroutine[Any, Any, None]]


def notebook(*cells: str, minor: int = 5, **source: str) -> dict[str, Any]:
    made = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": cell,
            "metadata": {},
            "outputs": [],
            "source": source.get(cell, "run()"),
        }
        for cell in cells
    ]
    if minor < 5:
        for cell in made:
            del cell["id"]
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": minor}


def stream(text: str) -> dict[str, Any]:
    return {"name": "stdout", "output_type": "stream", "text": text}


class Conflict(Exception):
    """JupyterLab would ask whether to overwrite the file."""


class World:
    """A server's part, a kernel, and a notebook."""

    def __init__(self, top: Path, contents_class: type = AsyncLargeFileManager) -> None:
        self.top = top
        self.files = top / "files"
        self.files.mkdir()
        self.file = self.files / "n.ipynb"
        self.original = contents_class(root_dir=str(self.files))
        self.kernel = Kernel(top / "kernel")
        self.start()
        self.write(notebook("a", "b"))

    def start(self, pace: Pace = AT_ONCE, **more: Any) -> None:
        """A server starts, another one after the first."""
        self.saver = Saver(self.original, logging.getLogger("saver"), pace=pace, **more)
        self.contents = Contents(self.original, self.saver)

    def write(self, content: dict[str, Any], path: str = "n.ipynb") -> None:
        (self.files / path).write_text(nbformat.writes(nbformat.from_dict(content)) + "\n")

    def tell(self, connections: int = 0, busy: bool = False, path: str | None = "n.ipynb", **sessions: int) -> None:
        """The keeper's status comes."""
        status = self.kernel.status(connections, busy, **sessions)
        self.saver.status("k", self.kernel.journal.directory, path, status)

    def tell_all_is_there(self, session: str = "page") -> None:
        """A status in which the page has got everything."""
        self.tell(**{session: self.kernel.journal.number})

    async def told(self, **more: Any) -> None:
        """The keeper's status comes, and what follows from it is done."""
        self.tell(**more)
        await self.saver.quiet()

    @property
    def cells(self) -> dict[str, Any]:
        """What the file has: texts by cell, and None for a cell without output."""
        read = nbformat.reads(self.file.read_text(), as_version=4)
        return {
            cell.get("id") or cell["source"]: "".join(output.get("text", "?") for output in cell["outputs"])
            if cell["outputs"]
            else None
            for cell in read["cells"]
        }


class Page:
    """A page of JupyterLab."""

    def __init__(self, world: World, path: str = "n.ipynb") -> None:
        self.world, self.path = world, path

    async def load(self) -> Page:
        model = await self.world.contents.get(path=self.path, type="notebook", content=1, require_hash=1)
        self.content, self.hash = model["content"], model["hash"]
        return self

    async def save(self) -> None:
        found = await self.world.contents.get(path=self.path, content=0, require_hash=1)
        if found["hash"] != self.hash:
            raise Conflict
        await self.overwrite()

    async def overwrite(self) -> None:
        content = json.loads(json.dumps(self.content))
        await self.world.contents.save({"type": "notebook", "format": "json", "content": content}, self.path)
        self.hash = (await self.world.contents.get(path=self.path, content=0, require_hash=1))["hash"]

    def show(self, cell: str, *outputs: dict[str, Any], count: int | None = None) -> None:
        for found in self.content["cells"]:
            if found["id"] == cell:
                found.update(outputs=list(outputs), execution_count=count)
                found["metadata"]["trusted"] = True

    def shown(self, cell: str) -> list[dict[str, Any]]:
        return next(found["outputs"] for found in self.content["cells"] if found["id"] == cell)


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures of notebooks are the test's own."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def story(world: World) -> Callable[[Story], None]:
    """Run a story to its end; nothing of it goes on."""

    def run(told: Story) -> None:
        async def to_the_end() -> None:
            try:
                await told()
            finally:
                await world.saver.stop(PATIENCE)

        asyncio.run(to_the_end())

    return run


# -- what nobody watches -----------------------------------------------------------------------------


@pytest.mark.parametrize("contents_class", [AsyncLargeFileManager, FileContentsManager])
def test_the_file_is_the_one_that_a_page_would_have_saved(tmp_path: Path, contents_class: type):
    world = World(tmp_path, contents_class)
    world.file.chmod(0o640)

    async def told() -> None:
        page = await Page(world).load()
        request = world.kernel.ask("a")
        count = world.kernel.begin(request)
        world.kernel.print(request, "one\n")
        world.kernel.print(request, "two\r\nthree")
        content = {"data": {"text/html": "<b>\n</b>", "application/json": {"x": 1.0}}, "metadata": {}, "transient": {}}
        world.kernel.say(IOPUB, "display_data", request, content)
        world.kernel.end(request, count)
        await world.told()
        ours = world.file.read_bytes()
        html = {"data": {"text/html": "<b>\n</b>", "application/json": {"x": 1}}, "metadata": {}}
        page.show("a", stream("one\ntwo\nthree"), {"output_type": "display_data", **html}, count=count)
        world.write(notebook("a", "b"))
        await page.overwrite()
        assert world.file.read_bytes() == ours
        assert b"three" in ours

    asyncio.run(told())
    assert world.file.stat().st_mode & 0o777 == 0o640
    assert (world.files / ".ipynb_checkpoints").is_dir()


def test_nothing_is_written_while_a_page_is_open_and_everything_when_it_has_gone(world: World, story: Any):
    async def told() -> None:
        before = world.file.read_bytes()
        world.tell(connections=1)
        world.kernel.run("a", "seen")
        await world.told(connections=1)
        assert world.file.read_bytes() == before
        request = world.kernel.ask("b")
        world.kernel.begin(request)
        world.kernel.print(request, "so far")
        await world.told(busy=True)
        assert world.cells == {"a": "seen", "b": "so far"}
        world.kernel.print(request, ", and the rest")
        world.kernel.end(request, 2)
        await world.told()
        assert world.cells == {"a": "seen", "b": "so far, and the rest"}

    story(told)


def test_a_notebook_that_has_everything_is_not_written(world: World, story: Any):
    async def told() -> None:
        world.kernel.run("a", "1")
        await world.told()
        before = world.file.stat()
        world.kernel.say(IOPUB, "status", "", {"execution_state": "idle"})
        await world.told()
        await world.told(connections=1)
        await world.told()
        after = world.file.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    story(told)


def test_a_console_has_no_notebook(world: World, story: Any):
    async def told() -> None:
        world.kernel.run("a", "1")
        await world.told(path=None)
        assert world.cells == {"a": None, "b": None}

    story(told)


def test_a_renamed_notebook_is_written_under_its_new_name(world: World, story: Any):
    async def told() -> None:
        await world.told()
        world.kernel.run("a", "1")
        await world.contents.update({"path": "other.ipynb"}, "n.ipynb")
        # The session does not know yet: nothing comes up under the old name.
        await world.told()
        assert not world.file.exists()
        world.file = world.files / "other.ipynb"
        await world.told(path="other.ipynb")
        assert world.cells["a"] == "1"

    story(told)


def test_a_deleted_cell_and_a_deleted_notebook_stay_deleted(world: World, story: Any):
    async def told() -> None:
        world.kernel.run("gone", "1")
        world.kernel.run("a", "2")
        await world.told()
        assert world.cells == {"a": "2", "b": None}
        world.file.unlink()
        world.kernel.run("a", "3")
        await world.told()
        assert not world.file.exists()

    story(told)


def test_another_source_is_left_and_the_output_is_written(world: World, story: Any):
    async def told() -> None:
        world.write(notebook("a", a="edited()"))
        world.kernel.run("a", "1", code="run()")
        await world.told()
        assert world.cells == {"a": "1"}
        assert "edited()" in world.file.read_text()

    story(told)


def test_old_notebooks_have_cells_without_ids(world: World, story: Any):
    async def told() -> None:
        world.write(notebook("a", "b", "c", minor=4, a="one()", b="two()", c="two()"))
        world.kernel.run("made-up", "1", code="one()")
        world.kernel.run("made-up-2", "2", code="two()")
        await world.told()
        read = json.loads(world.file.read_text())
        # Which of two equal cells it was cannot be known.
        assert [cell["outputs"] != [] for cell in read["cells"]] == [True, False, False]
        assert all("id" not in cell for cell in read["cells"])

    story(told)


def test_what_ran_for_the_owner_is_trusted(world: World, story: Any):
    async def told() -> None:
        request = world.kernel.ask("a")
        world.kernel.begin(request)
        content = {"data": {"text/html": "<script></script>"}, "metadata": {}}
        world.kernel.say(IOPUB, "display_data", request, content)
        world.kernel.end(request, 1)
        await world.told()
        model = await world.contents.get("n.ipynb")
        assert model["content"]["cells"][0]["outputs"]
        assert model["content"]["cells"][0]["metadata"]["trusted"]

    story(told)


# -- pages -------------------------------------------------------------------------------------------


def test_whoever_loads_a_notebook_gets_what_its_cells_show_now(world: World, story: Any):
    async def told() -> None:
        await world.told(connections=1)
        before = world.file.read_bytes()
        request = world.kernel.ask("a")
        world.kernel.begin(request)
        world.kernel.print(request, "so far")
        # No status has come since, and another page is open.
        page = await Page(world).load()
        assert page.shown("a") == [stream("so far")]
        assert world.file.read_bytes() == before
        await page.save()
        assert world.cells["a"] == "so far"

    story(told)


def test_a_page_that_comes_back_goes_on_as_if_nothing_had_happened(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        await world.told(page=0)
        request = world.kernel.ask("a")
        world.kernel.begin(request)
        world.kernel.print(request, "1")
        # Its network is gone. Written twice.
        await world.told(busy=True)
        world.kernel.print(request, "2")
        world.kernel.end(request, 1)
        await world.told()
        assert world.cells["a"] == "12"
        # It is back, gets the messages, and saves.
        world.tell_all_is_there()
        page.show("a", stream("12"), count=1)
        page.show("b", stream("edited"))
        await page.save()
        assert page.hash == hashlib.sha256(world.file.read_bytes()).hexdigest()
        assert world.cells == {"a": "12", "b": "edited"}
        world.kernel.run("b", "3")
        await world.told()
        assert world.cells == {"a": "12", "b": "3"}
        # And once more.
        world.tell_all_is_there()
        page.show("b", stream("3"), count=2)
        await page.save()

    story(told)


def test_a_page_may_save_before_it_has_received_what_was_written(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        await world.told(page=0)
        world.kernel.run("a", "1")
        await world.told()
        await page.save()
        await world.saver.quiet()
        # It has not come back: what it has overwritten is written again.
        assert world.cells["a"] == "1"

    story(told)


def test_a_page_that_saves_just_what_was_written_has_the_file_as_it_is(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        await world.told(page=0)
        world.kernel.run("a", "1")
        await world.told()
        before = world.file.read_bytes()
        page.show("a", stream("1"), count=1)
        await page.save()
        assert world.file.read_bytes() == before
        assert page.hash == hashlib.sha256(before).hexdigest()

    story(told)


def test_a_page_that_others_have_overtaken_is_told(world: World, story: Any):
    async def told() -> None:
        old = await Page(world).load()
        await world.told(page=0)
        world.kernel.run("a", "1")
        await world.told()
        new = await Page(world).load()
        with pytest.raises(Conflict):
            await old.save()
        await new.save()
        assert world.cells["a"] == "1"

    story(told)


def test_outputs_of_two_pages_are_not_one_pages_own(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        await world.told(page=0, other=0)
        world.kernel.run("a", "1", session="page")
        await world.told()
        world.kernel.run("b", "2", session="other")
        await world.told()
        with pytest.raises(Conflict):
            await page.save()

    story(told)


def test_what_somebody_else_has_written_is_a_conflict(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        await world.told(page=0)
        world.kernel.run("a", "1")
        await world.told()
        world.write(notebook("a", "b", "c"))
        with pytest.raises(Conflict):
            await page.save()

    story(told)


def test_what_a_page_has_deleted_stays_deleted(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        world.kernel.run("a", "1")
        world.tell_all_is_there()
        # The page had it, and its owner has cleared the output.
        await page.save()
        await world.told()
        assert world.cells["a"] is None

    story(told)


def test_what_a_page_had_not_received_when_it_saved_is_written(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        world.tell(page=0)
        world.kernel.run("a", "1")
        world.tell(page=0)
        await page.save()
        world.tell_all_is_there()
        await world.told()
        assert world.cells["a"] == "1"

    story(told)


def test_a_piece_of_an_upload_is_no_save_of_the_notebook(tmp_path: Path):
    world = World(tmp_path, LargeFiles)

    async def told() -> None:
        await Page(world).load()
        world.kernel.run("a", "1")
        world.tell_all_is_there("page")
        # Somebody begins to upload a notebook of this name, and thinks better of it.
        piece = {"type": "file", "format": "text", "content": "{", "chunk": 1}
        await world.contents.save(piece, "n.ipynb")
        world.original.end_uploads()
        # The page goes without having saved.
        await world.told()
        assert world.cells["a"] == "1"

    asyncio.run(told())


def test_a_page_that_saves_long_after_the_run_is_no_other_program(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        world.kernel.late = 60
        world.tell(page=0)
        world.kernel.run("a", "1")
        world.tell(page=0)
        await page.save()
        await world.told()
        assert world.cells["a"] == "1"

    story(told)


def test_what_came_between_making_and_sending_is_not_what_was_saved(world: World, story: Any):
    """A big notebook takes long to be sent."""

    async def told() -> None:
        page = await Page(world).load()
        world.tell(page=0)
        await world.contents.get("n.ipynb", 0, require_hash=1)
        world.kernel.run("a", "1")
        world.tell_all_is_there()
        await world.contents.save({"type": "notebook", "format": "json", "content": page.content}, "n.ipynb")
        await world.told()
        assert world.cells["a"] == "1"

    story(told)


def test_what_a_reloaded_page_has_deleted_stays_deleted(world: World, story: Any):
    async def told() -> None:
        world.kernel.run("a", "1", session="before")
        await world.told()
        page = await Page(world).load()
        page.show("a")
        world.tell(page=world.kernel.journal.number)
        await page.save()
        await world.told()
        assert world.cells["a"] is None

    story(told)


def test_an_older_version_stays_in_place(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        await page.overwrite()
        world.tell(page=0)
        (checkpoint,) = await world.contents.list_checkpoints("n.ipynb")
        world.kernel.run("a", "1")
        world.tell(page=0)
        await world.contents.restore_checkpoint(checkpoint["id"], "n.ipynb")
        page = await Page(world).load()
        assert page.shown("a") == []
        await world.told()
        assert world.cells["a"] is None

    story(told)


# -- other programs ----------------------------------------------------------------------------------


def test_a_file_that_changes_under_our_hands_is_read_again(tmp_path: Path):
    class Changing(AsyncLargeFileManager):
        async def get(self, path: str, content: Any = True, **more: Any) -> Any:
            model = await super().get(path, content, **more)
            if content and world.cells.keys() == {"a", "b"}:
                world.write(notebook("a", "b", "c"))
            return model

    world = World(tmp_path, Changing)

    async def told() -> None:
        world.kernel.run("a", "1")
        await world.told()

    asyncio.run(told())
    assert world.cells == {"a": "1", "b": None, "c": None}


def test_a_page_that_comes_while_we_read_is_left_alone(tmp_path: Path):
    class Slow(AsyncLargeFileManager):
        async def get(self, path: str, content: Any = True, **more: Any) -> Any:
            model = await super().get(path, content, **more)
            if content:
                world.tell(page=0)
            return model

    world = World(tmp_path, Slow)

    async def told() -> None:
        world.kernel.run("a", "1")
        await world.told()
        assert world.cells["a"] is None
        await world.told()

    asyncio.run(told())


def test_what_another_program_has_written_after_the_run_is_newer(world: World, story: Any):
    async def told() -> None:
        world.kernel.run("a", "1")
        world.write(notebook("a", "b"))
        later = world.file.stat().st_mtime + 10
        os.utime(world.file, (later, later))
        await world.told()
        assert world.cells["a"] is None
        # What runs after that is shown.
        world.kernel.say(IOPUB, "status", "", {"execution_state": "idle"})
        request = world.kernel.ask("b")
        world.kernel.begin(request)
        world.kernel.print(request, "2")
        await world.told(busy=True)
        assert world.cells == {"a": None, "b": "2"}

    story(told)


# -- restarts, limits, failures ----------------------------------------------------------------------


def test_the_next_server_goes_on(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        await world.told(page=0)
        world.kernel.run("a", "1")
        world.kernel.run("b", "old")
        request = world.kernel.ask("b")
        count = world.kernel.begin(request)
        world.kernel.print(request, "2")
        await world.told(busy=True)
        await world.saver.stop(PATIENCE)
        memo = world.kernel.directory / MEMO
        assert memo.stat().st_mode & 0o777 == 0o600
        # While there is none:
        world.kernel.print(request, "3")
        world.kernel.end(request, count)
        world.start()
        await world.told()
        assert world.cells == {"a": "1", "b": "23"}
        # A page from before both.
        world.tell_all_is_there()
        page.show("a", count=1)
        page.show("b", stream("23"), count=count)
        await page.save()
        await world.saver.quiet()
        await world.saver.stop(PATIENCE)
        world.start()
        await world.told()
        assert world.cells == {"a": None, "b": "23"}

    story(told)


def test_the_next_server_knows_what_a_page_has_deleted(world: World, story: Any):
    async def told() -> None:
        page = await Page(world).load()
        world.kernel.run("a", "1")
        world.tell_all_is_there()
        await page.save()
        await world.saver.quiet()
        await world.saver.stop(PATIENCE)
        world.start()
        await world.told()
        assert world.cells["a"] is None

    story(told)


@pytest.mark.parametrize(
    "memo", ["", "{}", "[]", '{"version": 1, "number": 5, "runs": [{}], "modified": 0, "label": 0}']
)
def test_without_a_memo_the_journal_is_read_from_its_beginning(world: World, story: Any, memo: str):
    async def told() -> None:
        world.kernel.run("a", "1")
        (world.kernel.directory / MEMO).write_text(memo)
        await world.told()
        assert world.cells["a"] == "1"

    story(told)


def test_a_journal_that_wraps_under_an_open_page_loses_nothing(tmp_path: Path):
    world = World(tmp_path)
    world.kernel = Kernel(tmp_path / "small", 1 << 16)

    async def told() -> None:
        request = world.kernel.ask("a")
        count = world.kernel.begin(request)
        for number in range(200):
            world.kernel.print(request, f"{number}" + "x" * 1000 + "\n")
            await world.told(connections=1)
        world.kernel.end(request, count)
        await world.told()
        assert world.cells["a"] == "".join(f"{number}" + "x" * 1000 + "\n" for number in range(200))
        assert world.kernel.journal.first > 50

    asyncio.run(told())


def test_a_kernels_end_is_waited_for(world: World, story: Any):
    async def told() -> None:
        world.tell()
        await world.saver.quiet()
        world.kernel.run("a", "1")
        await world.saver.finish("k")
        assert world.cells["a"] == "1"
        await world.saver.finish("k")
        with pytest.raises(KeyError):
            world.saver.due("k")

    story(told)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_notebooks_are_written_soon_after_the_end_and_sometimes_during_a_run(world: World, story: Any):
    clock = Clock()

    async def told() -> None:
        pace = Pace()
        world.start(pace, clock=clock)
        world.tell(connections=1)
        assert world.saver.due("k") is None
        request = world.kernel.ask("a")
        world.kernel.begin(request)
        world.kernel.print(request, "0")
        # The last page has gone: at once.
        world.tell(busy=True)
        assert world.saver.due("k") == clock.now
        await world.saver.settle()
        await world.saver.quiet()
        assert world.saver.due("k") is None
        world.kernel.print(request, "1")
        clock.now += 1
        world.tell(busy=True)
        assert world.saver.due("k") == 1000 + pace.busy
        clock.now += 1
        world.kernel.end(request, 1)
        world.tell()
        # It counts from the first sign.
        assert world.saver.due("k") == 1001 + pace.gather

    story(told)


def test_a_failure_is_logged_and_tried_again_later(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    clock = Clock()

    class Failing(AsyncLargeFileManager):
        async def save(self, model: Any, path: str = "") -> Any:
            if broken:
                raise OSError("No space left on device")
            return await super().save(model, path)

    world = World(tmp_path, Failing)
    world.start(clock=clock)
    broken = [True]

    async def told() -> None:
        world.kernel.run("a", "1")
        world.tell()
        await world.saver.settle()
        assert "No space left on device" in caplog.text
        assert world.saver.due("k") == clock.now + AT_ONCE.failed
        broken.clear()
        clock.now += AT_ONCE.failed
        await world.told()
        assert world.cells["a"] == "1"

    asyncio.run(told())


def test_a_stop_does_not_leave_half_a_notebook(tmp_path: Path):
    """It comes while a notebook is written, and has no patience at all."""
    started, go_on = asyncio.Event(), asyncio.Event()

    class Slow(AsyncLargeFileManager):
        async def save(self, model: Any, path: str = "") -> Any:
            started.set()
            await go_on.wait()
            return await super().save(model, path)

    world = World(tmp_path, Slow)

    async def told() -> None:
        world.kernel.run("a", "1")
        world.tell()
        await started.wait()
        stopping = asyncio.create_task(world.saver.stop(0))
        while not world.saver._stopped:
            await asyncio.sleep(0)
        go_on.set()
        await stopping
        assert world.cells["a"] == "1"
        # And nothing begins after it.
        world.kernel.run("b", "2")
        await world.told()
        assert world.cells["b"] is None

    asyncio.run(told())


def test_kernels_are_adopted_before_the_loop_runs(world: World):
    world.kernel.run("a", "1")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        world.tell()
        loop.run_until_complete(world.saver.quiet())
        assert world.cells["a"] == "1"
    finally:
        loop.close()
        asyncio.set_event_loop(None)
