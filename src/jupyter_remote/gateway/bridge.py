"""The process that is a kernel of this machine and has another machine do its work.

``python -m jupyter_remote.gateway.bridge CONNECTION_FILE URL TOKEN_FILE CA_FILE KERNEL``, as its keeper starts it. A
connection to the gateway that breaks is made again: the kernel there goes on, and a gateway keeps what it says for a
client that comes back under the same name (jupyter_server's ``session_id``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from tornado import httpclient, websocket

from ..keeper import messages
from ..keeper import websocket as wire
from ..run import EX_UNAVAILABLE, EX_USAGE, Mistake
from . import Gateway

V1 = "v1.kernel.websocket.jupyter.org"

#: Seconds between two tries to come back, at first and at most; what is silent longer than this is cut.
_PAUSE, _LONGEST, _SILENCE = 0.5, 15.0, 20.0
#: Seconds between two looks whether the kernel is still there.
_LOOK = 10.0
#: Seconds in which what a gateway has kept for us has come.
_SETTLE = 2.0
#: Requests whose answers may still come.
_REMEMBERED = 10_000
#: Bytes of one message.
_MOST = 1 << 30

#: Variables that a gateway takes from its clients, by their beginning (as jupyter_server's client has it).
_FOR_THE_KERNEL = "KERNEL_"


class Request:
    """What a client wants of the kernel, until it is answered."""

    def __init__(self, channel: str, clients: list[bytes], parts: list[bytes], kind: str) -> None:
        self.channel, self.clients, self.kind = channel, clients, kind
        self.header, self.parts = parts[0], parts
        #: whether the kernel has said that it is at it
        self.has_begun = False
        self.is_answered = False

    def arrived(self) -> None:
        """It need not be sent again: what it says, which may be much, is of no use any more."""
        self.has_begun = True
        self.parts = []


class Bridge:
    """Sockets of a kernel on this side, a websocket on the other."""

    def __init__(self, connection: dict[str, Any], gateway: Gateway, kernel_id: str) -> None:
        self._gateway, self._kernel_id = gateway, kernel_id
        self._signer = messages.Signer(str(connection["key"]).encode())
        self._context = zmq.asyncio.Context()
        kinds = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.PUB, "hb": zmq.REP}
        self._sockets = {name: self._bound(connection, name, kind) for name, kind in kinds.items()}
        self._requests: OrderedDict[str, Request] = OrderedDict()
        #: what is still to be sent, in order
        self._queue: deque[Request] = deque()
        self._sending = asyncio.Lock()
        self._remote: websocket.WebSocketClientConnection | None = None
        self._session = uuid.uuid4().hex
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def _bound(self, connection: dict[str, Any], channel: str, kind: int) -> zmq.asyncio.Socket:
        socket = self._context.socket(kind)
        socket.linger = 500
        socket.sndhwm = socket.rcvhwm = 0
        ip, port = connection["ip"], connection[f"{channel}_port"]
        socket.bind(f"ipc://{ip}-{port}" if connection["transport"] == "ipc" else f"tcp://{ip}:{port}")
        return socket

    async def run(self) -> int:
        """Pass on until the kernel is ended; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: self._do(self._interrupt()))
        loop.add_signal_handler(signal.SIGTERM, lambda: self._do(self._end()))
        tasks = [
            self._heart(),
            self._stay_connected(),
            self._keep_looking(),
            *map(self._listen, ("shell", "control", "stdin")),
        ]
        self._tasks = set(map(loop.create_task, tasks))
        for task in self._tasks:
            task.add_done_callback(self._failed)
        code = await self._over
        for task in self._tasks:
            task.cancel()
        if self._remote is not None:
            self._remote.close()
        self._context.destroy(linger=500)
        return code

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._failed)

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            print(f"the bridge fails: {error!r}", file=sys.stderr, flush=True)
            self._finish(1)

    def _finish(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)

    async def _heart(self) -> None:
        while True:
            await self._sockets["hb"].send(await self._sockets["hb"].recv())

    # -- from this side ------------------------------------------------------------------------------

    async def _listen(self, channel: str) -> None:
        while True:
            frames = await self._sockets[channel].recv_multipart()
            try:
                end = frames.index(messages.DELIMITER)
                clients, (signature, *parts) = frames[:end], frames[end + 1 :]
                header = json.loads(parts[0])
                right = self._signer.signed(parts)[0]
            except (ValueError, IndexError):
                continue
            if signature != right:
                continue
            request = Request(channel, clients, parts, str(header.get("msg_type")))
            if request.kind == "shutdown_request":
                await self._shut_down(request)
                continue
            self._requests[str(header.get("msg_id"))] = request
            while len(self._requests) > _REMEMBERED:
                self._requests.popitem(last=False)
            self._queue.append(request)
            await self._send_all()

    async def _send_all(self) -> None:
        async with self._sending:
            while self._queue and self._remote is not None and await self._send(self._remote, self._queue[0]):
                self._queue.popleft()

    async def _send(self, remote: websocket.WebSocketClientConnection, request: Request) -> bool:
        protocol = remote.selected_subprotocol or ""
        opcode, payload = messages.to_browser(protocol, request.channel, [b"", *request.parts])
        try:
            await remote.write_message(payload, binary=opcode == wire.BINARY)
        except websocket.WebSocketClosedError:
            return False
        return True

    async def _shut_down(self, request: Request) -> None:
        content = json.loads(request.parts[3])
        reply = self._signer.make("shutdown_reply", {"status": "ok", **content}, request.parts[0])
        await self._sockets[request.channel].send_multipart([*request.clients, messages.DELIMITER, *reply])
        await self._end()

    async def _end(self) -> None:
        try:
            await asyncio.to_thread(self._gateway.end, self._kernel_id)
        except Mistake as mistake:
            print(f"the kernel at the gateway may run on: {mistake}", file=sys.stderr, flush=True)
        self._finish(0)

    async def _interrupt(self) -> None:
        try:
            await asyncio.to_thread(self._gateway.interrupt, self._kernel_id)
        except (Mistake, LookupError) as error:
            await self._note(f"The kernel could not be interrupted. {error}")

    # -- from the other side -------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        pause, was_cut = _PAUSE, False
        while True:
            try:
                self._remote = await self._connect()
            except Exception as error:  # tornado says ValueError where TLS does not begin, and more
                print(f"no connection to {self._gateway.host}: {error}", file=sys.stderr, flush=True)
                await self._look()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST)
                continue
            if was_cut:
                await self._note(f"The connection to {self._gateway.host} is back.")
                self._do(self._catch_up())
            pause, was_cut = _PAUSE, True
            await self._send_all()
            while (message := await self._remote.read_message()) is not None:
                await self._pass_on(self._remote.selected_subprotocol or "", message)
            self._remote = None
            await self._note(
                f"The connection to {self._gateway.host}, where this kernel runs, is lost. It goes on there, and here "
                "as soon as there is a connection again."
            )

    async def _connect(self) -> websocket.WebSocketClientConnection:
        address = f"ws{self._gateway.url.removeprefix('http')}/api/kernels/{self._kernel_id}/channels"
        request = httpclient.HTTPRequest(
            f"{address}?session_id={self._session}",
            headers=self._gateway.headers(),
            ssl_options=self._gateway.trust(),
            connect_timeout=_SILENCE,
            request_timeout=_SILENCE,
        )
        return await websocket.websocket_connect(
            request, subprotocols=[V1], ping_interval=_SILENCE, ping_timeout=_SILENCE, max_message_size=_MOST
        )

    async def _keep_looking(self) -> None:
        """A gateway that has ended a kernel leaves its websocket open."""
        while True:
            await asyncio.sleep(_LOOK)
            await self._look()

    async def _look(self) -> None:
        """Is there still a kernel to be connected to?"""
        try:
            await asyncio.to_thread(self._gateway.state, self._kernel_id)
        except LookupError:
            await self._note(f"The kernel at {self._gateway.host} is gone, with all that it knew.")
            self._finish(1)
        except Mistake:
            return  # nobody can say

    async def _catch_up(self) -> None:
        """Ask again for what was lost on its way there: the kernel has nothing to do, and has never begun with it."""
        await asyncio.sleep(_SETTLE)
        with contextlib.suppress(Mistake, LookupError):
            if await asyncio.to_thread(self._gateway.state, self._kernel_id) == "idle":
                lost = [one for one in self._requests.values() if not one.has_begun]
                self._queue.extend(one for one in lost if one.channel != "stdin" and one not in self._queue)
                await self._send_all()

    async def _pass_on(self, protocol: str, message: str | bytes) -> None:
        opcode, payload = (wire.TEXT, message.encode()) if isinstance(message, str) else (wire.BINARY, message)
        try:
            channel, parts = messages.from_server(protocol, opcode, payload)
            parent, header = json.loads(parts[1]), json.loads(parts[0])
        except ValueError as error:
            print(f"dropped: {error}", file=sys.stderr, flush=True)
            return
        request = self._requests.get(str(parent.get("msg_id", "")))
        if channel == "iopub":
            if request is not None:
                request.arrived()
            topic = f"kernel.{self._kernel_id}.{header.get('msg_type')}".encode()
            await self._sockets["iopub"].send_multipart([topic, messages.DELIMITER, *self._signer.signed(parts)])
        elif request is not None:
            request.arrived()
            request.is_answered = request.is_answered or channel == request.channel
            frames = [*request.clients, messages.DELIMITER, *self._signer.signed(parts)]
            await self._sockets[channel].send_multipart(frames)

    # -- to whoever looks ------------------------------------------------------------------------------

    async def _note(self, text: str) -> None:
        """Say something where the cell that runs shows what it prints, and in the journal."""
        print(text, file=sys.stderr, flush=True)
        running = [one for one in self._requests.values() if one.kind == "execute_request" and not one.is_answered]
        for request in running[:1]:
            note = self._signer.make("stream", {"name": "stderr", "text": f"{text}\n"}, request.header)
            await self._sockets["iopub"].send_multipart([b"stream.stderr", messages.DELIMITER, *note])


def main(argv: list[str]) -> int:
    """Be that kernel; the exit code."""
    if len(argv) != 6:
        print(__doc__, file=sys.stderr)
        return EX_USAGE
    _, file, url, token_file, ca_file, name = argv
    connection = json.loads(Path(file).read_text())
    gateway = Gateway(url, token_file, ca_file)
    env = {key: value for key, value in os.environ.items() if key.startswith(_FOR_THE_KERNEL)}
    begun = time.monotonic()
    try:
        kernel_id = gateway.start(name, {"KERNEL_USERNAME": os.environ.get("USER", ""), **env})
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return EX_UNAVAILABLE
    print(f"{name} at {gateway.host} is {kernel_id}, after {time.monotonic() - begun:.1f} s", flush=True)

    async def work() -> int:
        return await Bridge(connection, gateway, kernel_id).run()

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main(sys.argv))
