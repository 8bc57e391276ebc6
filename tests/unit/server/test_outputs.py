"""What a kernel said, and what JupyterLab would have shown and saved of it.

The vectors of :func:`test_a_stream_is_overwritten_as_in_a_browser` and of the numbers were computed by the code of
@jupyterlab/outputarea 4.6.6 and by Node.js.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from said import Kernel

from jupyter_remote.keeper.journal import ASKED, IOPUB, SHELL, Journal, Reader
from jupyter_remote.server.outputs import Outputs, Run, Text, through_a_browser

#: seconds without a word from a kernel after which something hangs
PATIENCE = 120_000


def fed(kernel: Kernel, outputs: Outputs | None = None) -> Outputs:
    outputs = outputs or Outputs()
    for record in Reader(kernel.journal.directory).read(outputs.number + 1):
        outputs.feed(record)
    return outputs


def cells(outputs: Outputs) -> dict[str, list[dict[str, Any]]]:
    return {run.cell: run.area.shown() for run in outputs.current()}


def run_of(outputs: Outputs, cell: str) -> Run:
    return next(run for run in outputs.current() if run.cell == cell)


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def shown(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["a\n", "b"], "a\nb"),
        (["10%", "\r20%", "\r5"], "50%"),
        (["10%\r", "\n", "x"], "10%\nx"),
        (["ab\rc\nd"], "cb\nd"),
        (["abc\b\bX"], "aX"),
        (["abc\r\bX"], "Xbc"),
        (["abcd\rxy", "\b"], "xd"),
        (["a\n\b\bb"], "a\nb"),
        (["a\r\nb\r\n"], "a\nb\n"),
        (["🌍🌎\r", "ab"], "ab🌎"),
        (["🌍\b"], "\ufffd"),
    ],
)
def test_a_stream_is_overwritten_as_in_a_browser(pieces: list[str], text: str):
    written = Text()
    for piece in pieces:
        written.add(piece)
    assert str(written) == text
    # Once more: reading it out changes nothing.
    assert str(written) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (1.5e16, "15000000000000000"),
        (12345678901234567890, "12345678901234567000"),
        (1e21, "1e+21"),
        (True, "true"),
        ([{"x": 2.0}, "2.0", None], '[{"x": 2}, "2.0", null]'),
    ],
)
def test_numbers_are_as_a_browser_sends_them(value: object, text: str):
    assert json.dumps(through_a_browser(value)) == text


def test_pieces_of_one_stream_are_one_output(kernel: Kernel):
    request = kernel.ask("a")
    kernel.begin(request)
    kernel.print(request, "1")
    kernel.print(request, "2\n")
    kernel.print(request, "!", "stderr")
    kernel.show(request, "pic")
    kernel.print(request, "3", "stderr")
    assert cells(fed(kernel)) == {"a": [stream("12\n"), stream("!", "stderr"), shown("pic"), stream("3", "stderr")]}


def test_the_count_is_known_when_the_cell_has_ended(kernel: Kernel):
    request = kernel.ask("a")
    count = kernel.begin(request)
    outputs = fed(kernel)
    assert run_of(outputs, "a").put({})["execution_count"] is None
    kernel.say(SHELL, "execute_reply", request, {"status": "ok", "execution_count": count})
    assert run_of(fed(kernel, outputs), "a").put({})["execution_count"] is None
    kernel.say(IOPUB, "status", request, {"execution_state": "idle"})
    assert run_of(fed(kernel, outputs), "a").put({})["execution_count"] == count


def test_what_waits_has_not_changed_its_cell(kernel: Kernel):
    kernel.run("a", "old")
    kernel.ask("a")
    outputs = fed(kernel)
    assert cells(outputs) == {"a": [stream("old")]}
    assert [run.begun for run in outputs.all()] == [True, False]


def test_running_again_replaces_what_was_shown(kernel: Kernel):
    first = kernel.run("a", "old")
    second = kernel.ask("a")
    kernel.begin(second)
    # A thread of the first run: its cell has another one now.
    kernel.print(first, "late")
    kernel.print(second, "new")
    assert cells(fed(kernel)) == {"a": [stream("new")]}


def test_a_thread_goes_on_printing_after_the_end(kernel: Kernel):
    first = kernel.run("a", "1")
    kernel.run("b", "2")
    kernel.print(first, "3")
    assert cells(fed(kernel)) == {"a": [stream("13")], "b": [stream("2")]}


@pytest.mark.parametrize(("wait", "before"), [(False, []), (True, [stream("old")])])
def test_outputs_are_cleared(kernel: Kernel, wait: bool, before: list[dict[str, Any]]):
    request = kernel.ask("a")
    kernel.begin(request)
    kernel.print(request, "old")
    kernel.say(IOPUB, "clear_output", request, {"wait": wait})
    outputs = fed(kernel)
    assert cells(outputs) == {"a": before}
    kernel.print(request, "new")
    assert cells(fed(kernel, outputs)) == {"a": [stream("new")]}


def test_a_display_is_updated_wherever_it_is(kernel: Kernel):
    first = kernel.ask("a")
    kernel.begin(first)
    kernel.print(first, "x")
    kernel.show(first, "1", "id")
    kernel.show(first, "2", "id")
    kernel.end(first, 1)
    second = kernel.ask("b")
    kernel.begin(second)
    # A second display of the same id is an update of the first ones, and shown itself.
    kernel.show(second, "3", "id")
    outputs = fed(kernel)
    assert cells(outputs) == {"a": [stream("x"), shown("3"), shown("3")], "b": [shown("3")]}
    kernel.show(second, "4", "id", update=True)
    kernel.show(second, "5", "another", update=True)
    assert cells(fed(kernel, outputs)) == {"a": [stream("x"), shown("4"), shown("4")], "b": [shown("4")]}


def test_an_update_makes_the_earlier_cell_unsaved(kernel: Kernel):
    first = kernel.ask("a")
    kernel.begin(first)
    kernel.show(first, "1", "id")
    kernel.end(first, 1)
    outputs = fed(kernel)
    run = run_of(outputs, "a")
    run.saved = run.last
    assert not run.unsaved
    second = kernel.ask("b")
    kernel.begin(second)
    kernel.show(second, "2", "id", update=True)
    fed(kernel, outputs)
    assert run.unsaved


def test_a_pager_is_an_output(kernel: Kernel):
    request = kernel.ask("a", "print?")
    count = kernel.begin(request)
    page = {"source": "page", "data": {"text/plain": "help"}, "start": 0}
    kernel.end(request, count, payload=[page])
    assert cells(fed(kernel)) == {"a": [shown("help")]}


def test_what_is_refused_after_an_error_is_empty(kernel: Kernel):
    failing, waiting = kernel.ask("a"), kernel.ask("b")
    count = kernel.begin(failing)
    error = {"ename": "E", "evalue": "v", "traceback": ["t"]}
    kernel.say(IOPUB, "error", failing, error)
    kernel.end(failing, count, "error")
    kernel.say(IOPUB, "status", waiting, {"execution_state": "busy"})
    kernel.end(waiting, None, "aborted")
    outputs = fed(kernel)
    assert cells(outputs) == {"a": [{"output_type": "error", **error}], "b": []}
    assert run_of(outputs, "b").put({})["execution_count"] is None


def test_a_restart_ends_what_runs(kernel: Kernel):
    request, _ = kernel.ask("a"), kernel.ask("b")
    kernel.begin(request)
    kernel.print(request, "so far")
    kernel.say(IOPUB, "status", "", {"execution_state": "restarting"})
    outputs = fed(kernel)
    assert cells(outputs) == {"a": [stream("so far")], "b": []}
    assert all(run.done for run in outputs.all())


def test_times_are_recorded_if_the_front_end_does(kernel: Kernel):
    recorded, plain = kernel.ask("a", recordTiming=True), kernel.ask("b", recordTiming=False)
    for request in (recorded, plain):
        kernel.end(request, kernel.begin(request))
    outputs = fed(kernel)
    cell = {"metadata": {"execution": {"iopub.status.busy": "old", "execution_failed": "once"}, "tags": ["t"]}}
    metadata = run_of(outputs, "a").put(cell)["metadata"]
    assert metadata["tags"] == ["t"]
    assert sorted(metadata["execution"]) == [
        "execution_failed",
        "iopub.execute_input",
        "iopub.status.busy",
        "iopub.status.idle",
        "shell.execute_reply",
        "shell.execute_reply.started",
    ]
    assert metadata["execution"]["iopub.status.busy"] != "old"
    assert run_of(outputs, "b").put(cell)["metadata"] == {"tags": ["t"]}


def test_a_cell_that_runs_is_not_hidden_any_more(kernel: Kernel):
    kernel.begin(kernel.ask("a", collapsed=True, jupyter={"outputs_hidden": True}))
    kernel.begin(kernel.ask("b"))
    outputs = fed(kernel)
    cell = {"metadata": {"collapsed": True, "jupyter": {"outputs_hidden": True, "source_hidden": True}}}
    assert run_of(outputs, "a").put(cell)["metadata"] == {"jupyter": {"source_hidden": True}}
    # Somebody has hidden it since.
    assert run_of(outputs, "b").put(cell)["metadata"] == cell["metadata"]


def test_requests_that_are_for_no_cell_are_none_of_ours(kernel: Kernel):
    request = kernel.ask("")
    kernel.begin(request)
    kernel.print(request, "x")
    kernel.print("unknown", "x")
    assert fed(kernel).all() == []


@pytest.mark.parametrize("frame", [b"", b"{", b"null", b"[]", b'{"msg_type": 1}', b"\xff", b'"x"', b'{"msg_id": []}'])
def test_a_kernel_that_talks_nonsense_does_no_harm(kernel: Kernel, frame: bytes):
    for channel in (IOPUB, SHELL, ASKED):
        kernel.journal.append(channel, b"", [b"", frame, frame, frame, frame])
        for kind in ("stream", "status", "execute_request", "execute_reply", "display_data", "clear_output"):
            header = json.dumps({"msg_type": kind, "msg_id": "x"}).encode()
            kernel.journal.append(channel, b"", [b"", header, b'{"msg_id": "x"}', frame, frame])
    kernel.run("a", "fine")
    assert cells(fed(kernel))["a"] == [stream("fine")]


def test_what_the_journal_dropped_is_said(tmp_path: Path):
    kernel = Kernel(tmp_path, 1 << 16)
    request = kernel.ask("a")
    count = kernel.begin(request)
    kernel.print(request, "first\n")
    outputs = fed(kernel)
    before = outputs.number
    for _ in range(200):
        kernel.print(request, "x" * 1000)
    kernel.end(request, count)
    # One that waited all the time has lost nothing.
    kernel.run("b", "second")
    first = min(int(path.name) for path in kernel.journal.directory.iterdir())
    assert first > before + 1
    fed(kernel, outputs)
    kept, notice, rest = cells(outputs)["a"]
    assert kept == stream("first\n")
    assert notice["name"] == "stderr"
    assert f" {first - before - 1} messages " in notice["text"]
    assert rest["text"] == "x" * 1000 * (before + 200 - first + 1)
    assert cells(outputs)["b"] == [stream("second")]


def test_the_end_of_a_cell_may_be_dropped(tmp_path: Path):
    kernel = Kernel(tmp_path, 1 << 16)
    request, waiting = kernel.ask("a"), kernel.ask("b")
    kernel.begin(request)
    outputs = fed(kernel)
    kernel.end(request, 1)
    for _ in range(200):
        kernel.print("nobody", "x" * 1000)
    kernel.begin(waiting)
    fed(kernel, outputs)
    assert [output["name"] for output in cells(outputs)["a"]] == ["stderr"]
    assert run_of(outputs, "a").done
    assert cells(outputs)["b"] == []


def test_a_new_server_goes_on_where_the_old_one_was(kernel: Kernel):
    kernel.run("a", "1")
    request = kernel.ask("b")
    count = kernel.begin(request)
    kernel.print(request, "50%\r")
    outputs = fed(kernel)
    for run in outputs.current():
        run.saved = run.last
    memo = json.loads(json.dumps(outputs.memo()))
    notebook = cells(outputs)
    kernel.print(request, "60%")
    kernel.end(request, count)
    expected = cells(fed(kernel, outputs))
    again = fed(kernel, Outputs.from_memo(memo, 1, lambda cell: notebook[cell]))
    assert cells(again) == expected == {"a": [stream("1")], "b": [stream("60%")]}
    assert not run_of(again, "a").unsaved
    assert run_of(again, "b").unsaved


def test_a_new_server_says_what_was_dropped_before_it_came(tmp_path: Path):
    kernel = Kernel(tmp_path, 1 << 16)
    request = kernel.ask("a")
    count = kernel.begin(request)
    kernel.print(request, "first\n")
    outputs = fed(kernel)
    run = run_of(outputs, "a")
    run.saved = run.last
    memo = outputs.memo()
    for _ in range(200):
        kernel.print(request, "x" * 1000)
    kernel.end(request, count)
    first = min(int(path.name) for path in kernel.journal.directory.iterdir())
    again = fed(kernel, Outputs.from_memo(memo, first, lambda cell: [stream("first\n")]))
    kept, notice, rest = cells(again)["a"]
    assert kept == stream("first\n")
    assert f" {first - 1 - run.saved} messages " in notice["text"]
    assert set(rest["text"]) == {"x"}
    assert run_of(again, "a").put({})["execution_count"] == count


# -- a real kernel -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingKernelClient]:
    manager = KernelManager(transport="ipc", ip=str(tmp_path_factory.mktemp("k") / "s"))
    manager.kernel_spec.argv[0] = sys.executable  # type: ignore[union-attr]
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE / 1000)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def journaled(client: BlockingKernelClient, codes: dict[str, str], journal: Journal) -> None:
    """Run cells, as a keeper sees it."""
    poller = zmq.Poller()
    channels = {client.iopub_channel.socket: IOPUB, client.shell_channel.socket: SHELL}
    for socket in channels:
        poller.register(socket, zmq.POLLIN)
    waiting = set()
    for cell, code in codes.items():
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": True}
        content |= {"user_expressions": {}, "allow_stdin": False}
        message = client.session.msg("execute_request", content, metadata={"cellId": cell})
        journal.append(ASKED, b"", client.session.serialize(message)[1:])
        client.session.send(client.shell_channel.socket, message)
        waiting |= {(message["header"]["msg_id"], kind) for kind in ("status", "execute_reply")}
    while waiting:
        ready = poller.poll(PATIENCE)
        assert ready, f"no word from the kernel about {waiting}"
        for socket, _ in ready:
            _, frames = client.session.feed_identities(socket.recv_multipart())
            journal.append(channels[socket], b"", frames)
            kind, parent = json.loads(frames[1])["msg_type"], json.loads(frames[2]).get("msg_id")
            if kind != "status" or json.loads(frames[4])["execution_state"] == "idle":
                waiting.discard((parent, kind))


CODES = {
    "print": "for number in range(3): print(number)",
    "both": "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr, flush=True)\nprint('out')",
    "progress": "for percent in (10, 50, 100): print(f'\\r{percent}%', end='', flush=True)",
    "result": "{'a': 1}",
    "rich": "from IPython.display import *\ndisplay(HTML('<b>1</b>\\n<i>2</i>'), metadata={'k': 1.0})",
    "json": "display(JSON({'x': 2.0, 'y': [1e300]}))",
    "image": "display(Image(bytes.fromhex('89504e470d0a1a0a'), format='png'))",
    "handle": "handle = display(1, display_id='h')",
    "clear": "print('gone')\nclear_output(wait=True)\nprint('kept')",
    "update": "handle.update(2)",
    "help": "print?",
    "error": "1/0",
    "refused": "print('never')",
}


def test_cells_of_a_real_kernel(real: BlockingKernelClient, tmp_path: Path):
    journal = Journal(tmp_path / "journal", 1 << 24)
    journaled(real, CODES, journal)
    outputs = Outputs()
    for record in Reader(journal.directory).read(1):
        outputs.feed(record)
    found = cells(outputs)
    assert found["print"] == [stream("0\n1\n2\n")]
    assert found["both"] == [stream("out\n"), stream("err\n", "stderr"), stream("out\n")]
    assert found["progress"] == [stream("100%")]
    counts = {run.cell: run.put({})["execution_count"] for run in outputs.current()}
    assert found["result"] == [
        {
            "output_type": "execute_result",
            "execution_count": counts["result"],
            "data": {"text/plain": "{'a': 1}"},
            "metadata": {},
        }
    ]
    (rich,) = found["rich"]
    assert rich["data"]["text/html"] == "<b>1</b>\n<i>2</i>"
    assert json.dumps(rich["metadata"]) == '{"k": 1}'
    assert json.dumps(found["json"][0]["data"]["application/json"]) == '{"x": 2, "y": [1e+300]}'
    assert list(found["image"][0]["data"]) == ["image/png", "text/plain"]
    assert found["clear"] == [stream("kept\n")]
    assert found["handle"] == [shown("2")]
    assert found["update"] == []
    assert "Prints the values" in found["help"][0]["data"]["text/plain"]
    assert found["error"][0]["ename"] == "ZeroDivisionError"
    assert found["refused"] == []
    assert counts["refused"] is None
    assert counts["update"] == counts["print"] + list(CODES).index("update")
    assert all(run.done for run in outputs.current())
    # And it is a notebook.
    notebook = nbformat.from_dict(
        {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {},
            "cells": [
                {"cell_type": "code", "id": run.cell, "source": CODES[run.cell], **run.put({})}
                for run in outputs.current()
            ],
        }
    )
    nbformat.validate(notebook)
