"""The kernels of a gateway, as Jupyter wants to hear of them: each is a kernel of this machine that has another do its
work (:mod:`jupyter_remote.gateway.bridge`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from ..gateway import Gateway
from ..run import Mistake
from ..transaction import replace
from .background import in_background

#: Seconds for which its list is believed.
FRESH = 30.0

#: The icon of all of them; a gateway would give its own to who asks for each.
ICONS = Path(__file__).parent / "elsewhere"


class RemoteSpecs:
    """What a gateway offers.

    :param memory: a file that remembers the list: a notebook of such a kernel opens also before it has answered.
    """

    def __init__(self, gateway: Gateway, memory: Path, log: logging.Logger) -> None:
        self._gateway, self._memory, self._log = gateway, memory, log
        self._asked = -FRESH
        self._asking = False
        self._trouble = ""
        self._specs = self._remembered()

    def _remembered(self) -> dict[str, dict[str, Any]]:
        try:
            known = json.loads(self._memory.read_text())
            return dict(known["kernelspecs"]) if known["url"] == self._gateway.url else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def all(self) -> dict[str, KernelSpec]:
        """Names, and what they are. As it was a moment ago: it is asked beside the event loop."""
        self._ask_in_time()
        found = {}
        for name, spec in self._specs.items():
            found[f"gateway-{re.sub(r'[^a-z0-9._-]', '-', name.lower())}"] = self._made(name, spec)
        return found

    def _made(self, name: str, spec: dict[str, Any]) -> KernelSpec:
        gateway = self._gateway
        words = [gateway.url, gateway.token_file, gateway.ca_file, name]
        return KernelSpec(
            argv=[sys.executable, "-P", "-m", "jupyter_remote.gateway.bridge", "{connection_file}", *words],
            display_name=f"{spec.get('display_name') or name} ({gateway.host})",
            language=str(spec.get("language") or ""),
            interrupt_mode="signal",
            env={},
            metadata={
                "debugger": bool((spec.get("metadata") or {}).get("debugger")),
                "jupyter_remote": {"kind": "gateway", "host": gateway.host},
            },
            resource_dir=str(ICONS),
        )

    def _ask_in_time(self) -> None:
        if self._asking or time.monotonic() < self._asked + FRESH:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # a question from outside of the server's loop
        self._asking = True
        in_background(self._ask, "gateway")

    def _ask(self) -> None:
        try:
            specs = self._gateway.kernelspecs()
        except Mistake as mistake:
            # Once: it is asked each half minute. What it has offered stays; a start says what is wrong.
            if self._trouble != str(mistake):
                self._log.warning("%s", mistake)
            self._trouble = str(mistake)
        else:
            self._trouble = ""
            if specs != self._specs:
                self._specs = specs
                replace(self._memory, json.dumps({"url": self._gateway.url, "kernelspecs": specs}), 0o600)
        finally:
            self._asked = time.monotonic()
            self._asking = False

    async def ready(self) -> None:
        """Whether a kernel can be started there now.

        :raises Mistake: it cannot, and why.
        """
        await asyncio.to_thread(self._gateway.kernelspecs)
