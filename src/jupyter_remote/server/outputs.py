"""What the cells of a notebook show, from what their kernel said: as JupyterLab would have it, and saves it.

JupyterLab's own code is followed where it decides what ends in the file: ``OutputAreaModel`` and ``OutputArea``
of @jupyterlab/outputarea, ``OutputModel`` of @jupyterlab/rendermime, ``CodeCell.execute`` of @jupyterlab/cells and
``KernelConnection`` of @jupyterlab/services (4.6). JupyterLab and Notebook 7 say with each request for which cell
it is. Output that a widget of ipywidgets would have captured (``Output``) is the cell's here.

Memory is bounded by what the cells show.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..keeper.journal import ASKED, IOPUB, SHELL, Record

#: An output as nbformat has it, with texts in one piece.
Output = dict[str, Any]

#: Types of messages that are an output, in the file under the same name.
_SHOWN = ("stream", "display_data", "execute_result", "error")
#: Types of messages on iopub that say anything about a cell.
_TOLD = (*_SHOWN, "update_display_data", "clear_output", "execute_input", "status")

_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOVES = re.compile("([\n\b\r])")


class Text:
    """The text of a stream, with what a carriage return and a backspace do to it.

    The cursor is always in the last line, so only that one can still change.
    """

    __slots__ = ("_column", "_done", "_line")

    def __init__(self, text: str = "") -> None:
        self._done: list[str] = []
        # In UTF-16 units, as a browser counts: an emoji is two columns.
        self._line = ""
        self._column = 0
        self.add(text)

    def add(self, text: str) -> None:
        """Write at the cursor."""
        if _ASTRAL.search(text):
            text = _ASTRAL.sub(_units, text)
        if "\r" in text or "\b" in text:
            for piece in _MOVES.split(text):
                self._move(piece)
            return
        first, newline, rest = text.partition("\n")
        self._write(first)
        if newline:
            middle, newline, last = rest.rpartition("\n")
            self._done.append(f"{self._line}\n{middle}{newline}")
            self._line, self._column = last, len(last)

    def _move(self, piece: str) -> None:
        if piece == "\n":
            self._done.append(f"{self._line}\n")
            self._line, self._column = "", 0
        elif piece == "\r":
            self._column = 0
        elif piece == "\b":
            if self._column:
                # JupyterLab removes what is under the cursor, too.
                self._line = self._line[: self._column - 1] + self._line[self._column + 1 :]
                self._column -= 1
        else:
            self._write(piece)

    def _write(self, text: str) -> None:
        end = self._column + len(text)
        self._line = self._line[: self._column] + text + self._line[end:]
        self._column = end

    def __str__(self) -> str:
        text = "".join(self._done)
        # Joined once.
        self._done = [text] if text else []
        text += self._line
        if _SURROGATE.search(text):
            # Half an emoji, overwritten, cannot be written to a file.
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text


def _units(character: re.Match[str]) -> str:
    code = ord(character[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


class Area:
    """The outputs of one cell.

    :param outputs: what is there already.
    """

    def __init__(self, outputs: Iterable[Mapping[str, Any]] = ()) -> None:
        self._outputs: list[Output] = []
        #: where the outputs with a display id are
        self.displays: dict[str, list[int]] = {}
        self._last_stream = ""
        self._clear_next = False
        for output in outputs:
            self.add(dict(output))

    def add(self, output: Output) -> None:
        """Show one more output. Streams of the same name that follow each other are one."""
        if self._clear_next:
            self.clear()
        if output["output_type"] != "stream":
            self._last_stream = ""
            self._outputs.append(_shown(output))
            return
        text = output.get("text", "")
        text = text if isinstance(text, str) else "".join(text)
        if self._outputs and output.get("name") == self._last_stream:
            self._outputs[-1]["text"].add(text)
            return
        self._last_stream = output.get("name", "")
        self._outputs.append({**_shown(output), "text": Text(text)})

    def display(self, identity: str, output: Output) -> None:
        """Show an output that can be updated later."""
        self.add(output)
        self.displays.setdefault(identity, []).append(len(self._outputs) - 1)

    def update(self, identity: str, output: Output) -> bool:
        """Replace what has this display id; whether anything has."""
        places = [place for place in self.displays.get(identity, ()) if place < len(self._outputs)]
        for place in places:
            self._outputs[place] = _shown({**output, "output_type": "display_data"})
        return bool(places)

    def clear(self, wait: bool = False) -> None:
        """Show nothing any more.

        :param wait: from the next output on.
        """
        self._last_stream = ""
        self._clear_next = wait
        if not wait:
            self._outputs.clear()
            self.displays.clear()

    def shown(self) -> list[Output]:
        """The outputs for a notebook."""
        return [
            {**output, "text": str(output["text"])} if isinstance(output.get("text"), Text) else output
            for output in self._outputs
        ]


def _shown(output: Output) -> Output:
    """An output after it has been through a browser."""
    rich = output["output_type"] in ("display_data", "execute_result")
    left_out = ("transient",) if rich else ("transient", "data", "metadata")
    bundle: Output = {"data": {}, "metadata": {}} if rich else {}
    return bundle | {key: through_a_browser(value) for key, value in output.items() if key not in left_out}


def through_a_browser(value: Any) -> Any:
    """The same value, with its numbers as JavaScript writes them: 1.0 is 1, and no integer has more than 53 bits."""
    if isinstance(value, dict):
        return {key: through_a_browser(item) for key, item in value.items()}
    if isinstance(value, list):
        return [through_a_browser(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 1 << 53:
        value = float(value) if abs(value) < 1 << 1023 else None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        # The digits that are certain, then zeros.
        mantissa, _, exponent = repr(value).partition("e")
        return (
            int(float(value))
            if not exponent
            else int(mantissa.replace(".", "")) * 10 ** (int(exponent) - len(mantissa.partition(".")[2]))
        )
    return value


def _seconds(header: Mapping[str, Any]) -> float:
    """The time in a message's header, in seconds since 1970; 0 without any."""
    try:
        return datetime.fromisoformat(header["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return 0.0


@dataclass
class Run:
    """A request to run a cell, and what came of it."""

    id: str
    #: of the browser's page that asked
    session: str
    cell: str
    #: of the code that ran, see :func:`digest`
    code: str
    #: numbers of the records that asked for it, and that changed the cell last
    asked: int
    last: int
    begun: bool = False
    replied: bool = False
    idle: bool = False
    count: int | None = None
    #: the count that the kernel has told at the beginning; the cell gets it with the answer
    announced: int | None = None
    area: Area = field(default_factory=Area)
    #: the cell's ``execution`` metadata; None when the front end does not record it
    timing: dict[str, str] | None = None
    #: whether the outputs were hidden, and running the cell has shown them
    unhides: bool = False
    #: when the kernel said so last, seconds since 1970
    time: float = 0.0
    #: messages that are missing before the next one; not zero after the journal had to drop some
    gap: int = 0
    #: records up to this one are in the area: after a restart of ours they may come once more
    known: int = 0
    #: up to this record the notebook has it, or is as somebody wants it; and was given to a page that loaded
    #: the notebook. The saver's own.
    saved: int = 0
    loaded: int = 0

    @property
    def done(self) -> bool:
        """Whether the kernel has answered and has gone on to something else."""
        return self.replied and self.idle

    @property
    def unsaved(self) -> bool:
        """Whether the notebook lacks something of it."""
        return self.begun and self.last > self.saved

    def put(self, cell: Mapping[str, Any]) -> Output:
        """What the cell's fields are to be: outputs, execution_count and metadata.

        :param cell: as it is in the notebook, with texts in one piece.
        """
        metadata = dict(cell.get("metadata", {}))
        timing = metadata.pop("execution", {})
        if self.timing is not None:
            metadata["execution"] = {**timing, **self.timing}
        if self.unhides:
            metadata.pop("collapsed", None)
            hidden = {key: value for key, value in metadata.pop("jupyter", {}).items() if key != "outputs_hidden"}
            metadata |= {"jupyter": hidden} if hidden else {}
        return {
            "outputs": self.area.shown(),
            # JupyterLab knows it from the answer.
            "execution_count": self.count if self.done else None,
            "metadata": metadata,
        }

    def memo(self) -> dict[str, Any]:
        """What :meth:`from_memo` needs."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return {**kept, "displays": self.area.displays}

    @classmethod
    def from_memo(cls, memo: Mapping[str, Any], outputs: Iterable[Mapping[str, Any]]) -> Run:
        """A run from before a restart of ours.

        :param outputs: what the notebook has.
        :raises KeyError: and TypeError, it is none.
        """
        run = cls(**{name: memo[name] for name in _KEPT}, area=Area(outputs))
        run.area.displays = dict(memo["displays"])
        run.known = run.saved
        return run


_KEPT = (
    "id", "session", "cell", "code", "asked", "last", "begun", "replied", "idle", "count", "announced", "timing",
    "unhides", "time", "saved", "loaded",
)  # fmt: skip


def digest(code: str) -> str:
    """Code as something short that can be compared."""
    return hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()[:32]


class Outputs:
    """What the cells show that a kernel was asked to run."""

    def __init__(self) -> None:
        #: the last record that was taken in
        self.number = 0
        self._runs: dict[str, Run] = {}
        #: of each cell the request that began last
        self._current: dict[str, Run] = {}
        #: what was saved and loaded of requests that come again
        self._saved: dict[str, tuple[int, int]] = {}
        #: display ids and the requests that have shown them, in order
        self._displays: dict[str, list[str]] = {}

    def current(self) -> list[Run]:
        """For each cell that has run, what it shows."""
        return list(self._current.values())

    def all(self) -> list[Run]:
        """Those, and what has been asked and has not begun, in the order in which it was asked."""
        return sorted(self._runs.values(), key=lambda run: run.asked)

    def memo(self) -> dict[str, Any]:
        """What :meth:`from_memo` needs: little, as the outputs are in the notebook or will be read again."""
        again = [run.asked for run in self._runs.values() if run.unsaved or not run.done]
        return {
            "number": min([self.number, *(asked - 1 for asked in again)]),
            "runs": [run.memo() for run in self.all()],
        }

    @classmethod
    def from_memo(
        cls, memo: Mapping[str, Any], first: int, outputs_of: Callable[[str], Iterable[Mapping[str, Any]]]
    ) -> Outputs:
        """What was known before a restart of ours, up to the record from which on all must be fed again.

        :param first: the oldest record that the journal has.
        :param outputs_of: what the notebook has for a cell.
        :raises KeyError: TypeError and ValueError too, it is none.
        """
        outputs = cls()
        outputs.number = max(int(memo["number"]), first - 1)
        for kept in memo["runs"]:
            if kept["asked"] > outputs.number:
                # Its first record, and all that follow, come again.
                outputs._saved[kept["id"]] = (kept["saved"], kept["loaded"])
                continue
            run = Run.from_memo(kept, outputs_of(kept["cell"]))
            outputs._runs[run.id] = run
            if run.begun:
                outputs._current[run.cell] = run
            for display in run.area.displays:
                outputs._displays.setdefault(display, []).append(run.id)
            if run.asked > memo["number"] and run.saved < first - 1:
                run.gap = first - 1 - max(run.saved, run.asked)
                outputs._admit_gap(run)
                run.last = max(run.last, first - 1)
        return outputs

    def feed(self, record: Record) -> None:
        """Take in the next record. The numbers of those that are missing make a gap."""
        missing = record.number - self.number - 1
        self.number = record.number
        if missing > 0 and self._runs:
            for asked in self._runs.values():
                asked.gap += 0 if asked.done else missing
        if len(record.frames) < 5 or record.channel not in (IOPUB, SHELL, ASKED):
            return
        try:
            header, parent = json.loads(record.frames[1]), json.loads(record.frames[2])
            if record.channel == ASKED:
                if header["msg_type"] == "execute_request":
                    self._ask(record, header)
            elif record.channel == SHELL:
                if header["msg_type"] == "execute_reply" and (run := self._run(record, parent)):
                    self._reply(run, record.number, header, *map(json.loads, record.frames[3:5]))
            elif header["msg_type"] in _TOLD:
                self._tell(record, header, parent, json.loads(record.frames[4]))
        except (KeyError, ValueError, TypeError, AttributeError):
            # A kernel's mistake: what is not a message says nothing about a cell.
            return

    def _run(self, record: Record, parent: Mapping[str, Any]) -> Run | None:
        run = self._runs.get(parent.get("msg_id", ""))
        return run if run and record.number > run.known else None

    def _ask(self, record: Record, header: Mapping[str, Any]) -> None:
        metadata, content = json.loads(record.frames[3]), json.loads(record.frames[4])
        cell = metadata.get("cellId")
        if not isinstance(cell, str) or not cell or content.get("silent") or header["msg_id"] in self._runs:
            return
        saved, loaded = self._saved.pop(header["msg_id"], (0, 0))
        self._runs[header["msg_id"]] = Run(
            saved=saved,
            loaded=loaded,
            id=header["msg_id"],
            session=header.get("session", ""),
            cell=cell,
            code=digest(content.get("code", "")),
            asked=record.number,
            last=record.number,
            timing={} if metadata.get("recordTiming") else None,
            unhides=bool(metadata.get("collapsed") or (metadata.get("jupyter") or {}).get("outputs_hidden")),
        )

    def _begin(self, run: Run) -> None:
        """The kernel has come to this request: what the cell showed is of the past."""
        if run.begun:
            return
        run.begun = True
        before = self._current.get(run.cell)
        if before is not None and before is not run:
            self._forget(before)
        self._current[run.cell] = run
        # What came before has ended, even when the journal does not have its end.
        for other in self._current.values():
            if other is not run and not other.done and other.gap and other.asked < run.asked:
                self._admit_gap(other)
                other.replied = other.idle = True
                other.last = self.number

    def _forget(self, run: Run) -> None:
        self._runs.pop(run.id, None)
        for display in run.area.displays:
            self._displays[display] = [shown for shown in self._displays.get(display, ()) if shown != run.id]
            if not self._displays[display]:
                del self._displays[display]

    def _admit_gap(self, run: Run) -> None:
        if run.gap <= 0:
            run.gap = 0
            return
        text = f"[jupyter-remote: up to {run.gap} messages of the kernel are missing here. The journal was full.]\n"
        run.gap = 0
        run.area.add({"output_type": "stream", "name": "stderr", "text": text})

    def _reply(
        self, run: Run, number: int, header: Mapping[str, Any], metadata: Mapping[str, Any], content: Mapping[str, Any]
    ) -> None:
        self._begin(run)
        self._admit_gap(run)
        run.replied = True
        count = content.get("execution_count")
        run.count = count if isinstance(count, int) and count else None
        run.time = _seconds(header)
        if run.timing is not None:
            if metadata.get("started"):
                run.timing["shell.execute_reply.started"] = metadata["started"]
            run.timing["shell.execute_reply"] = header.get("date", "")
        if content.get("status") == "ok":
            # What a pager would show, as in `print?`.
            pages = [item for item in content.get("payload") or () if item.get("source") == "page"]
            if pages:
                run.area.add({"output_type": "display_data", "data": pages[0]["data"], "metadata": {}})
        run.last = number

    def _tell(
        self, record: Record, header: Mapping[str, Any], parent: Mapping[str, Any], content: Mapping[str, Any]
    ) -> None:
        kind = header["msg_type"]
        if kind == "status" and content.get("execution_state") in ("restarting", "dead"):
            self._restart(record.number)
            return
        display = (content.get("transient") or {}).get("display_id")
        if display and kind in ("display_data", "update_display_data", "execute_result"):
            self._update(display, content, record.number)
        if kind == "update_display_data" or not (run := self._run(record, parent)):
            return
        if kind == "status":
            self._state(run, header, content)
        else:
            self._begin(run)
            self._admit_gap(run)
            if kind == "clear_output":
                run.area.clear(bool(content.get("wait")))
            elif kind == "execute_input":
                run.announced = content.get("execution_count")
                if run.timing is not None:
                    run.timing["iopub.execute_input"] = header.get("date", "")
            elif display and kind == "display_data":
                run.area.display(display, {**content, "output_type": kind})
            else:
                run.area.add({**content, "output_type": kind})
        if display and run.id not in (runs := self._displays.setdefault(display, [])):
            runs.append(run.id)
        run.last, run.time = record.number, _seconds(header)

    def _state(self, run: Run, header: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        state = content.get("execution_state")
        if run.timing is not None:
            run.timing[f"iopub.status.{state}"] = header.get("date", "")
        if state == "busy" and not run.begun:
            # A request that is refused after an error is "busy" for a moment, too, and is cleared like this.
            # What is missing was not its.
            run.gap = 0
            self._begin(run)
        if state == "idle":
            self._admit_gap(run)
            run.idle = True

    def _update(self, display: str, content: Mapping[str, Any], number: int) -> None:
        for identity in self._displays.get(display, ()):
            run = self._runs.get(identity)
            if run and number > run.known and run.area.update(display, dict(content)):
                run.last = number

    def _restart(self, number: int) -> None:
        """The kernel is another one: what ran has ended, and what waited will never run."""
        for run in list(self._runs.values()):
            if run.done:
                continue
            self._begin(run)
            self._admit_gap(run)
            run.replied = run.idle = True
            run.last = number
        self._displays.clear()
