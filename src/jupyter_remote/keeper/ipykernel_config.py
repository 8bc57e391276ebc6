# mypy: ignore-errors
"""Read by each ipykernel that a keeper starts, as one more of its configuration files.

ipykernel's channel for output keeps 1000 messages for a reader that is slow, and throws away what comes
then: on a busy machine output was lost before anybody could journal it. Here it keeps them all; they are
read as fast as the machine can.

What forked processes print comes to ipykernel at a TCP port of the machine, which everybody on it could connect
to. Here it is a unix socket beside the kernel's others.

The debugger's ports are such too; ``ipykernel_debugger.py`` says what is done about them.

It runs in the owner's environment, so in any version of Python and ipykernel: it does what it can.
"""

import os
import runpy

import zmq
from ipykernel.iostream import IOPubThread
from ipykernel.kernelapp import IPKernelApp

_original = getattr(IPKernelApp, "init_iopub", None)
_original_in = getattr(IOPubThread, "_setup_pipe_in", None)
#: Where forked processes' output comes in; as long as it is empty, at ipykernel's own place.
_address = ""


def _init_iopub(self, context):
    global _address
    if getattr(self, "transport", "") == "ipc":
        # FORKS in kernel.py, which takes it away in the end.
        _address = f"ipc://{self.ip}-0"
    # The default of the sockets made next.
    context.setsockopt(zmq.SNDHWM, 0)
    try:
        return _original(self, context)
    finally:
        context.sockopts.pop(zmq.SNDHWM, None)


def _setup_pipe_in(self):
    _original_in(self)
    socket = getattr(getattr(self, "_pipe_in", None), "socket", None)
    if _address and socket is not None:
        # Nobody knows the port yet.
        socket.unbind(socket.getsockopt(zmq.LAST_ENDPOINT))
        socket.bind(_address)


def _setup_pipe_out(self):
    # As the original: what a fork inherits cannot be used.
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.linger = 3000
    socket.connect(_address or f"tcp://127.0.0.1:{self._pipe_port}")
    return context, socket


if _original is not None:
    IPKernelApp.init_iopub = _init_iopub
if _original_in is not None and hasattr(IOPubThread, "_setup_pipe_out"):
    IOPubThread._setup_pipe_in = _setup_pipe_in
    IOPubThread._setup_pipe_out = _setup_pipe_out

runpy.run_path(os.path.join(os.path.dirname(__file__), "ipykernel_debugger.py"))
