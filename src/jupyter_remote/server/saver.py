"""Writes what cells print into their notebook while no page is open that would do it.

What a kernel has said is in its journal (:mod:`~jupyter_remote.keeper.journal`), what cells show of it in
:mod:`.outputs`. Here is decided when that is written, and what must not be:

* While a page is connected to the kernel the notebook is the page's. It saves when it likes, and what it has
  saved is right, also where somebody has deleted outputs. For that it counts what the page had received by then
  (``sessions`` in the keeper's status), and what was in the notebook when a page loaded it.
* Whoever loads a notebook through the server gets what its cells show *now*, saved or not.
* A page that has lost its network goes on with the notebook as if nothing had happened: it gets the same messages
  and shows the same. JupyterLab asks before each saving for the file's hash, and whether to overwrite when it is
  another one than before. So as long as only we have written, only what one page had asked for, and nobody has
  loaded the notebook since, that question is answered with the hash from before.
* Nothing that goes through :class:`Contents` comes between our reading and our writing of a file. When it has
  changed on disk meanwhile, it is read again.
* A notebook that another program has written after the run is left as it is. Execution counts cannot say what is
  newer: they begin again with each kernel.
* The source of a cell is never touched. Where it is another one than what ran, its output is written still: a page
  would show it there, and it is nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_async
from tornado import web
from tornado.ioloop import IOLoop

from ..keeper.journal import Reader
from .background import in_background
from .outputs import Outputs, Run, digest
from .uploads import LAST

#: The file beside the journal in which we keep what we know.
MEMO = "saver.json"

#: Version of that file. Another one's is not read: the journal is, from its beginning.
VERSION = 1

#: Seconds for which one reading of the journal may go on.
READING = 10.0

#: That many times a journal is read when its kernel ends.
LONGEST_END = 10

#: Segments of the journal after the one that we have read: when a page is open they are read only then.
BEHIND = 3

#: Seconds for which it is known what was acknowledged.
LONGEST_SAVING = 600.0

#: A file's clock may be this many seconds off.
CLOCK = 2.0


@dataclass(frozen=True)
class Pace:
    """When notebooks are written. All in seconds, but the factors of the time that the last writing took."""

    #: after the first sign that something is new: its last messages are on their way
    gather: float = 0.3
    #: after the last writing, when the kernel waits for work
    idle: float = 1.0
    idle_factor: float = 2.0
    #: after the last writing, when it works
    busy: float = 10.0
    busy_factor: float = 10.0
    #: after a failure
    failed: float = 60.0
    #: between the moment at which a page makes what it saves, and its question whether the file has changed
    asking: float = 5.0


@dataclass
class _Label:
    """A notebook that has changed by us only: the hashes before and now, and whose output it was."""

    before: str
    now: str
    session: str


@dataclass
class _Kernel:
    """What we know of one kernel. Whoever uses ``outputs`` holds ``lock``."""

    id: str
    journal: Path
    reader: Reader
    #: of its notebook; empty without one
    path: str = ""
    sequence: int = 0
    connections: int = 0
    busy: bool = False
    #: pages that are connected, and the number of the record that each has acknowledged last
    sessions: dict[str, int] = field(default_factory=dict)
    outputs: Outputs = field(default_factory=Outputs)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: what was kept by the server before this one, until the notebook has been read for it
    memo: dict[str, Any] | None = None
    #: acknowledged before: times on the saver's clock, and ``sessions``
    history: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    #: when a page has asked last whether the notebook has changed, on the saver's clock
    checked: float | None = None
    #: what had been acknowledged when a page saved the notebook, until that was taken into account
    acknowledged: dict[str, int] | None = None
    #: an older version was put in place, until that was taken into account
    reverted: bool = False
    #: last_modified of the notebook as somebody has saved it through this server, seconds since 1970
    modified: float = 0.0
    #: on the saver's clock: the first sign of something new; end and duration of the last writing
    since: float | None = None
    ended: float = float("-inf")
    duration: float = 0.0
    not_before: float = float("-inf")
    #: the last page has gone since
    left: bool = False
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    #: the contents manager writes it at this moment
    saving: asyncio.Future[Any] | None = None
    #: what was written to the memo
    kept: str = ""

    #: up to this record the journal was read, as far as it had it
    read_to: int = 0
    #: up to this record a page has it that loaded the notebook last; 0 when nobody has
    loaded: int = 0

    def read(self) -> None:
        """Read what is new in the journal. In a thread."""
        self.read_to = self.sequence
        until = time.monotonic() + READING
        for record in self.reader.read(self.outputs.number + 1):
            self.outputs.feed(record)
            if time.monotonic() > until:
                self.read_to = record.number
                return

    def segments_behind(self) -> int:
        """How many segments the journal has after the one that we have read up to."""
        return sum(1 for first in _segments(self.journal) if first > self.outputs.number)


class Saver:
    """Saves outputs.

    :param contents: the server's contents manager. Its callers must use :class:`Contents` in its place.
    :param clock: seconds, of any beginning.
    """

    def __init__(
        self,
        contents: Any,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
    ) -> None:
        self._contents = contents
        self._log = log
        self._clock = clock
        self._pace = pace or Pace()
        self._kernels: dict[str, _Kernel] = {}
        self._labels: dict[str, _Label] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._stopped = False

    # -- what the server tells -------------------------------------------------------------------

    def status(self, kernel_id: str, journal: Path, notebook: str | None, status: Mapping[str, Any]) -> None:
        """A kernel's status has come. In the event loop, or before it runs.

        :param journal: the directory of its journal.
        :param notebook: the path of its notebook for the contents manager; None when it has none.
        :param status: what its keeper says.
        """
        kernel = self._kernels.get(kernel_id)
        if kernel is None:
            kernel = self._kernels[kernel_id] = _Kernel(kernel_id, journal, Reader(journal))
            self._remember(kernel)
        connections = int(status.get("connections") or 0)
        self._moved(kernel, (notebook or "").strip("/"))
        kernel.left = (kernel.left or kernel.connections > 0) and not connections
        kernel.connections = connections
        kernel.sessions = dict(status.get("sessions") or {})
        kernel.history.append((self._clock(), kernel.sessions))
        while len(kernel.history) > 1 and kernel.history[1][0] <= self._clock() - LONGEST_SAVING:
            kernel.history.pop(0)
        kernel.sequence = max(kernel.sequence, int(status.get("sequence") or 0))
        kernel.busy = status.get("execution_state") in ("busy", "starting")
        if connections and kernel.segments_behind() >= BEHIND:
            # The journal must not drop what the page may not have when it goes.
            self._begin(kernel, self._follow)
        self._plan(kernel)

    def loaded(self, kernel_id: str) -> int:
        """The record up to which a page has everything that has just loaded the kernel's notebook.

        0 when nobody has loaded it, or nothing runs that the page could want to follow.
        """
        kernel = self._kernels.get(kernel_id)
        if kernel is None or not any(_is_open(run, kernel.loaded) for run in kernel.outputs.all()):
            return 0
        return kernel.loaded

    async def running(self, kernel_id: str) -> list[Run]:
        """The requests that have not ended, or had not when the notebook was loaded; in the order they were made."""
        kernel = self._kernels.get(kernel_id)
        if kernel is None:
            return []
        async with self._turn(kernel.path), kernel.lock:
            await self._read(kernel)
            runs = [run for run in kernel.outputs.all() if _is_open(run, kernel.loaded)]
            return sorted(runs, key=lambda run: run.asked)

    async def finish(self, kernel_id: str, gone: bool = False) -> None:
        """A kernel is to end: write what is left, and forget it. Before its keeper removes the journal.

        :param gone: its keeper has ended already. No page is connected, and how much it has said nobody tells.
        """
        kernel = self._kernels.get(kernel_id)
        if kernel is None:
            return
        if gone:
            kernel.connections, kernel.sequence = 0, sys.maxsize
        try:
            for _ in range(LONGEST_END):
                await self._write_now(kernel)
                if kernel.read_to >= kernel.sequence:
                    break
        finally:
            self._kernels.pop(kernel_id, None)
            if kernel.timer:
                kernel.timer.cancel()
            async with kernel.lock:
                kernel.reader.close()

    async def settle(self) -> None:
        """Write now what no page will."""
        await asyncio.gather(*[self._write_now(kernel) for kernel in list(self._kernels.values())])

    async def stop(self, patience: float) -> None:
        """The server is to stop. What is not written within *patience* seconds is written by the next one.

        A file that is being written is finished: half of it may have been read by somebody.
        """
        settling = asyncio.ensure_future(self.settle())
        await asyncio.wait([settling], timeout=patience)
        self._stopped = True
        if saving := [kernel.saving for kernel in self._kernels.values() if kernel.saving]:
            await asyncio.wait(saving)
        settling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await settling
        for kernel in self._kernels.values():
            if kernel.timer:
                kernel.timer.cancel()
            if kernel.task:
                kernel.task.cancel()

    def due(self, kernel_id: str) -> float | None:
        """When a kernel's notebook will be written, on our clock; None when there is no need."""
        return self._due(self._kernels[kernel_id])

    def is_at_work(self) -> bool:
        """Whether something is written, or will be without anybody's doing."""
        return any(kernel.task or kernel.timer or self._due(kernel) is not None for kernel in self._kernels.values())

    async def quiet(self) -> None:
        """Wait until nothing is planned and nothing is written."""
        while pending := [kernel for kernel in self._kernels.values() if kernel.task or kernel.timer]:
            tasks = [kernel.task for kernel in pending if kernel.task]
            await (asyncio.wait(tasks) if tasks else asyncio.sleep(0.001))
            await asyncio.sleep(0)

    # -- when ------------------------------------------------------------------------------------

    def _due(self, kernel: _Kernel) -> float | None:
        """When the kernel's notebook is to be written, on our clock; None when it is not."""
        if not kernel.path or kernel.connections:
            kernel.since = None
            return None
        known = max(kernel.memo["number"] if kernel.memo else kernel.outputs.number, kernel.read_to)
        if not kernel.left and kernel.sequence <= known and kernel.since is None:
            return None
        if kernel.since is None:
            kernel.since = self._clock()
        if kernel.left:
            return max(kernel.since, kernel.not_before)
        pace = self._pace
        pause = (
            max(pace.busy, pace.busy_factor * kernel.duration)
            if kernel.busy
            else max(pace.idle, pace.idle_factor * kernel.duration)
        )
        return max(kernel.since + pace.gather, kernel.ended + pause, kernel.not_before)

    def _plan(self, kernel: _Kernel) -> None:
        if kernel.timer:
            kernel.timer.cancel()
            kernel.timer = None
        if kernel.task or self._stopped or kernel.id not in self._kernels:
            return
        due = self._due(kernel)
        if due is not None:
            kernel.timer = _loop().call_later(max(0.0, due - self._clock()), self._start, kernel)

    def _start(self, kernel: _Kernel) -> None:
        kernel.timer = None
        kernel.since, kernel.left = None, False
        self._begin(kernel, self._write_now)

    def _begin(self, kernel: _Kernel, work: Callable[[_Kernel], Coroutine[Any, Any, None]]) -> None:
        """Do something about a kernel, unless something is being done."""
        if kernel.task or self._stopped:
            return

        def finished(task: asyncio.Task[None]) -> None:
            kernel.task = None
            self._plan(kernel)

        kernel.task = _loop().create_task(work(kernel))
        kernel.task.add_done_callback(finished)

    async def _write_now(self, kernel: _Kernel) -> None:
        """Write the notebook, if no page is connected; what goes wrong is logged, and tried again later."""
        if not kernel.path or kernel.connections:
            return
        try:
            if not await self._write(kernel):
                kernel.since = self._clock()
        except Exception as error:
            kernel.since = self._clock()
            kernel.not_before = kernel.since + self._pace.failed
            self._log.warning("The output of cells could not be written to %s: %s", kernel.path, _reason(error))

    async def _follow(self, kernel: _Kernel) -> None:
        try:
            async with self._turn(kernel.path), kernel.lock:
                await self._read(kernel)
                self._keep(kernel)
        except Exception as error:
            self._log.warning("The journal of kernel %s cannot be read: %s", kernel.id, _reason(error))

    # -- what ------------------------------------------------------------------------------------

    async def _read(self, kernel: _Kernel) -> None:
        """Take in what is new in the journal, and what a page has saved meanwhile. In the kernel's lock."""
        if kernel.memo is not None:
            memo, kernel.memo = kernel.memo, None
            await self._take_up(kernel, memo)
        await in_background(kernel.read, "journal")
        if kernel.acknowledged is not None:
            acknowledged, kernel.acknowledged = kernel.acknowledged, None
            for run in kernel.outputs.all():
                run.saved = max(acknowledged.get(run.session, 0), run.loaded)
        if kernel.reverted:
            kernel.reverted = False
            for run in kernel.outputs.all():
                run.saved = run.last

    async def _take_up(self, kernel: _Kernel, memo: dict[str, Any]) -> None:
        """Go on where the last server ended."""
        cells: dict[str, Any] = {}
        with contextlib.suppress(web.HTTPError):
            model = await self._model(kernel.path, True) if kernel.path else {"content": {"cells": []}}
            cells = {cell.get("id", ""): cell for cell in model["content"]["cells"]}
        first = min(_segments(kernel.journal), default=1)
        try:
            kernel.outputs = Outputs.from_memo(memo, first, lambda cell: cells.get(cell, {}).get("outputs", ()))
        except (KeyError, ValueError, TypeError):
            kernel.outputs = Outputs()

    async def _write(self, kernel: _Kernel) -> bool:
        """Write what the notebook lacks; False when it must be tried again."""
        path = kernel.path
        async with self._turn(path), kernel.lock:
            if path != kernel.path:
                return False  # it was renamed
            await self._read(kernel)
            for _ in range(3):
                if kernel.connections or not any(run.unsaved for run in kernel.outputs.current()):
                    self._keep(kernel)
                    return True
                began = self._clock()
                try:
                    model = await self._model(path, True)
                except web.HTTPError as error:
                    if error.status_code == 404:
                        return True  # deleted
                    raise
                if model.get("type") != "notebook":
                    return True
                changed = await self._put(kernel, model)
                # Another program may have written it, or a page may have come.
                if changed and (_identity(model) != _identity(await self._model(path, False)) or kernel.connections):
                    continue
                if changed:
                    if self._stopped:
                        return True
                    saved = {"type": "notebook", "format": "json", "content": model["content"]}
                    kernel.saving = asyncio.ensure_future(ensure_async(self._contents.save(saved, path)))
                    try:
                        await asyncio.shield(kernel.saving)
                    finally:
                        kernel.saving = None
                    kernel.duration, kernel.ended = self._clock() - began, self._clock()
                    await self._wrote(kernel, model, changed)
                for run in kernel.outputs.current():
                    run.saved = max(run.saved, run.last)
                self._keep(kernel)
                return True
            return False

    async def _wrote(self, kernel: _Kernel, before: Mapping[str, Any], changed: list[Run]) -> None:
        path, now = kernel.path, await self._model(kernel.path, False)
        cells = "1 cell" if len(changed) == 1 else f"{len(changed)} cells"
        self._log.info("Wrote what %s printed unwatched to %s in %.2f s.", cells, path, kernel.duration)
        kernel.modified = _modified(now)
        label, sessions = self._labels.pop(path, None), {run.session for run in changed}
        if label and label.now == before.get("hash"):
            sessions.add(label.session)
            first = label.before
        else:
            first = before.get("hash") or ""
        if first and now.get("hash") and len(sessions) == 1:
            self._labels[path] = _Label(first, now["hash"], sessions.pop())

    async def _put(self, kernel: _Kernel, model: Mapping[str, Any]) -> list[Run]:
        changed: list[Run] = []
        await in_background(lambda: changed.extend(self._put_all(kernel, model)), "outputs")
        return changed

    def _put_all(self, kernel: _Kernel, model: Mapping[str, Any]) -> list[Run]:
        """Change a notebook to what its cells show; returns the runs for which something had to be changed."""
        notebook, modified = model["content"], _modified(model)
        cells = [cell for cell in notebook["cells"] if cell.get("cell_type") == "code"]
        changed = []
        for run in kernel.outputs.current():
            if not run.unsaved:
                continue
            if run.done and run.time and modified > max(run.time, kernel.modified) + CLOCK:
                continue
            cell = _cell_of(cells, run)
            if cell is None:
                continue
            fields = run.put(cell)
            if any(cell.get(name) != value for name, value in fields.items()):
                changed.append(run)
            # It ran for the owner, who is the one who trusts.
            fields["metadata"]["trusted"] = True
            cell.update(fields)
        return changed

    # -- between the contents manager and its callers ----------------------------------------------

    def _of(self, path: str) -> list[_Kernel]:
        return [kernel for kernel in self._kernels.values() if kernel.path and kernel.path == path]

    @contextlib.asynccontextmanager
    async def _turn(self, path: str) -> AsyncIterator[None]:
        """Be the only one who reads and writes a notebook."""
        # One for each path that a kernel ever had: few.
        async with self._turns.setdefault(path, asyncio.Lock()):
            yield

    async def in_turn(self, path: str, work: Callable[[], Any], reverts: bool = False) -> Any:
        """Do something about a notebook while nothing is written to it.

        :param reverts: it puts an older version in place.
        """
        kernels = self._of(path)
        if not kernels:
            return await ensure_async(work())
        async with self._turn(path):
            answer = await ensure_async(work())
            for kernel in kernels:
                kernel.reverted |= reverts
            return answer

    async def load(self, path: str, content: bool, wants_hash: bool, work: Callable[[], Any]) -> Any:
        """Load a notebook: with what cells show now, and with a hash that a page takes as its own.

        :param work: what the contents manager would do.
        """
        kernels = self._of(path)
        if not kernels or not (content or wants_hash):
            return await ensure_async(work())
        asked = self._clock()
        async with self._turn(path):
            model = await ensure_async(work())
            if model.get("type") != "notebook":
                return model
            label = self._labels.get(path)
            for kernel in kernels:
                if content:
                    await self._complete(kernel, model, wants_hash)
                else:
                    kernel.checked = asked
            if not content and label and label.now == model.get("hash"):
                model["hash"] = label.before
            return model

    async def _complete(self, kernel: _Kernel, model: dict[str, Any], by_a_page: bool) -> None:
        """Add to a notebook that is being loaded what has not been written yet."""
        try:
            async with kernel.lock:
                await self._read(kernel)
                await self._put(kernel, model)
                if by_a_page:
                    # Whoever saves it after this has either loaded this or decided against it.
                    self._labels.pop(kernel.path, None)
                    for run in kernel.outputs.current():
                        run.loaded = max(run.loaded, run.last)
                    kernel.loaded = kernel.outputs.number
                    self._keep(kernel)
        except Exception as error:
            self._log.warning("%s is loaded without its latest output: %s", kernel.path, _reason(error))

    async def save(self, path: str, work: Callable[[], Any]) -> Any:
        """Save a notebook for a page or a program: it is as they want it."""
        kernels = self._of(path)
        if not kernels:
            return await ensure_async(work())
        acknowledged = [self._acknowledged(kernel) for kernel in kernels]
        async with self._turn(path):
            answer = await ensure_async(work())
            self._labels.pop(path, None)
            for kernel, sessions in zip(kernels, acknowledged, strict=True):
                kernel.acknowledged, kernel.modified, kernel.checked = sessions, _modified(answer), None
                if kernel.connections:
                    self._begin(kernel, self._follow)
                else:
                    kernel.left = True
                    self._plan(kernel)
            return answer

    def _acknowledged(self, kernel: _Kernel) -> dict[str, int]:
        """What pages had received for certain when they made what is being saved now.

        They make it, ask whether the file has changed, and then send it, which can take its time.
        """
        asked = self._clock() if kernel.checked is None else kernel.checked
        known = [sessions for moment, sessions in kernel.history if moment <= asked - self._pace.asking]
        return known[-1] if known else {}

    async def _model(self, path: str, content: bool) -> dict[str, Any]:
        """The contents manager's own model of a notebook, with a hash if it makes any."""
        try:
            return await ensure_async(self._contents.get(path, content=content, type="notebook", require_hash=True))
        except TypeError:
            return await ensure_async(self._contents.get(path, content=content, type="notebook"))

    # -- over restarts -----------------------------------------------------------------------------

    def _moved(self, kernel: _Kernel, path: str) -> None:
        if kernel.path and path and kernel.path != path:
            # What could not be written under the old name can be now.
            kernel.left = True
            if kernel.path in self._labels:
                self._labels[path] = self._labels.pop(kernel.path)
        if label := (kernel.memo or {}).pop("label", None):
            self._labels[path] = _Label(*label)
        kernel.path = path

    def _keep(self, kernel: _Kernel) -> None:
        """Write down what the next server needs. Without it, it reads the whole journal."""
        label = self._labels.get(kernel.path)
        memo = kernel.outputs.memo() | {
            "version": VERSION,
            "modified": kernel.modified,
            "label": [label.before, label.now, label.session] if label else None,
        }
        text = json.dumps(memo)
        if text == kernel.kept:
            return
        file = kernel.journal.parent / MEMO
        new = file.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.touch(mode=0o600)
            new.write_text(text)
            new.replace(file)
            kernel.kept = text

    def _remember(self, kernel: _Kernel) -> None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            memo = json.loads((kernel.journal.parent / MEMO).read_text())
            if memo["version"] == VERSION:
                kernel.modified = float(memo["modified"])
                kernel.memo = {"number": int(memo["number"]), "runs": list(memo["runs"]), "label": memo["label"]}


class Contents:
    """The contents manager for those who serve pages: as the original, but notebooks go through the saver."""

    def __init__(self, original: Any, saver: Saver) -> None:
        self._original = original
        self._saver = saver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    async def get(self, path: str, content: Any = True, *args: Any, **kwargs: Any) -> Any:
        """A model of a file. When the original does not know ``require_hash``: TypeError, as from itself."""
        wants_hash = bool(kwargs.get("require_hash") or args[2:3] == (True,))
        return await self._saver.load(
            path.strip("/"), bool(content), wants_hash, lambda: self._original.get(path, content, *args, **kwargs)
        )

    async def save(self, model: dict[str, Any], path: str = "") -> Any:
        """Save a file; returns its model."""
        if model.get("chunk") not in (None, LAST):
            # A piece of an upload changes no file.
            return await self._original.save(model, path)
        return await self._saver.save(path.strip("/"), lambda: self._original.save(model, path))

    async def update(self, model: dict[str, Any], path: str) -> Any:
        """Rename a file; returns its model."""
        return await self._saver.in_turn(path.strip("/"), lambda: self._original.update(model, path))

    async def delete(self, path: str) -> Any:
        """Delete a file."""
        return await self._saver.in_turn(path.strip("/"), lambda: self._original.delete(path))

    async def restore_checkpoint(self, checkpoint_id: str, path: str) -> Any:
        """Put an older version in place."""
        return await self._saver.in_turn(
            path.strip("/"), lambda: self._original.restore_checkpoint(checkpoint_id, path), reverts=True
        )


def _loop() -> asyncio.AbstractEventLoop:
    """The server's event loop, also before it runs: kernels are adopted then."""
    return IOLoop.current().asyncio_loop  # type: ignore[attr-defined]


def _segments(journal: Path) -> list[int]:
    try:
        return [int(file.name) for file in journal.iterdir() if file.name.isdigit()]
    except OSError:
        return []


def _cell_of(cells: list[Any], run: Run) -> Any:
    """The cell that a run is of; None when the notebook does not have it.

    In notebooks from before nbformat 4.5 cells have no ids, and each page makes up its own. There it is the only
    cell with this source.
    """
    found = [cell for cell in cells if cell.get("id") == run.cell]
    if not found and not any("id" in cell for cell in cells):
        found = [cell for cell in cells if digest(cell["source"]) == run.code]
    return found[0] if len(found) == 1 else None


def _identity(model: Mapping[str, Any]) -> tuple[Any, Any]:
    """What is another one when the file has changed."""
    return model.get("hash"), model.get("last_modified")


def _modified(model: Mapping[str, Any]) -> float:
    """When a file was written, seconds since 1970; 0 if it is not known."""
    modified = model.get("last_modified")
    return modified.timestamp() if isinstance(modified, datetime) else 0.0


def _is_open(run: Run, loaded: int) -> bool:
    return not run.done or run.last > loaded


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
