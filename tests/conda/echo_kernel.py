"""A kernel of another language, Echo: each program prints itself. Packaged as ``echo-kernel``."""

from __future__ import annotations

from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel


class EchoKernel(Kernel):
    """Answers each cell with its own text."""

    implementation = "echo"
    implementation_version = "1.0"
    banner = "Echo"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".echo"}  # noqa: RUF012

    async def do_execute(self, code: str, silent: bool, *_: Any, **__: Any) -> dict[str, Any]:
        """Jupyter's ``execute_request``."""
        if not silent:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=EchoKernel)
