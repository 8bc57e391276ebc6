# mypy: ignore-errors
"""Lets nobody but the owner come to the debugger of an ipykernel.

debugpy listens at TCP ports of the machine and lets in whoever comes: another user of the machine could have the
kernel run anything. (Its access token is an argument of a process, which everybody can read.) Here each of these
ports asks the system whose the other end of a connection is, and hangs up on everybody but the owner and root.

It runs twice, in the owner's environment, so in any version of Python and debugpy: in the kernel, as a part of its
configuration; and as the program that debugpy starts for its adapter, in place of Python. Where debugpy is not as it is
known here, no debugger starts.
"""

import os
import runpy
import socket
import struct
import sys

#: Says to the adapter's start which Python it is for.
PYTHON = "JUPYTER_REMOTE_DEBUGGER_PYTHON"
#: Seconds; debugpy itself waits that long for its adapter.
_PATIENCE = 30
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "debug-adapter.sh")


class _OwnersOnly(socket.socket):
    """A listening socket that accepts the owner's connections, and closes others unread."""

    def accept(self):
        while True:
            connection, address = super().accept()
            if _whose(connection) in (os.getuid(), 0):
                return connection, address
            connection.close()


def _whose(connection):
    """The user id of who has opened a connection of this machine to itself; None where that cannot be known."""
    try:
        there, here = _address(connection.getpeername()), _address(connection.getsockname())
    except OSError:  # already gone
        return None
    table = "/proc/self/net/tcp6" if connection.family == socket.AF_INET6 else "/proc/self/net/tcp"
    with open(table, encoding="ascii") as rows:
        for row in rows:
            # proc(5): number, local address, remote address, state, queues, timer, retransmits, uid, …
            words = row.split()
            if words[1:3] == [there, here]:
                # What nobody holds any more (TIME_WAIT) has 0 there, and inode 0.
                return int(words[7]) if words[9] != "0" else None
    return None


def _address(address):
    """An address as /proc/net/tcp writes it: words in the byte order of the machine, and the port."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    packed = socket.inet_pton(family, address[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"


def _guard():
    """Have each port that debugpy opens on this machine's loopback guarded; others somebody has asked for."""
    from debugpy.common import sockets

    plain = sockets.create_server

    def create_server(*args, **kwargs):
        listening = plain(*args, **kwargs)
        host = listening.getsockname()[0]
        if not (host.startswith("127.") or host == "::1"):
            return listening
        timeout = listening.gettimeout()
        guarded = _OwnersOnly(listening.family, listening.type, listening.proto, listening.detach())
        guarded.settimeout(timeout)
        return guarded

    sockets.create_server = create_server


def _linger():
    """The adapter tells the kernel its ports and closes: not before the kernel has looked who that was."""
    from debugpy.common import sockets

    plain = sockets.close_socket

    def close_socket(sock):
        try:
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(_PATIENCE)
            sock.recv(1)
        except OSError:
            pass
        plain(sock)

    sockets.close_socket = close_socket


def _in_kernel():
    try:
        import debugpy
    except ImportError:
        return
    try:
        _guard()
        debugpy.configure(python=_PROGRAM, pythonEnv=dict(os.environ, **{PYTHON: sys.executable}))
    except Exception as error:
        reason = f"No debugger, since others could use it: jupyter-remote does not know this debugpy ({error})"

        def refuse(*_args, **_kwargs):
            raise RuntimeError(reason)

        debugpy.listen = refuse


def _as_adapter():
    """``debug-adapter.sh DIRECTORY …``: what ``python DIRECTORY …`` would do."""
    os.environ.pop(PYTHON, None)
    del sys.argv[0]
    # As Python would have it; the directory's own program puts it right.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))
    _guard()
    del sys.path[0]
    _linger()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _as_adapter()
else:
    _in_kernel()
