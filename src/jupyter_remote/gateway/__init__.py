"""Kernels on other machines, by a gateway: Jupyter Kernel Gateway, Enterprise Gateway, or any Jupyter server.

Each is a kernel of this machine as well: a small process (:mod:`.bridge`) that has one started there and passes
messages to and fro. So it has a keeper like every kernel, outlives the server, and loses no output while no browser
is there.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..run import EX_NOPERM, EX_UNAVAILABLE, die

#: Seconds until an answer must have come; a kernel's start may wait for a machine to be found for it.
_PATIENCE, _START = 15.0, 120.0


@dataclass(frozen=True)
class Gateway:
    """Where it is, and how we come in.

    ``token_file`` is the owner's, and may not be there; ``ca_file`` is empty where its certificate is one that this
    machine trusts.
    """

    url: str
    token_file: str
    ca_file: str

    @property
    def host(self) -> str:
        """What people call it."""
        return urllib.parse.urlsplit(self.url).hostname or self.url

    def token(self) -> str:
        """What it wants to hear; empty when there is none.

        :raises Mistake: it cannot be read.
        """
        try:
            return Path(self.token_file).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            die(f"The token of the gateway cannot be read from {self.token_file}: {error}.", code=EX_NOPERM)

    def headers(self) -> dict[str, str]:
        """What each request has.

        :raises Mistake: the token cannot be read.
        """
        token = self.token()
        return {"Authorization": f"token {token}"} if token else {}

    def trust(self) -> ssl.SSLContext | None:
        """Which certificate is believed; None without https.

        :raises Mistake: the file is none.
        """
        if not self.url.startswith("https://"):
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            die(
                f"gateway.ca_file {self.ca_file} is no certificate: {error}.",
                hint="The certificate of the gateway's authority, PEM.",
                code=EX_UNAVAILABLE,
            )

    def ask(self, method: str, path: str, body: Any = None, *, patience: float = _PATIENCE) -> Any:
        """Ask it for something; the answer, None where it has no content.

        :raises Mistake: it does not answer, or not so; what to do about it.
        :raises LookupError: what is asked for is not there (404).
        """
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers() | {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        handlers = [urllib.request.ProxyHandler({})]
        if context := self.trust():
            # As the websocket, which knows no proxy either.
            handlers.append(urllib.request.HTTPSHandler(context=context))  # type: ignore[arg-type]
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=patience) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise LookupError(path) from None
            self._refused(error)
        except urllib.error.URLError as error:
            self._not_reached(error.reason if isinstance(error.reason, OSError) else error)
        except (OSError, ValueError) as error:
            self._not_reached(error)

    def _refused(self, error: urllib.error.HTTPError) -> Any:
        if error.code in (401, 403):
            die(
                f"The gateway {self.host} {'does not take' if self.token() else 'wants'} a token"
                f"{f' such as the one in {self.token_file}' if self.token() else ''}.",
                hint=f"Put it into {self.token_file}, one line, readable by you alone (chmod 600).",
                code=EX_NOPERM,
            )
        said = ""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            said = str(json.loads(error.read(10_000)).get("message", ""))
        die(f"The gateway {self.host} answers {error.code} {said or error.reason}.", code=EX_UNAVAILABLE)

    def _not_reached(self, error: Exception) -> Any:
        if isinstance(error, ssl.SSLCertVerificationError):
            die(
                f"The gateway {self.host} shows a certificate that is not trusted here: {error.verify_message}.",
                hint="Name its authority's: sudo jupyter-remote config set gateway.ca_file /path/ca.pem",
                code=EX_UNAVAILABLE,
            )
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        die(
            f"The gateway {self.host} cannot be reached: {why}.",
            hint=f"Is it up, and is this its address? {self.url}",
            code=EX_UNAVAILABLE,
        )

    # -- its kernels -----------------------------------------------------------------------------------

    def kernelspecs(self) -> dict[str, dict[str, Any]]:
        """What it can start: kernelspecs by their names.

        :raises Mistake: it does not say.
        """
        try:
            found = self.ask("GET", "/api/kernelspecs")["kernelspecs"]
            return {str(name): dict(one["spec"]) for name, one in found.items()}
        except (LookupError, TypeError, AttributeError, ValueError):
            die(
                f"At {self.url} there is no Jupyter gateway: it has no list of kernels.",
                hint="gateway.url is what stands before /api/kernels.",
                code=EX_UNAVAILABLE,
            )

    def start(self, name: str, env: dict[str, str]) -> str:
        """Have a kernel started; its id there.

        :raises Mistake: it is not.
        """
        try:
            return str(self.ask("POST", "/api/kernels", {"name": name, "env": env}, patience=_START)["id"])
        except (LookupError, TypeError):
            die(f"The gateway {self.host} has no kernel {name!a} any more.", code=EX_UNAVAILABLE)

    def state(self, kernel_id: str) -> str:
        """How a kernel is, in Jupyter's words.

        :raises LookupError: it is gone.
        :raises Mistake: nobody knows.
        """
        return str(self.ask("GET", f"/api/kernels/{kernel_id}").get("execution_state", ""))

    def interrupt(self, kernel_id: str) -> None:
        """As Ctrl+C would.

        :raises LookupError: it is gone.
        :raises Mistake: it cannot be asked.
        """
        self.ask("POST", f"/api/kernels/{kernel_id}/interrupt", {})

    def end(self, kernel_id: str) -> None:
        """End it.

        :raises Mistake: it cannot be asked.
        """
        try:
            self.ask("DELETE", f"/api/kernels/{kernel_id}")
        except LookupError:
            return
