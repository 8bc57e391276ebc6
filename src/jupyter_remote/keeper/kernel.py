"""A kernel and its channels: started, listened to, journaled, passed on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import time
from typing import Any

import zmq

from . import wire
from .browser import Feed, identity
from .cgroup import Cgroup, Memory
from .journal import ASKED, CHANNELS, IOPUB, Journal
from .loop import Loop
from .messages import DELIMITER, Signer
from .process import Process

#: Numbers of the channels' sockets, in Jupyter's connection files "ports".
PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
#: The number of one more socket of ipykernel's, for what forked processes print; see ``ipykernel_config.py``.
FORKS = 0

#: Channels on which a client and the kernel answer each other.
_TALKING = ("shell", "control", "stdin", "hb")

#: Our name to the kernel. It puts it before the client's in each answer, and ZMQ takes it off again.
_OURSELVES = b"keeper"

#: What a client asks without anybody working: not activity, and no state of the kernel's.
#: As jupyter_server's ``untracked_message_types`` has it.
_IDLE_TALK = {"kernel_info_request", "comm_info_request", "debug_request", "interrupt_request", "shutdown_request"}

#: Keeps ipykernel from throwing output away.
_CONFIGURATION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ipykernel_config.py")

#: Seconds between our questions to a kernel that starts, and until we let clients talk to it regardless.
_NUDGE, _GIVE_UP = 0.2, 60.0

#: Seconds between our looks at the memory of a kernel that works, the part of its limit from which on it is warned,
#: and until a process that was ended has certainly begun to end: it is counted a moment before.
_LOOK, _NEAR, _BEGINS = 1.0, 0.9, 0.3

#: Messages read from one socket before the others get their turn.
_TURN = 200

#: Messages that a slow ZMQ client may be behind; browsers do not come this way.
_CLIENTS_BACKLOG = 20_000


class Kernel:
    """One kernel, over as many processes as are started for it.

    :raises OSError: its process cannot be started.
    """

    def __init__(self, loop: Loop, order: dict[str, Any], changed: Any) -> None:
        """
        :param order: what :mod:`.wire` says.
        :param changed: called with whether it is worth telling at once.
        """
        self._loop, self._changed = loop, changed
        self._runtime: str = order["runtime"]
        self._key: str = order["key"]
        self.signer = Signer(self._key.encode())
        self._cgroup = Cgroup(order.get("memory_limit"))
        self._oom_kills = 0
        self._looks = self._warned = False
        self.feed = Feed(
            loop,
            Journal(os.path.join(order["state"], "journal"), int(order["journal_bytes"])),
            self.signer,
            changed,
        )
        self._sockets = _short_directory() + "/k"
        self._context = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 64)
        self._front = self._open_front()
        self._back: dict[str, zmq.Socket[bytes]] = {}
        self.process: Process | None = None
        self.started = time.time()
        self.execution_state = "starting"
        self.activity = time.time()
        self.kernel_info: dict[str, Any] | None = None
        self.memo: dict[str, Any] = {}
        #: the header of the last cell that was begun: where a note of ours belongs
        self._running = b"{}"
        # Until the kernel's iopub channel reaches us, what it prints would be lost: what clients want waits.
        self._waiting: list[tuple[str, list[bytes]]] | None = []
        self._nudges: set[bytes] = set()
        self._heard_iopub = self._answered = False
        self._start = 0.0
        self._disk_failed = False
        try:
            self.start(order["start"])
        except OSError:
            self._remove_sockets()
            raise

    # -- sockets -------------------------------------------------------------------------------------

    def _open_front(self) -> dict[str, zmq.Socket[bytes]]:
        """For clients on this machine."""
        front = {}
        for channel, port in PORTS.items():
            socket = self._context.socket(zmq.PUB if channel == "iopub" else zmq.ROUTER)
            socket.linger = 0
            socket.sndhwm = _CLIENTS_BACKLOG
            if channel != "iopub":
                # The same client on a new connection.
                socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
                socket.rcvhwm = 0
                self._loop.watch(socket, lambda _, channel=channel: self._from_client(channel))  # type: ignore[misc]
            socket.bind(f"ipc://{self._runtime}/{wire.FRONT}-{port}")
            front[channel] = socket
        return front

    def _open_back(self) -> None:
        """To the kernel. Anew for each process: what the last one has not taken is not for the next."""
        self._close_back()
        for channel, port in PORTS.items():
            socket = self._context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            socket.linger = 0
            socket.sndhwm = socket.rcvhwm = 0
            # The kernel's sockets are not there yet; the default is 100 ms.
            socket.reconnect_ivl = 20
            if channel == "iopub":
                socket.subscribe(b"")
            else:
                socket.identity = _OURSELVES
            socket.connect(f"ipc://{self._sockets}-{port}")
            self._back[channel] = socket
            self._loop.watch(socket, lambda _, channel=channel: self._from_kernel(channel))  # type: ignore[misc]

    def _close_back(self) -> None:
        for socket in self._back.values():
            self._loop.forget(socket)
            socket.close()
        self._back = {}

    # -- the process ---------------------------------------------------------------------------------

    def start(self, start: dict[str, Any]) -> None:
        """Start the kernel, or start it again after its end.

        :raises OSError: it cannot be started.
        :raises RuntimeError: the last one still runs.
        """
        if self.process is not None and self.process.returncode is None:
            raise RuntimeError("the kernel runs")
        self.memo = start.get("memo") or {}
        file = f"{self._runtime}/kernel.json"
        for port in (*PORTS.values(), FORKS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._sockets}-{port}")
        _write_private(
            file,
            json.dumps(
                {
                    "transport": "ipc",
                    "ip": self._sockets,
                    "key": self._key,
                    "signature_scheme": "hmac-sha256",
                    "kernel_name": self.memo.get("kernel_name", ""),
                    **{f"{channel}_port": port for channel, port in PORTS.items()},
                }
            ),
        )
        self._open_back()
        self._waiting = self._waiting or []
        self._heard_iopub = self._answered = False
        self.execution_state = "starting"
        self.activity = time.time()
        env = {name: value for name, value in start["env"].items() if name != "JPY_PARENT_PID"}
        self.process = Process(
            self._loop,
            self._cgroup,
            _without_loss([argument.replace("{kernel_file}", file) for argument in start["argv"]]),
            # ipykernel ends itself when this process does.
            env | {"JPY_PARENT_PID": str(os.getpid())},
            start["cwd"],
            self._ended,
        )
        self._start = time.monotonic()
        self._nudge()
        self._changed(True)

    def _nudge(self) -> None:
        """Ask the kernel who it is, until an answer and something on iopub have come."""
        process = self.process
        if self._waiting is None or process is None or process.returncode is not None:
            return
        if time.monotonic() - self._start > _GIVE_UP:
            self._let_them_talk()
            return
        if not self._answered or not self._heard_iopub:
            if not self._nudges or self._answered:
                frames = self.signer.make("kernel_info_request", {})
                self._nudges.add(json.loads(frames[1])["msg_id"].encode())
                self._back["shell"].send_multipart([_OURSELVES, DELIMITER, *frames])
            self._loop.later(_NUDGE, self._nudge)

    def _let_them_talk(self) -> None:
        waiting, self._waiting = self._waiting, None
        if self.execution_state == "starting":
            self.execution_state = "idle"
        for channel, message in waiting or ():
            self._back[channel].send_multipart(message)
        self._changed(True)

    def _ended(self, code: int) -> None:
        """The process has ended. What it said last is still on its way through ZMQ."""
        give_up = time.monotonic() + 0.2
        iopub = self._back["iopub"]
        while time.monotonic() < give_up and iopub.poll(20):
            self._from_kernel("iopub")
        # What is asked for from now on is for the next process.
        self._waiting = self._waiting or []
        self._heard_iopub = self._answered = False
        self._nudges.clear()
        memory = self._cgroup.memory()
        if memory is not None and memory.killed > self._oom_kills:
            self._oom_kills = memory.killed
            # Else it was another process that has gone over the limit, some time ago.
            if code == -signal.SIGKILL:
                self._tell_of_memory(memory)
        print(f"the kernel has ended with {code}", flush=True)
        self._changed(True)

    def _tell_of_memory(self, memory: Memory) -> None:
        self.note(
            f"\nThe kernel was ended because it used too much memory: {_figures(memory)}.\n"
            "Its variables are gone; it starts again.\n"
        )

    # -- its memory ----------------------------------------------------------------------------------

    def _look_at_memory(self) -> None:
        """While the kernel works: whether something that it has started was ended, and whether it will be."""
        self._looks = self.execution_state == "busy"
        if not self._looks:
            return
        self._loop.later(_LOOK, self._look_at_memory)
        if self._lost_somebody():
            self._loop.later(_BEGINS, self._tell_of_the_lost)
        if not self._warned and (used := self._cgroup.close_to_limit(_NEAR)) is not None:
            self._warned = True
            self.note(
                f"\nThe kernel is close to its memory limit: {_size(used)} of {_size(self._cgroup.limit)}. "
                "It is ended when it wants more than that.\n"
            )

    def _lost_somebody(self) -> bool:
        try:
            return self._cgroup.counts and self._cgroup.killed() > self._oom_kills
        except OSError:
            return False

    def _tell_of_the_lost(self) -> None:
        """Somebody has died of the limit, and not the kernel."""
        memory = self._cgroup.memory()
        if memory is None or memory.killed <= self._oom_kills or self.process is None or self.process.is_over:
            return
        self._oom_kills = memory.killed
        self.note(
            "\nA program that the kernel had started was ended because it used too much memory: "
            f"{_figures(memory)}.\nThe kernel itself goes on.\n"
        )

    def signal(self, number: int) -> None:
        """To the kernel's process group."""
        if self.process is not None:
            self.process.signal(number)

    # -- browsers ------------------------------------------------------------------------------------

    def attach(self, file: int, line: dict[str, Any], early: bytes) -> None:
        """A browser has connected.

        :param line: ``websocket`` of :mod:`.wire`.
        :param early: what it has sent already.
        """
        self.feed.attach(
            file,
            session=str(line["session"]),
            protocol=str(line["protocol"]),
            login=str(line.get("login", "")),
            label=str(line.get("label", "")),
            max_message=int(line["max_message"]),
            ping=float(line["ping"]),
            early=early,
            state=self.execution_state,
            on_message=self.from_browser,
            after=None if line.get("after") is None else int(line["after"]),
            deflate=line.get("deflate"),
        )

    def keep_logins(self, login: str) -> None:
        """Close what was opened under another login."""
        self.feed.keep_logins(login)

    def hang_up(self, labels: list[str], at_once: bool) -> None:
        """Close what has one of these labels."""
        self.feed.hang_up(labels, at_once)

    # -- what clients say ----------------------------------------------------------------------------

    def from_browser(self, session: str, channel: str, parts: list[bytes]) -> None:
        """A message of a browser's session, not signed yet."""
        self._to_kernel(channel, [identity(session), DELIMITER, *self.signer.signed(parts)])

    def _from_client(self, channel: str) -> None:
        for _ in range(_TURN):
            try:
                self._to_kernel(channel, self._front[channel].recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return

    def _to_kernel(self, channel: str, message: list[bytes]) -> None:
        if channel == "shell":
            with contextlib.suppress(ValueError):
                at = message.index(DELIMITER)
                if len(message) > at + 5 and b'"execute_request"' in message[at + 2]:
                    # Whoever reads the journal finds here which cell it is.
                    self.feed.add(ASKED, b"".join(message[:at]), message[at + 1 : at + 6])
        if self._waiting is not None and channel != "hb":
            self._waiting.append((channel, message))
        elif self._back:
            self._back[channel].send_multipart(message)

    # -- what the kernel says ------------------------------------------------------------------------

    def _from_kernel(self, channel: str) -> None:
        socket = self._back[channel]
        for _ in range(_TURN):
            try:
                message = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if channel == "hb":
                self._front[channel].send_multipart(message)
                continue
            try:
                at = message.index(DELIMITER)
            except ValueError:
                continue
            if len(message) < at + 6:
                continue
            if channel == "iopub":
                self._published(message, at)
            else:
                self._answer(channel, message, at)
        if self._waiting is not None and self._answered and self._heard_iopub:
            self._let_them_talk()
        if self.feed.journal.failed and not self._disk_failed:
            print(f"the journal cannot be written: {self.feed.journal.failed}", flush=True)
        self._disk_failed = bool(self.feed.journal.failed)

    def _published(self, message: list[bytes], at: int) -> None:
        self._heard_iopub = True
        frames = message[at + 1 :]
        try:
            kind = json.loads(frames[1])["msg_type"]
        except (ValueError, KeyError, TypeError):
            return
        if kind == "iopub_welcome" or self._is_about_a_nudge(frames[2]):
            # Between the kernel and us.
            return
        if kind == "status":
            self._note_state(frames)
        elif self.execution_state == "busy":
            self.activity = time.time()
            self._changed(False)
        if kind == "execute_input":
            self._running = frames[2]
        self.feed.add(IOPUB, b"", frames)
        self._front["iopub"].send_multipart(message, copy=False)

    def _note_state(self, frames: list[bytes]) -> None:
        try:
            state = json.loads(frames[4])["execution_state"]
            asked = (json.loads(frames[2]) or {}).get("msg_type")
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        if asked in _IDLE_TALK or state == self.execution_state or (asked is None and state == "starting"):
            return
        self.execution_state = state
        self.activity = time.time()
        self._changed(True)
        if state == "idle" and self._lost_somebody():
            # It says so itself: it lives. After this the page no longer listens to what belongs to the cell.
            self._tell_of_the_lost()
        elif state == "busy" and self._cgroup.counts:
            self._warned = False
            if not self._looks:
                self._looks = True
                self._loop.later(_LOOK, self._look_at_memory)

    def _is_about_a_nudge(self, parent: bytes) -> bool:
        return bool(self._nudges) and any(nudge in parent for nudge in self._nudges)

    def _answer(self, channel: str, message: list[bytes], at: int) -> None:
        frames = message[at + 1 :]
        if (
            channel == "shell"
            and (self.kernel_info is None or not self._answered)
            and b"kernel_info_reply" in frames[1]
        ):
            with contextlib.suppress(ValueError):
                self.kernel_info = json.loads(frames[4])
        if message[0] == _OURSELVES:
            self._answered = True
            return
        to = b"".join(message[:at])
        if to.startswith(identity("")):
            self.feed.add(CHANNELS.index(channel), to, frames)
        else:
            self._front[channel].send_multipart(message)

    # -- what we say ---------------------------------------------------------------------------------

    def say(self, state: str) -> None:
        """Tell all who listen which state the kernel is in."""
        self.feed.add(IOPUB, b"", self.signer.make("status", {"execution_state": state}))

    def note(self, text: str) -> None:
        """Print on the kernel's stderr, below the cell that runs or ran last."""
        self.feed.add(IOPUB, b"", self.signer.make("stream", {"name": "stderr", "text": text}, self._running))

    def status(self) -> dict[str, Any]:
        """As :mod:`.wire` says."""
        process, memory = self.process, self._cgroup.memory()
        return {
            "pid": process.pid if process is not None and process.returncode is None else None,
            "returncode": process.returncode if process is not None else None,
            "started": self.started,
            "execution_state": self.execution_state,
            "activity": self.activity,
            "connections": len(self.feed.connections),
            "sequence": self.feed.journal.number,
            "delivered": self.feed.delivered,
            "sessions": self.feed.sessions,
            "kernel_info": self.kernel_info,
            "memory": None
            if memory is None
            else {"current": memory.current, "peak": memory.peak, "limit": memory.limit},
            "memo": self.memo,
            "labels": sorted({connection.label for connection in self.feed.connections}),
        }

    def close(self, patience: float) -> None:
        """End the kernel's processes, within *patience* seconds or by force, and all sockets."""
        self.say("dead")
        if self.process is not None:
            self.process.finish(patience)
        self.feed.close("The kernel has ended.")
        self._close_back()
        for socket in self._front.values():
            socket.close()
        self._context.term()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        for port in (*PORTS.values(), FORKS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._sockets}-{port}")
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self._sockets))


def _without_loss(argv: list[str]) -> list[str]:
    """The command of an ipykernel with our configuration file; another kernel's command as it is."""
    for option, module in itertools.pairwise(argv):
        if option == "-m" and module in ("ipykernel", "ipykernel_launcher"):
            return [*argv, f"--IPKernelApp.extra_config_file={_CONFIGURATION}"]
    return argv


def _figures(memory: Memory) -> str:
    """Limit and peak, as a person reads them."""
    limit = f"limit {_size(memory.limit)}, " if memory.limit is not None else ""
    return f"{limit}peak {_size(memory.peak)}"


def _size(size: int | None) -> str:
    """Bytes as a person reads them."""
    value, units = float(size or 0), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while value >= 1024 and (larger := next(units, "")):
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def _short_directory() -> str:
    """A new directory that nobody else can enter, for the kernel's sockets.

    xeus reads an address back into 32 bytes, and ends where it does not fit.
    """
    while True:
        directory = f"/tmp/k{os.urandom(4).hex()}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
            return directory


def _write_private(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(file, text.encode())
    os.close(file)
