# mypy: ignore-errors
"""Read by each ipykernel that a keeper starts, as one more of its configuration files.

ipykernel's channel for output keeps 1000 messages for a reader that is slow, and throws away what comes
then: on a busy machine output was lost before anybody could journal it. Here it keeps them all; they are
read as fast as the machine can.

It runs in the owner's environment, so in any version of Python and ipykernel: it does what it can.
"""

import zmq
from ipykernel.kernelapp import IPKernelApp

_original = getattr(IPKernelApp, "init_iopub", None)


def _init_iopub(self, context):  # noqa: ANN001, ANN202
    # The default of the sockets made next.
    context.setsockopt(zmq.SNDHWM, 0)
    try:
        return _original(self, context)
    finally:
        context.sockopts.pop(zmq.SNDHWM, None)


if _original is not None:
    IPKernelApp.init_iopub = _init_iopub
