"""What the server and a keeper say to each other: lines of JSON over unix sockets.

A keeper lives as long as its kernel, through upgrades of the server. So what is said has a version, and
a server understands the keepers of the version before its own: :data:`UNDERSTOOD`.

**What is added needs no new version.** Unknown fields are ignored by both. A new field is optional: whoever reads it
does without, since the other side may be older; so it is with ``memo``, which servers leave to each other. A new
operation is answered with an error by keepers that do not know it (``Refused`` in the server), and the server then
does without it, or as before.

**What is changed or taken away needs one**: another meaning of a field, a field that must be there, another order of
things. Then :data:`WIRE` is one more, and the server asks ``status["wire"]`` where the two differ.

**What no version changes**, so that each can list and end the keepers of each other: ``control`` is at its place and
speaks lines of JSON; ``status`` is answered by an object with ``wire``, ``kind`` and ``id``; ``end`` ends all; what is
not known is answered with ``error``. A server that meets a keeper whose version it does not understand leaves it
alone: the kernel runs on, its session stays, pages are told why it cannot be reached, and an open websocket, which is
the keeper's, goes on.

1. **Asking for a keeper.** The server connects to ``kernel.sock`` and sends one line, an *order*::

       {"wire": 1, "kind": "kernel", "id": ID, "runtime": DIR, "state": DIR, "login": LOGIN,
        "key": HMAC_KEY, "journal_bytes": N, "memory_limit": BYTES or null, "start": START}

   ``runtime`` and ``state`` are this keeper's own directories (made by it, 0700, removed by it at the end).
   ``kind`` may also be ``terminal``: then there is neither key nor journal. The answer is one line,
   ``{"wire": 1, "pid": N}`` or ``{"error": TEXT}``.

   START is what a kernel is started with: ``{"argv": [...], "env": {...}, "cwd": DIR, "memo": {...}}``.
   Arguments that contain ``{kernel_file}`` get the path of the connection file that the keeper writes
   for the kernel. ``memo`` is the server's own, whatever it needs to adopt the kernel; it is kept and given back.
   A shell gets a terminal as its input and output.

2. **Control.** ``RUNTIME/control`` is a stream socket; each line ``{"op": …, …}`` is answered by one line
   ``{"ok": true, …}`` or ``{"error": TEXT}``, in order:

   ``status``     → the *status* (below).
   ``watch``      ``{"login": LOGIN}`` → the status; from now on also lines ``{"event": "status", …status}``: at
                  once when the state, the process or the number of connections changes, and once a second
                  at most when there is activity. Websockets that belong to another LOGIN (a digest of the
                  server's cookie key: a changed password) are closed.
   ``start``      ``{"start": START}`` → starts the kernel again, after its end.
   ``signal``     ``{"number": N}`` → to the kernel's process group. Nothing happens when it has ended.
   ``say``        ``{"execution_state": "restarting"}`` → a status message to all who listen.
   ``note``       ``{"text": TEXT}`` → a line on the kernel's stderr, below the cell that runs or ran last.
   ``websocket``  ``{"session": ID, "protocol": "" or "v1.kernel.websocket.jupyter.org", "login": LOGIN,
                  "max_message": BYTES, "ping": SECONDS, "early": BASE64}`` with one file descriptor
                  (SCM_RIGHTS, sent with the line's first byte): a connection whose handshake is done. The
                  keeper talks to the browser from now on. ``after`` (optional): the page counts, and has the
                  journal up to this number; it gets the number of each record as ``jupyter_remote`` in the
                  message's metadata. ``early`` is what the browser had sent already. ``label`` (optional): whose
                  pass let it in, no secret. ``deflate`` (optional): permessage-deflate (RFC 7692) was agreed on,
                  ``{"window": BITS, "takeover": BOOL}``: what the browser can take as a window (9 to 15), and whether
                  messages to it may share a context; those of the browser share none. A keeper whose status has no
                  ``deflate`` does not know it.
   ``hang_up``    ``{"labels": [LABEL, …]}`` → closes the websockets that have one of these. A keeper whose status has
                  no ``labels`` does not know it. ``at_once`` (optional): nobody's goodbye is waited for, since it is
                  the web server in between that ends; an older keeper waits for up to two seconds.
   ``sleep``      ``{"socket": PATH, "activity": TIME, "returncode": N or null, "connections": N}``: the server is about
                  to end because nobody uses it, and this is what it knows. When that is not so any more, but for
                  the number of pages as long as there is one, the keeper connects to PATH, where systemd starts
                  a server, until one watches. It is an error when it is not so at this moment. What is not told
                  does not matter: of a terminal only the end of its shell does. ``until`` (optional): a TIME at
                  which it is to do so in any case. A keeper that does not know this cannot wake anybody, and the
                  server stays.
   ``end``        ``{"keep": BOOL}`` (optional) → kills what still runs, removes its directories, ends. The answer
                  comes before. With ``keep`` the journal stays: the server has not read it to its end.

   The status: ``{"wire": 1, "kind": …, "id": …, "unit": UNIT, "pid": PID or null, "returncode": N or null,
   "started": TIME, "execution_state": …, "activity": TIME, "connections": N, "sequence": N, "delivered": N,
   "sessions": {SESSION: N, …}, "kernel_info": {…} or null, "memory": {"current": N, "peak": N, "limit": N or null}
   or null, "memo": {…}, "labels": [LABEL, …], "deflate": true}``. ``sessions`` are those that are connected, with
   the last record that each has got for certain; a kernel's only. ``labels`` are those of the websockets that are
   open.
   A terminal has no ``start``, ``say`` and ``note``: one shell, whose end is the keeper's. To its ``websocket`` neither
   session nor protocol matter. What is said there is terminado's, as :mod:`~jupyter_remote.keeper.terminal` says it.

   Times are seconds since 1970. ``sequence`` is the number of the journal's last record, ``delivered`` the
   last one that every session that ever listened has got; both are 0 for a terminal. Its state is ``busy`` while the
   shell has a program in front.

3. **Kernel clients of this machine** (``jupyter console --existing``) find ZMQ sockets at
   ``ipc://RUNTIME/front-1`` … ``-5`` (shell, iopub, stdin, control, heartbeat).

4. **The server's websockets**, which no keeper has (events, a language server): ``control`` in the directory in which
   keepers' are speaks as above, and knows ``status``, of which only ``wire``, ``kind`` (``server``), ``id`` and
   ``labels`` are there, and ``hang_up``.

5. **The journal**, ``STATE/journal``: see :mod:`~jupyter_remote.keeper.journal`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

#: The version of all this.
WIRE = 1
#: Versions that a server of this version talks to: its own and, if there is one, that before.
UNDERSTOOD = tuple(range(max(WIRE - 1, 1), WIRE + 1))

#: Subprotocol of kernels' websockets; without it messages are JSON.
V1 = "v1.kernel.websocket.jupyter.org"

#: Names of the files in a keeper's runtime directory.
CONTROL = "control"
FRONT = "front"

#: Seconds after which a page opens a websocket again, whoever holds it: :mod:`.websocket` says why.
HOUR = 3600.0

#: Bytes of the longest line.
LONGEST = 4 << 20


class Lines:
    """A stream socket, by lines of JSON, with the file descriptors that came along. Blocking or not."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = bytearray()
        self._files: list[int] = []

    def fileno(self) -> int:
        return self.connection.fileno()

    def receive(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """The complete lines of one ``recv``, each with the descriptors that came by now.

        :raises EOFError: the other side has closed.
        :raises ValueError: not a line of JSON, or an endless one.
        :raises BlockingIOError: nothing is there, on a non-blocking socket.
        """
        data, files, _, _ = socket.recv_fds(self.connection, 1 << 16, 4)
        for file in files:
            os.set_inheritable(file, False)
        self._files += files
        if not data:
            raise EOFError
        self._received += data
        while (end := self._received.find(b"\n")) >= 0:
            line = json.loads(bytes(self._received[:end]))
            del self._received[: end + 1]
            if not isinstance(line, dict):
                raise ValueError("not an object")
            files, self._files = self._files, []
            yield line, files
        if len(self._received) > LONGEST:
            raise ValueError("the line does not end")

    def send(self, line: dict[str, Any], file: int | None = None) -> None:
        """Send one line; on a blocking socket all of it.

        :raises OSError: the other side has gone.
        """
        data = json.dumps(line).encode() + b"\n"
        if file is not None:
            sent = socket.send_fds(self.connection, [data], [file])
            data = data[sent:]
        self.connection.sendall(data)

    def close(self) -> None:
        """Close the socket, and what was sent along and never asked for."""
        for file in self._files:
            with contextlib.suppress(OSError):
                os.close(file)
        self._files = []
        self.connection.close()
