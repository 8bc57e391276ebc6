"""One keeper, one kernel, and the browsers that talk to it."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
from jupyter_client.blocking.client import BlockingKernelClient
from kept import IPYKERNEL, KEY, Kept, Listening, Page

from jupyter_remote.keeper.browser import LATE, WINDOW
from jupyter_remote.keeper.waker import AGAIN, NEWS
from jupyter_remote.keeper.wire import FRONT, V1
from tests.client import PATIENCE


def test_a_cell_runs(kept: Kept):
    assert kept.answer == {"wire": 1, "pid": kept.process.pid}
    page = kept.open()
    assert page.execute("print('hello'); 6 * 7").value == "42"


def test_the_first_thing_that_is_printed_is_not_lost(kept: Kept):
    """The cell is sent before the kernel is there."""
    page = kept.open()
    assert page.execute("print('first')").text == "first\n"


# --- coming back ------------------------------------------------------------------------------------


def test_a_page_that_comes_back_gets_what_it_missed_once_and_in_order(kept: Kept):
    page = kept.open("page")
    cell = page.submit("import time\nfor n in range(300):\n    print(n, flush=True)\n    time.sleep(0.005)")
    seen, opcode = "", 0
    # Up to a ping: what came before it the page has, for certain.
    while "50\n" not in seen or opcode != websocket.ABNF.OPCODE_PING:
        opcode, data = page.channels.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_TEXT:
            seen += json.loads(data)["content"].get("text", "")
    page.channels.close()
    seen += kept.open("page").result(cell).text
    assert seen == "".join(f"{n}\n" for n in range(300))


def test_a_page_whose_network_died_unnoticed_is_replaced(kept: Kept):
    page = kept.open("page")
    page.execute("x = 41")
    again = kept.open("page")
    assert again.execute("x + 1").value == "42"
    with kept.control() as control:
        assert control.ask("status")["connections"] == 1


def wait_until(what: Callable[[], bool], why: str) -> None:
    """Wait for something that another process does."""
    give_up = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < give_up, why
        time.sleep(0.02)


def test_the_status_says_what_each_page_has_for_certain(kept: Kept):
    page = kept.open("page")
    page.execute("print('x')")
    with kept.control() as control:
        sequence = control.ask("status")["sequence"]
        data = b""
        while data != b"%d" % sequence:
            _, data = page.channels.recv_data(control_frame=True)
        # It has answered the ping.
        wait_until(lambda: control.ask("status")["sessions"] == {"page": sequence}, "the keeper knows")
        page.channels.close()
        wait_until(lambda: control.ask("status")["sessions"] == {}, "it has gone")


def test_another_page_sees_what_is_published_from_now_on_and_no_answers_to_others(kept: Kept):
    first = kept.open()
    first.execute("print('before')")
    second = kept.open()
    cell = first.submit("print('after')")
    assert first.result(cell).text == "after\n"
    kinds, printed = [], ""
    while "idle" not in kinds:
        message = second.receive()
        kinds.append(message["content"].get("execution_state") or message["msg_type"])
        printed += message["content"].get("text", "")
        if kinds == ["idle"]:
            # the state that the page finds
            kinds = []
    assert printed == "after\n"
    assert "execute_reply" not in kinds


def test_a_page_that_comes_to_a_busy_kernel_is_told(kept: Kept):
    first = kept.open()
    first.submit("print('begun', flush=True); input()")
    while first.receive()["msg_type"] != "input_request":
        pass
    assert kept.open().receive()["content"] == {"execution_state": "busy"}


def test_a_question_of_the_kernel_waits_for_the_page_and_is_answered(kept: Kept):
    page = kept.open("page")
    cell = page.submit("name = input('who? '); print('hello', name)")
    page.channels.close()
    page = kept.open("page")
    while page.receive()["msg_type"] != "input_request":
        pass
    page.send("stdin", "input_reply", {"value": "alice"})
    assert page.result(cell).text == "hello alice\n"


def receive_v1(page: Page) -> tuple[str, list[Any]]:
    """The next message of the binary protocol: channel; header, parent header, metadata and content."""
    payload = page.channels.recv()
    count = int.from_bytes(payload[:8], "little")
    bounds = [int.from_bytes(payload[8 * n + 8 : 8 * n + 16], "little") for n in range(count)]
    channel, *parts = (payload[start:end] for start, end in itertools.pairwise(bounds))
    return channel.decode(), [json.loads(part) for part in parts[:4]]


def test_a_page_that_counts_gets_exactly_what_it_has_not(kept: Kept):
    """Also when its network broke before it could say what it has."""
    talker = kept.open()
    page = kept.open("page", protocol=V1, after=0)
    cell = "import time\nfor n in range(300):\n    print(n, flush=True)\n    time.sleep(0.005)"
    talker.submit(cell)
    seen, number, breaks, state = "", 0, 0, ""
    while state != "idle" or "299\n" not in seen:
        _, (_, _, metadata, content) = receive_v1(page)
        assert metadata.get("jupyter_remote", number + 1) > number
        number = metadata.get("jupyter_remote", number)
        seen += content.get("text", "")
        state = content.get("execution_state", state)
        if seen.endswith(f"{breaks * 50 + 20}\n") and breaks < 5:
            breaks += 1
            # No goodbye and no pong: what was on its way is lost.
            page.channels.sock.close()
            page = kept.open("page", protocol=V1, after=number)
    assert breaks == 5
    assert seen == "".join(f"{n}\n" for n in range(300))


# --- much output ------------------------------------------------------------------------------------


def test_a_million_lines_with_nobody_there_arrive_complete(kept: Kept):
    page = kept.open("page")
    cell = page.submit("for n in range(1_000_000):\n    print(n)")
    page.channels.close()
    with kept.control() as control:
        status = control.ask("watch", login="alice")
        while status["execution_state"] != "busy":
            status = control.event()
        while status["execution_state"] != "idle":
            status = control.event()
    assert kept.open("page").result(cell).text == "".join(f"{n}\n" for n in range(1_000_000))


def test_a_page_that_reads_slowly_gets_few_big_messages_and_loses_nothing(kept: Kept):
    page = kept.open()
    cell = page.submit("import sys\nfor n in range(20_000):\n    print(n, flush=True)")
    with kept.control() as control:
        status = control.ask("watch", login="alice")
        while status["execution_state"] != "busy":
            status = control.event()
        while status["execution_state"] != "idle":
            status = control.event()
    done = page.result(cell)
    assert done.text == "".join(f"{n}\n" for n in range(20_000))
    assert sum(message["msg_type"] == "stream" for message in done.messages) < 10_000


def test_a_page_that_is_late_gets_bigger_and_bigger_messages(kept: Kept):
    """JupyterLab draws all that a cell has printed anew for each of them."""
    page = kept.open()
    cell = page.submit("for n in range(400_000):\n    print(n)")
    pieces: list[str] = []
    while sum(map(len, pieces)) < len("".join(f"{n}\n" for n in range(400_000))):
        message = page.receive()
        if message["msg_type"] == "stream" and message["parent_header"]["msg_id"] == cell:
            pieces.append(message["content"]["text"])
            time.sleep(2 * LATE)
    assert "".join(pieces) == "".join(f"{n}\n" for n in range(400_000))
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) > 2 * WINDOW, sizes


def test_a_page_that_never_says_what_it_has_gets_everything(kept: Kept):
    page = kept.open()
    page.channels.pong = lambda payload: None
    assert page.execute("print('x' * 1_000_000)\nprint('y' * 1000)").text == "x" * 1_000_000 + "\n" + "y" * 1000 + "\n"


def test_a_keeper_that_does_not_get_to_run_loses_nothing(kept: Kept):
    """ipykernel would throw away all but 1000 messages. Stopped, as a busy machine stops it."""
    page = kept.open()
    page.execute("import os, signal")
    stop = f"os.kill({kept.process.pid}, signal.SIGSTOP)"
    go_on = f"os.kill({kept.process.pid}, signal.SIGCONT)"
    done = page.execute(f"{stop}\nfor n in range(20_000):\n    print(n, flush=True)\n{go_on}")
    assert done.text == "".join(f"{n}\n" for n in range(20_000))


def test_what_the_journal_had_to_drop_is_said(make_kept: Callable[..., Kept]):
    kept = make_kept(journal_bytes=1 << 16)
    page = kept.open("page")
    page.execute("1")
    cell = page.submit("for n in range(3000):\n    print(n, 'x' * 100, flush=True)\n    if not n: input()")
    while page.receive()["msg_type"] != "input_request":
        pass
    page.send("stdin", "input_reply", {"value": ""})
    page.channels.close()
    with kept.control() as control:
        status = control.ask("watch", login="alice")
        while status["execution_state"] != "idle":
            status = control.event()
    printed = ""
    page = kept.open("page")
    while not printed.endswith(f"2999 {'x' * 100}\n"):
        printed += page.receive()["content"].get("text", "")
    assert "messages of this kernel were dropped" in printed
    lines = [line for line in printed.splitlines() if line.endswith("xx")]
    assert [int(line.split()[0]) for line in lines] == list(range(3000 - len(lines), 3000))
    assert sum(file.stat().st_size for file in (kept.state / "journal").iterdir()) < 1 << 17
    del cell


# --- the two forms of messages ----------------------------------------------------------------------


def test_the_binary_protocol_of_browsers(kept: Kept):
    page = kept.open(protocol=V1)
    header = {"msg_id": "1", "msg_type": "execute_request", "username": "", "session": page.session, "version": "5.3"}
    content = {"code": "print('ä')", "silent": False, "store_history": True}
    parts = [b"shell", *(json.dumps(part).encode() for part in (header, {}, {"cellId": "c"}, content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    page.channels.send_binary(b"".join(n.to_bytes(8, "little") for n in (len(offsets), *offsets)) + b"".join(parts))
    kinds = []
    while "execute_reply" not in kinds:
        channel, (header, parent, _, content) = receive_v1(page)
        kinds.append(header["msg_type"])
        if kinds[-1] == "stream":
            assert channel == "iopub"
            assert parent["msg_id"] == "1"
            assert content == {"name": "stdout", "text": "ä\n"}
    assert kinds.index("stream") > kinds.index("execute_input")


@pytest.mark.parametrize("rubbish", [b"", b"{}", b"\xff" * 40, b'{"header": 1}', b"[" * 100_000, b"\x00" * 64])
@pytest.mark.parametrize("protocol", ["", V1])
def test_rubbish_is_not_passed_on_and_hurts_nobody(kept: Kept, protocol: str, rubbish: bytes):
    page = kept.open(protocol=protocol)
    page.channels.send_binary(rubbish)
    page.channels.send(rubbish.decode("latin-1"))
    assert kept.open().execute("6 * 7").value == "42"


def test_a_message_that_is_too_long_ends_the_connection_and_nothing_else(kept: Kept):
    page = kept.open(max_message=1000)
    page.submit("x" * 2000)
    opcode, data = page.channels.recv_data(control_frame=False)
    while opcode != websocket.ABNF.OPCODE_CLOSE:
        opcode, data = page.channels.recv_data(control_frame=False)
    assert int.from_bytes(data[:2], "big") == 1009
    assert kept.open().execute("6 * 7").value == "42"


# --- the kernel's process ---------------------------------------------------------------------------


def test_an_interrupt_and_a_new_start_under_the_same_sockets(kept: Kept):
    page = kept.open("page")
    cell = page.submit("print('begun', flush=True)\nwhile True: pass")
    while page.receive()["content"].get("text") != "begun\n":
        pass
    with kept.control() as control:
        control.ask("watch", login="alice")
        control.ask("signal", number=signal.SIGINT)
        assert (page.result(cell).error or "").startswith("KeyboardInterrupt")
        page.execute("x = 1")
        control.ask("signal", number=signal.SIGKILL)
        while control.event()["returncode"] is None:
            pass
        control.ask("say", execution_state="restarting")
        assert control.ask("start", start=kept.start_of(kept.runtime.parent))["pid"]
    while page.receive()["content"].get("execution_state") != "restarting":
        pass
    assert page.execute("x").error == "NameError: name 'x' is not defined"


def test_a_note_appears_below_the_cell(kept: Kept):
    page = kept.open()
    cell = page.submit("input()")
    while page.receive()["msg_type"] != "input_request":
        pass
    with kept.control() as control:
        control.ask("note", text="mind the gap")
    page.send("stdin", "input_reply", {"value": ""})
    assert page.result(cell).text == "mind the gap"


def test_a_command_that_cannot_be_started_is_an_answer_and_leaves_nothing(make_kept: Callable[..., Kept]):
    kept = make_kept(start=Kept.start_of(Path("/"), ["/nowhere/python"]))
    assert "/nowhere/python" in kept.answer["error"]
    assert kept.process.wait(PATIENCE) != 0
    assert not kept.runtime.exists()


def test_the_end_takes_everything_along(kept: Kept):
    page = kept.open()
    pid = int(page.execute("import os; os.getpid()").value or 0)
    with kept.control() as control:
        control.ask("end")
    assert kept.process.wait(PATIENCE) == 0
    assert not kept.runtime.exists()
    assert not kept.state.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_stopped_unit_leaves_what_nobody_has_read(kept: Kept):
    kept.open().execute("print('unread')")
    kept.close()
    assert not kept.runtime.exists()
    assert any(kept.state.rglob("0*"))


def test_a_kernel_that_is_no_python_program(make_kept: Callable[..., Kept]):
    """Its connection file's name may be part of an argument, as some kernels want it."""
    start = Kept.start_of(Path("/"), ["sh", "-c", f"exec {sys.executable} -m ipykernel_launcher -f {IPYKERNEL[-1]}"])
    assert make_kept(start=start).open().execute("6 * 7").value == "42"


# --- others -----------------------------------------------------------------------------------------


def test_another_login_ends_what_was_opened_before(kept: Kept):
    page = kept.open(login="alice")
    with kept.control() as control:
        control.ask("watch", login="alice, with a new password")
    opcode, _ = page.channels.recv_data(control_frame=False)
    while opcode != websocket.ABNF.OPCODE_CLOSE:
        opcode, _ = page.channels.recv_data(control_frame=False)
    page = kept.open(login="alice, with a new password")
    assert page.execute("6 * 7").value == "42"


def test_what_a_login_has_opened_is_closed_with_it_and_nothing_else(kept: Kept):
    gone, stays, unnamed = kept.open(label="gone"), kept.open(label="stays"), kept.open()
    with kept.control() as control:
        assert control.ask("status")["labels"] == ["", "gone", "stays"]
        control.ask("hang_up", labels=["gone", "never seen"])
        opcode, _ = gone.channels.recv_data(control_frame=False)
        while opcode != websocket.ABNF.OPCODE_CLOSE:
            opcode, _ = gone.channels.recv_data(control_frame=False)
        gone.channels.close()
        for page in (stays, unnamed):
            assert page.execute("6 * 7").value == "42"
        wait_until(lambda: control.ask("status")["labels"] == ["", "stays"], "it is still connected")


def test_a_page_that_says_nothing_is_not_waited_for_when_the_web_server_ends(kept: Kept):
    pages = [kept.open(label="gone"), kept.open(label="gone")]
    pages[0].execute("x = 41")
    with kept.control() as control:
        control.ask("hang_up", labels=["gone"], at_once=True)
        # No page has answered, nor read it.
        assert control.ask("status")["connections"] == 0
    assert kept.open(label="gone").execute("x + 1").value == "42"


def test_a_server_that_sleeps_is_called_when_something_happens_and_only_then(kept: Kept):
    kept.open("page").execute("x = 41")
    # In its stead, as systemd does.
    with Listening(kept.runtime / "http.sock") as server:
        with kept.control() as control:
            known = {name: control.ask("status")[name] for name in NEWS}
            with pytest.raises(AssertionError, match="something has happened"):
                control.ask("sleep", socket=server.address, **{**known, "activity": known["activity"] - 1})
            control.ask("sleep", socket=server.address, **known)
        # Another page: who is connected already is enough to save what there is.
        page = kept.open("another")
        assert not server.is_called(0.5)
        page.execute("x += 1")
        assert server.is_called()
        with kept.control() as control:
            control.ask("watch", login="")
            page = kept.open("another")
            page.execute("x += 1")
            assert not server.is_called(AGAIN + 1)


def test_a_server_that_sleeps_is_called_at_the_time_that_it_has_said(kept: Kept):
    with Listening(kept.runtime / "http.sock") as server, kept.control() as control:
        control.ask("sleep", socket=server.address, until=time.time() + 1.5)
        # What it has not told of does not matter.
        kept.open().execute("x = 41")
        assert not server.is_called(0.1)
        assert server.is_called()


def test_a_server_that_sleeps_is_called_when_the_unit_is_stopped(kept: Kept):
    kept.open().execute("x = 41")
    with Listening(kept.runtime.parent / "http.sock") as server:
        with kept.control() as control:
            known = {name: control.ask("status")[name] for name in NEWS}
            control.ask("sleep", socket=server.address, **known)
        kept.process.terminate()
        assert server.is_called()


def test_a_console_on_the_machine_talks_to_the_same_kernel(kept: Kept):
    page = kept.open()
    page.execute("x = 41")
    console = BlockingKernelClient()
    console.load_connection_info(
        {
            "transport": "ipc",
            "ip": str(kept.runtime / FRONT),
            "key": KEY,
            "signature_scheme": "hmac-sha256",
            **{f"{name}_port": n for n, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)},
        }
    )
    console.start_channels()
    try:
        console.wait_for_ready(timeout=PATIENCE)
        printed = []
        reply = console.execute_interactive(
            "print(x + 1)", timeout=PATIENCE, output_hook=lambda message: printed.append(message["content"])
        )
        assert reply["content"]["status"] == "ok"
        assert {"name": "stdout", "text": "42\n"} in printed
    finally:
        console.stop_channels()


def test_only_the_owner_gets_at_its_files(kept: Kept):
    kept.open().execute("1")
    for directory in (kept.runtime, kept.state, kept.state / "journal"):
        assert directory.stat().st_mode & 0o077 == 0, directory


def test_the_kernels_own_sockets_have_short_names_in_a_directory_that_nobody_else_can_enter(kept: Kept):
    """xeus has room for 32 bytes of an address."""
    kept.open().execute("1")
    ip = Path(json.loads((kept.runtime / "kernel.json").read_text())["ip"])
    assert len(f"ipc://{ip}-5") < 32
    assert ip.parent.stat().st_mode & 0o077 == 0
    with kept.control() as control:
        control.ask("end")
    kept.process.wait(PATIENCE)
    assert not ip.parent.exists()


def test_it_imports_nothing_of_the_package_but_itself(kept: Kept):
    """The package is replaced below it in an upgrade."""
    kept.open().execute("1")
    maps = Path(f"/proc/{kept.process.pid}/maps").read_text()
    assert "zmq" in maps
    for heavy in ("tornado", "_ssl", "_asyncio", "yaml"):
        assert heavy not in maps
