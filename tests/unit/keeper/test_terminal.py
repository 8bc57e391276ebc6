"""One keeper, one shell, and the browsers that show it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
from kept import Kept, Listening

from jupyter_remote.keeper.terminal import CHUNK, SCROLLBACK, SURPLUS, Scrollback
from tests.client import PATIENCE, TerminalSocket, wait_until

#: What the shell says when it waits for a line.
PROMPT = "ready> "
RESET = "\x1bc"


class Shell(Kept):
    """A keeper with a bash of its own settings."""

    def __init__(self, top: Path, argv: list[str] | None = None, **env: str) -> None:
        # Else each prompt comes with sequences of its own.
        (top / "inputrc").write_text("set enable-bracketed-paste off\n")
        start = {
            "argv": argv or ["bash", "--norc", "--noprofile"],
            "env": {
                "PATH": os.environ["PATH"],
                "HOME": str(top),
                "LANG": "C.UTF-8",
                "TERM": "xterm-256color",
                "PS1": PROMPT,
                "INPUTRC": str(top / "inputrc"),
                "HISTFILE": str(top / "history"),
                **env,
            },
            "cwd": str(top),
            "memo": {"for": "the server"},
        }
        super().__init__(top, kind="terminal", id="1", start=start)

    def tab(self, size: tuple[int, int] | None = None, **more: Any) -> Tab:
        """A browser's tab, which reads everything."""
        with self.lent(**more) as connection:
            return Tab(connection, size)

    @contextlib.contextmanager
    def lent(self, **more: Any):
        """A connection that was handed over."""
        ours, its = socket.socketpair()
        with self.control() as control, its:
            control.ask(
                "websocket",
                file=its.fileno(),
                login=more.pop("login", "alice"),
                label=more.pop("label", ""),
                max_message=10 << 20,
                ping=more.pop("ping", 30),
                early=base64.b64encode(more.pop("early", b"")).decode(),
                session="",
                protocol="",
            )
        assert not more
        yield ours

    def status(self) -> dict[str, Any]:
        with self.control() as control:
            return control.ask("status")


class Tab(TerminalSocket):
    """A terminal in a browser."""

    def __init__(self, connection: socket.socket, size: tuple[int, int] | None) -> None:
        connection.settimeout(PATIENCE)
        channel = websocket.WebSocket()
        channel.sock = connection
        channel.connected = True
        super().__init__("1", channel)
        assert json.loads(channel.recv()) == ["setup", {}]
        if size is not None:
            self.resize(*size)

    def resize(self, rows: int, columns: int) -> None:
        self.channel.send(json.dumps(["set_size", rows, columns, 600, 800]))

    def closing(self) -> tuple[list[Any], int]:
        """The messages up to the end, and the code that it is closed with."""
        messages = []
        while True:
            opcode, data = self.channel.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return messages, int.from_bytes(data[:2], "big")
            messages.append(json.loads(data))


@pytest.fixture
def make_shell(make_kept: Callable[..., Kept], tmp_path: Path):
    """Makes keepers of shells, and ends them."""
    made: list[Shell] = []

    def make(argv: list[str] | None = None, **env: str) -> Shell:
        made.append(Shell(tmp_path, argv, **env))
        return made[-1]

    yield make
    for shell in made:
        shell.close()


@pytest.fixture
def shell(make_shell: Callable[..., Shell]) -> Shell:
    return make_shell()


def memory_of(pid: int) -> int:
    """Bytes that are the process's own."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found
    return int(found[1]) << 10


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# --- a shell in a terminal --------------------------------------------------------------------------


def test_it_is_a_terminal_of_its_own(shell: Shell, tmp_path: Path):
    assert shell.answer == {"wire": 1, "pid": shell.process.pid}
    tab = shell.tab()
    assert tab.run("tty").startswith("/dev/pts/")
    assert tab.run("pwd") == str(tmp_path)
    # The terminal is the one that controls the shell's session: else nothing of this.
    assert tab.run("cat < /dev/null > /dev/tty && echo ok") == "ok"
    assert tab.run("set -o | grep monitor").split() == ["monitor", "on"]


def test_ctrl_c_interrupts_the_program_in_front(shell: Shell):
    tab = shell.tab()
    tab.type("bash -c 'trap \"echo caught; exit\" INT; echo begun; while :; do read -t 1 x; done'\r")
    tab.read_until("begun\r\n")
    tab.type("\x03")
    tab.read_until(f"caught\r\n{PROMPT}")
    tab.type("sleep 1000\r")
    wait_until(lambda: shell.status()["execution_state"] == "busy", "it is in front")
    tab.type("\x03")
    tab.read_until(PROMPT)
    assert tab.run("echo alive") == "alive"


def test_signals_are_what_a_program_expects(shell: Shell):
    ignored = int(shell.tab().run("sed -n 's/^SigIgn:\\t//p' /proc/self/status"), 16)
    assert not any(ignored >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE))


def test_the_status_says_whether_a_program_is_in_front(shell: Shell):
    tab = shell.tab()
    tab.read_until(PROMPT)
    before = shell.status()
    assert (before["kind"], before["id"]) == ("terminal", "1")
    assert (before["execution_state"], before["connections"], before["memo"]) == ("idle", 1, {"for": "the server"})
    tab.type("sleep 1000\r")
    after = wait_until(lambda: (s := shell.status())["execution_state"] == "busy" and s, "sleep is a program")
    assert after["activity"] > before["activity"]


def test_what_a_terminal_cannot_do_is_refused(shell: Shell):
    with shell.control() as control:
        for op in ("start", "say", "note"):
            with pytest.raises(AssertionError, match="no operation"):
                control.ask(op, start={}, execution_state="", text="")
        assert control.ask("status")["pid"]


def test_a_shell_that_is_not_there_is_an_error(make_shell: Callable[..., Shell]):
    shell = make_shell(["/not/there"])
    assert "/not/there" in shell.answer["error"]
    shell.process.wait(PATIENCE)
    assert not shell.runtime.exists()


def test_its_size_is_the_smallest_of_all(shell: Shell):
    first = shell.tab()
    first.read_until(PROMPT)
    assert first.run("stty size") == "24 80"
    first.resize(40, 100)
    assert first.run("stty size") == "40 100"
    second = shell.tab((50, 90))
    second.read_until(PROMPT)
    assert second.run("stty size") == "40 90"
    for wrong in ([0, 10], [-1, 5], [None, None], ["a", "b"], [10**6, 10], []):
        second.channel.send(json.dumps(["set_size", *wrong]))
    assert second.run("stty size") == "40 90"
    second.channel.close()
    wait_until(lambda: shell.status()["connections"] == 1, "it has gone")
    assert first.run("stty size") == "40 100"


def test_a_program_is_told_of_another_size(shell: Shell):
    tab = shell.tab((24, 80))
    tab.type("bash -c 'trap \"stty size; exit\" WINCH; echo waits; while :; do read -t 1 x; done'\r")
    tab.read_until("waits\r\n")
    tab.resize(30, 70)
    tab.read_until("30 70\r\n")


def test_nonsense_does_not_hurt(shell: Shell):
    tab = shell.tab()
    for text in ("", "x", "[]", "{}", "7", '["stdin"]', '["stdin", 7]', '["nonsense", 1]', '[["stdin"], "x"]'):
        tab.channel.send(text)
    assert tab.run("echo fine") == "fine"


# --- characters -------------------------------------------------------------------------------------


def test_a_character_in_two_halves_is_one(shell: Shell):
    tab = shell.tab()
    tab.read_until(PROMPT)
    tab.type("stty -echo; printf '\\xe2\\x82'; sleep 0.3; printf '\\xac\\n'; printf 'broken \\xff.\\n'\r")
    assert "€\r\nbroken \ufffd.\r\n" in tab.read_until("broken \ufffd.\r\n")


def test_every_character_arrives_when_much_is_printed(shell: Shell, tmp_path: Path):
    text = "".join(f"{n} äö€𝄞\n" for n in range(20_000))
    (tmp_path / "text").write_text(text)
    assert shell.tab().run("cat text") == text.strip("\n")


def test_what_is_pasted_arrives(shell: Shell, tmp_path: Path):
    tab = shell.tab()
    tab.run("stty -icanon -echo")
    text = "".join(f"{n} ä€\n" for n in range(50_000))
    tab.type(f"head -c {len(text.encode())} > pasted; echo done\r")
    tab.type(text)
    tab.read_until("done\r\n")
    assert (tmp_path / "pasted").read_text() == text


# --- coming back ------------------------------------------------------------------------------------


def test_a_tab_that_comes_back_is_shown_everything_once(shell: Shell):
    tab = shell.tab()
    tab.read_until(PROMPT)
    tab.run("for n in {1..500}; do echo line-$n-; done")
    tab.type("sleep 0.3; echo while-away-$((40 + 2))-\r")
    tab.channel.close()
    wait_until(lambda: shell.status()["connections"] == 0, "it has gone")
    tab = shell.tab()
    seen = tab.read_until("while-away-42-\r\n")
    assert seen.startswith(RESET + PROMPT)
    assert seen.count(RESET) == 1
    assert [int(n) for n in re.findall(r"line-(\d+)-\r", seen)] == list(range(1, 501))
    assert tab.run("echo alive") == "alive"


def test_all_tabs_show_the_same(shell: Shell):
    tabs = [shell.tab() for _ in range(3)]
    tabs[0].type("echo one-$((1 + 1))-\r")
    for tab in tabs:
        tab.read_until("one-2-")
    tabs[1].type("echo two-$((1 + 1))-\r")
    for tab in tabs:
        tab.read_until("two-2-")


def test_what_was_asked_of_the_terminal_is_not_asked_again(shell: Shell):
    questions = [
        *("\\e[c", "\\e[>0c", "\\e[=c", "\\e[6n", "\\e[?6n", "\\e[5n", "\\e[>q", "\\e[?2004$p", "\\e[18t", "\\e[?u"),
        *("\\e]11;?\\a", "\\e]10;?\\e\\\\", "\\e]4;1;?\\a", "\\eP$qm\\e\\\\", "\\eP+q544e\\e\\\\"),
    ]
    others = ["\\e[31m", "\\e[2;5r", "\\e[2 q", "\\e[8;10;20t", "\\e]0;a title\\a", "\\e]11;#000000\\a", "\\e[s"]
    tab = shell.tab()
    tab.run("PS1=; stty -echo; clear")
    for text in (*questions, *others):
        tab.type(f"printf '{text}:'\r")
    tab.run("echo end")
    seen = shell.tab().read_until("end\r\n")
    for text in questions:
        assert text.replace("\\e", "\x1b").replace("\\a", "\a").replace("\\\\", "\\") not in seen, text
    for text in others:
        assert text.replace("\\e", "\x1b").replace("\\a", "\a") + ":" in seen, text


FULL_SCREEN = """
trap 'draw' WINCH
draw() { printf '\\e[2J\\e[H%s' "drawn at $(stty size) "; }
printf '\\e[?1049h\\e[?25l\\e[?1006h'; draw
while :; do read -t 0.1 x; done
"""


def test_a_full_screen_program_draws_anew_for_a_tab_that_comes(shell: Shell, tmp_path: Path):
    (tmp_path / "program").write_text(FULL_SCREEN)
    tab = shell.tab((30, 90))
    tab.type("bash program\r")
    tab.read_until("drawn at 30 90")
    tab.channel.close()
    # It comes back with the size that it had, and JupyterLab does not say it again.
    seen = (again := shell.tab()).read_until("drawn at 30 90")
    assert "\x1b[?1049h" in seen
    # It was drawn once before; then for a moment in another size, which a program that gets no time does not see, and
    # again in this one.
    while not re.search(r"drawn at (29|30) 90.*drawn at 30 90", seen, re.S):
        kind, *values = json.loads(again.channel.recv())
        seen += values[0] if kind == "stdout" else ""


def test_a_shell_is_not_made_to_draw_anew(shell: Shell):
    tab = shell.tab((30, 90))
    tab.run("trap 'echo winch' WINCH")
    shell.tab((30, 90))
    tab.run("sleep 0.3")
    assert "winch" not in shell.tab().read_until("trap").replace("'echo winch'", "")
    assert tab.run("stty size") == "30 90"


# --- much output ------------------------------------------------------------------------------------


def test_a_tab_gets_everything_of_a_program_that_is_faster_than_it(shell: Shell):
    """The program waits."""
    tab = shell.tab()
    seen = tab.run("seq 400000")
    assert seen == "\n".join(map(str, range(1, 400_001)))
    assert RESET not in seen


def test_with_nobody_there_the_program_does_not_wait(shell: Shell, tmp_path: Path):
    tab = shell.tab()
    tab.type("seq 2000000; touch done\r")
    tab.channel.close()
    wait_until((tmp_path / "done").exists, "it waits")
    seen = shell.tab().read_until(f"2000000\r\n{PROMPT}")
    numbers = re.findall(r"^\d+\r$", seen.removeprefix(RESET), re.M)
    assert [int(n) for n in numbers] == list(range(2_000_001 - len(numbers), 2_000_001))
    assert SCROLLBACK - SURPLUS <= len(seen) <= SCROLLBACK + 2 * SURPLUS


def test_a_stalled_tab_holds_nobody_up_and_costs_little(shell: Shell, tmp_path: Path):
    stalled = shell.tab()
    before = memory_of(shell.process.pid)
    stalled.type("seq 3000000; touch done\r")
    # nobody reads
    wait_until((tmp_path / "done").exists, "the shell waits for the tab")
    # 23 MB were printed
    assert memory_of(shell.process.pid) - before < 6 << 20
    # What it missed is skipped: it is cleared, and shown the end.
    seen = stalled.read_until(f"2999999\r\n3000000\r\n{PROMPT}")
    assert len(seen) < SCROLLBACK
    assert "1\r\n2\r\n3\r\n" in seen
    last = seen.rpartition(RESET)[2]
    numbers = [int(n) for n in re.findall(r"^(\d+)\r$", last, re.M)]
    assert numbers == list(range(numbers[0], 3_000_001))
    assert len(last) > CHUNK
    assert stalled.run("echo alive") == "alive"


def test_a_stalled_tab_does_not_slow_the_others(shell: Shell):
    with shell.lent():
        other = shell.tab()
        begun = time.monotonic()
        assert other.run("seq 400000") == "\n".join(map(str, range(1, 400_001)))
        # What the stalled one holds up is at most the patience for one who is alone, not one for each piece.
        assert time.monotonic() - begun < PATIENCE / 2


def test_what_nobody_reads_is_not_kept_without_end(shell: Shell):
    tab = shell.tab()
    tab.type("stty raw -echo; echo begun; sleep 1000\r")
    tab.read_until("begun")
    before = memory_of(shell.process.pid)
    for _ in range(40):
        tab.type("x" * (1 << 18))
    wait_until(lambda: "dropped" in shell.log.read_text(), "it is kept")
    assert memory_of(shell.process.pid) - before < 4 << 20


# --- the end ----------------------------------------------------------------------------------------


def test_the_shells_end_is_told_and_leaves_nothing(shell: Shell):
    tabs = [shell.tab(), shell.tab()]
    with shell.control() as control:
        control.ask("watch", login="alice")
        tabs[0].type("echo last words; exit 3\r")
        for tab in tabs:
            messages, code = tab.closing()
            assert messages[-1] == ["disconnect", 1]
            assert "last words\r\n" in "".join(text for kind, text in messages if kind == "stdout")
            assert code == 1000
            tab.channel.close()
        while (event := control.event())["returncode"] is None:
            pass
        assert (event["returncode"], event["pid"]) == (3, None)
    assert shell.process.wait(PATIENCE) == 0
    assert not shell.runtime.exists()
    assert not shell.state.exists()


def test_a_stalled_tab_does_not_keep_the_keeper(shell: Shell):
    with shell.lent() as stalled:
        shell.tab().type("seq 100000; exit\r")
        assert shell.process.wait(PATIENCE) == 0
        assert stalled.fileno() > 0


def test_the_end_kills_all_that_was_started_and_the_history_is_written(shell: Shell, tmp_path: Path):
    tab = shell.tab()
    pids = [int(tab.run("echo $$")), int(tab.run("sleep 1000 & echo $!").split()[-1])]
    pids.append(int(tab.run("(trap '' HUP TERM INT; exec sleep 1001) & echo $!").split()[-1]))
    pids.append(int(tab.run("nohup sleep 1002 > /dev/null 2>&1 & echo $!").split()[-1]))
    assert all(map(is_running, pids))
    with shell.control() as control:
        control.ask("end")
    messages, code = tab.closing()
    assert messages[-1] == ["disconnect", 1]
    assert code == 1000
    assert shell.process.wait(PATIENCE) == 0
    assert not any(map(is_running, pids))
    assert "sleep 1002" in (tmp_path / "history").read_text()
    assert not shell.runtime.exists()
    assert not shell.state.exists()


def test_the_units_stop_ends_the_shell_at_once(shell: Shell):
    pid = int(shell.tab().run("echo $$"))
    begun = time.monotonic()
    shell.process.send_signal(signal.SIGTERM)
    assert shell.process.wait(PATIENCE) == 0
    assert not is_running(pid)
    # It is not the patience that ended it: an interactive shell ignores SIGTERM.
    assert time.monotonic() - begun < 4
    assert not shell.runtime.exists()


def test_a_new_login_closes_old_connections(shell: Shell):
    old, new = shell.tab(), shell.tab(login="new")
    with shell.control() as control:
        control.ask("watch", login="new")
    assert old.closing()[1] == 1001
    assert new.run("echo alive") == "alive"


def test_what_a_login_has_opened_is_closed_with_it_and_nothing_else(shell: Shell):
    gone, stays = shell.tab(label="gone"), shell.tab(label="stays")
    assert shell.status()["labels"] == ["gone", "stays"]
    with shell.control() as control:
        control.ask("hang_up", labels=["gone"])
    assert gone.closing()[1] == 1001
    assert stays.run("echo alive") == "alive"


# --- the scrollback ---------------------------------------------------------------------------------


def cut(text: str, size: int = 1000) -> Scrollback:
    """A scrollback that had to be cut once, and now begins with the last bytes of *text*."""
    scrollback = Scrollback(size)
    scrollback.append(text.encode())
    scrollback.append(b"." * (size + SURPLUS - len(text.encode())))
    assert scrollback.start == 0
    scrollback.append(b"." * (len(text.encode())))
    assert scrollback.start > 0
    return scrollback


def all_of(scrollback: Scrollback, whole: bool = True) -> bytes:
    pieces, position = [], scrollback.start
    while position < scrollback.end:
        pieces.append(scrollback.read(position, scrollback.end, whole=whole))
        position += len(pieces[-1])
    return b"".join(pieces)


def test_a_scrollback_begins_with_a_line():
    scrollback = Scrollback(1000)
    for n in range(20_000):
        scrollback.append(b"line %d\n" % n)
    kept = all_of(scrollback)
    assert kept.startswith(b"line ")
    assert len(kept) + len(b"line 99999\n") >= 1000
    assert len(kept) <= 1000 + SURPLUS
    assert kept.endswith(b"line 19999\n")


@pytest.mark.parametrize(
    ("unit", "begins"),
    [
        # a program that writes all over the screen, without lines
        ("\x1b[31mäöü\x1b[12;40H", r"\x1b\["),
        # no sequences at all
        ("ä€𝄞", "[ä€𝄞]"),
        # pictures that have lines of their own
        ("\x1bPq#0;2;0;0;0\n#1~~@@vv\n-\n\x1b\\", r"\x1b"),
        ("\x1b]0;a\ntitle\x07text\n", r"text|\x1b\]"),
    ],
)
def test_a_scrollback_begins_with_nothing_that_is_cut_in_two(unit: str, begins: str):
    scrollback = Scrollback(1000)
    piece = unit.encode()
    for _ in range(3 * SURPLUS // len(piece)):
        scrollback.append(piece)
        text = all_of(scrollback).decode()
        assert re.match(begins, text), text[:40]
    assert scrollback.start > 0


def test_switches_that_were_set_in_what_is_cut_off_are_remembered():
    scrollback = Scrollback(1000)
    scrollback.append(b"\x1b[?2004h\x1b[?1000;1006h\x1b[?25l\x1b[?1h\x1b[?1l\x1b[?7l\x1b[?7h\x1b[?1049h\x1b[?777h")
    assert scrollback.preparation(scrollback.end).count(b"\x1b") == 5
    for _ in range(3 * SURPLUS):
        scrollback.append(b"x\n")
    assert scrollback.start > 100
    assert set(re.findall(rb"\x1b\[\?\d+[hl]", scrollback.preparation(scrollback.start))) == {
        *(b"\x1b[?2004h", b"\x1b[?1000h", b"\x1b[?1006h", b"\x1b[?25l", b"\x1b[?1049h")
    }
    assert scrollback.is_on_other_screen()
    scrollback.append(b"\x1b[?1049l")
    assert not scrollback.is_on_other_screen()
    scrollback.append(b"\x1bc")
    assert scrollback.preparation(scrollback.end) == b""


def test_a_scrollback_is_read_in_whole_sequences():
    scrollback = Scrollback()
    text = ("\x1bP$qm\x1b\\ä\x1b[38;5;12mx\x1b]11;?\x1b\\" * 4000).encode()
    scrollback.append(text)
    position, pieces = 0, []
    while position < scrollback.end:
        pieces.append(scrollback.read(position, scrollback.end, whole=True))
        position += len(pieces[-1])
    assert b"".join(pieces) == text
    assert len(pieces) > 3
    for piece in pieces[1:]:
        assert re.match(rb"\x1b[^\\]", piece), piece[:20]


def test_a_scrollback_is_read_in_whole_characters():
    scrollback = Scrollback()
    text = "ä€𝄞" * 20_000
    scrollback.append(text.encode())
    assert all_of(scrollback, whole=False).decode() == text
    position = 0
    while position < scrollback.end:
        piece = scrollback.read(position, scrollback.end, whole=True)
        piece.decode()
        position += len(piece)


def test_a_shell_that_ends_while_the_server_sleeps_waits_for_it(shell: Shell):
    """What is in /tmp goes with the last who has it."""
    tab = shell.tab()
    with Listening(shell.runtime.parent / "http.sock") as server:
        with shell.control() as control:
            control.ask("sleep", socket=server.address, returncode=None)
        assert "42" in tab.run("echo $((6 * 7))")
        assert not server.is_called(0.1)
        tab.type("exit\r")
        tab.closing()
        assert server.is_called()
        assert shell.process.poll() is None
        with shell.control() as control:
            control.ask("watch", login="alice")
        assert shell.process.wait(PATIENCE) == 0
