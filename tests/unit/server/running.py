"""A server in a process of its own, with what systemd would give to it: a socket, directories, a credential,
a place to report to. All of these are plain files and sockets; nothing of the server is replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import websocket

from tests.client import PATIENCE, QUICK, Client

#: in the server's environment beside what a test gives
SOURCES = Path(__file__).resolve().parents[3] / "src"

PASSWORD = "correct horse"
#: of PASSWORD, as `jupyter server password` writes it (cheap to check, as tests check it often)
HASH = "argon2:$argon2id$v=19$m=1024,t=1,p=1$g7kQBZh1u3tYnTFAgscGuA$x+W1+/Tc0j1cfvfrEc84AYuTFl2i85HXaj1nwVRdnPE"
#: of PASSWORD, as the guide of 2016 made it
OLD_HASH = "sha1:0123456789ab:e4ecbc150027a63c8a6c1acd3398779f7116a2e8"


class _Unix(httpx.HTTPTransport):
    """To a unix socket, and with what Apache says of the browser: it came by https, from this address."""

    def __init__(self, path: Path, address: str) -> None:
        super().__init__(uds=str(path))
        self._address = address

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = request.headers.copy()
        headers["X-Forwarded-Proto"] = "https"
        headers["X-Real-IP"] = self._address
        return super().handle_request(
            httpx.Request(
                request.method,
                request.url.copy_with(scheme="http"),
                headers=headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )


class Browser(Client):
    """A visitor who comes through Apache."""

    def __init__(self, path: Path, url: str, address: str = "203.0.113.9") -> None:
        super().__init__(address, url)
        self.path = path
        self.http.close()
        self.http = httpx.Client(
            transport=_Unix(path, address), follow_redirects=True, timeout=PATIENCE, trust_env=False
        )

    def websocket(self, path: str, origin: str | None = None) -> websocket.WebSocket:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(PATIENCE)
        plain.connect(str(self.path))
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies.jar)
        return websocket.create_connection(
            f"{self.url.replace('https:', 'ws:')}/{path}",
            socket=plain,
            cookie=cookies,
            origin=origin or "https://" + self.url.split("/")[2],
            header={"X-Forwarded-Proto": "https"},
            timeout=PATIENCE,
            **QUICK,
        )


def not_root() -> list[str]:
    """Makes a command line one that is not root's.

    The server refuses to be root. Root in a namespace where it is called nobody has root's files and
    nobody's name.
    """
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []


class KernelSocket:
    """jupyter-remote-kernel.socket: for each connection, a keeper that has it as its standard input."""

    def __init__(self, address: Path, environment: dict[str, str], log: Path) -> None:
        self.environment, self._log = environment, log
        self.keepers: list[subprocess.Popen[bytes]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(address))
        self._listening.listen(128)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, self._log.open("ab") as log:
                self.keepers.append(
                    subprocess.Popen(
                        [*not_root(), sys.executable, "-P", "-m", "jupyter_remote.keeper"],
                        env=self.environment,
                        cwd="/",
                        stdin=connection.fileno(),
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def close(self) -> None:
        """Start no more; those that there are have been told to end."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for keeper in self.keepers:
            try:
                keeper.wait(10)
            except subprocess.TimeoutExpired:
                keeper.kill()
                keeper.wait()


class Running:
    """The server, its directories and systemd's side of it.

    :param top: an empty directory.
    :param wheels: for the default environment.
    :param environment: one that is complete, to be taken instead of making one.
    """

    def __init__(self, top: Path, wheels: Path, environment: Path | None = None) -> None:
        self.top = top
        self.home, self.state, self.runtime, self.credentials = (
            self._directory(name) for name in ("home", "state", "runtime", "credentials")
        )
        if environment is not None:
            (self.state / environment.name).symlink_to(environment)
        self.settings: dict[str, Any] = {
            "base_url": "/jupyter",
            "notebook_dir": str(self.home),
            "interface": "lab",
            "server_names": ["box.test"],
            "behind_tls": True,
            "cull_idle": 0,
            "idle_stop": 0,
            "environments": [],
            "default_environment": "",
            "offer_environments": True,
            "conda_channel": "conda-forge",
            "memory_limit": None,
            "journal_bytes": 256 << 20,
        }
        self.environment = {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            # The tests' environment is the tester's own; the real server's is root's.
            "JUPYTER_PREFER_ENV_PATH": "0",
            "PYTHONPATH": str(SOURCES),
            "STATE_DIRECTORY": str(self.state),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "JUPYTER_REMOTE_WHEELS": str(wheels),
            "INVOCATION_ID": uuid.uuid4().hex,
        }
        self.log = top / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.kernel_socket: KernelSocket | None = None
        self.address = top / "http.sock"
        self.listening: socket.socket = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.address))
        self.listening.listen(512)
        self.reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.reports.settimeout(PATIENCE)
        self.reports.bind(str(top / "notify"))
        self.set_hash(HASH)

    def _directory(self, name: str) -> Path:
        directory = self.top / name
        directory.mkdir(mode=0o700)
        return directory

    # -- what an administrator decides -----------------------------------------------------------

    def set_hash(self, text: str) -> None:
        """What LoadCredential= hands over at the next start."""
        (self.credentials / "password-hash").write_text(text + "\n")

    def listen_on_port(self) -> int:
        """Have a loopback port instead of a unix socket; returns its number."""
        self.listening.close()
        self.listening = socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(512)
        return int(self.listening.getsockname()[1])

    # -- what systemd does -----------------------------------------------------------------------

    def keep_kernels(self) -> Running:
        """Have kernels that are not the server's children, as with systemd."""
        environment = {name: self.environment[name] for name in ("HOME", "PATH", "LANG", "PYTHONPATH")}
        address = self.top / "kernel.sock"
        self.kernel_socket = KernelSocket(address, environment, self.top / "keepers.log")
        self.environment["JUPYTER_REMOTE_KERNELS"] = str(address)
        return self

    def take_sources(self, sources: Path) -> Running:
        """As after the files of the package were replaced: what is started from now on is this code."""
        assert self.kernel_socket is not None
        self.environment["PYTHONPATH"] = self.kernel_socket.environment["PYTHONPATH"] = str(sources)
        return self

    def command(self, *argv: str | os.PathLike[str]) -> list[str]:
        """A command line that gets the socket as number 3, and is not root's."""
        return [
            # bash: other shells know numbers up to 9 only
            *("bash", "-c", f'exec 3<&{self.listening.fileno()}; LISTEN_PID=$$ exec "$@"', "-"),
            *not_root(),
            *map(os.fspath, argv),
        ]

    def start(self, *, watchdog: float = 0, passes_socket: bool = True, more: dict[str, str] | None = None) -> Running:
        """Start the server, and do not wait.

        :param watchdog: seconds of silence after which systemd would kill it.
        """
        server_json = self.top / "server.json"
        server_json.write_text(json.dumps(self.settings))
        environment = {**self.environment, "NOTIFY_SOCKET": str(self.top / "notify"), **(more or {})}
        if passes_socket:
            environment["LISTEN_FDS"] = "1"
        if watchdog:
            environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(sys.executable, "-P", "-m", "jupyter_remote.server", server_json),
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self.listening.fileno(),),
            )
        return self

    def wait_until_ready(self) -> Running:
        """Wait for READY=1, as systemctl start does.

        :raises AssertionError: the process ends before it is ready, or takes more than two minutes.
        """
        self.wait_for("READY=1")
        return self

    def wait_for(self, assignment: str) -> list[str]:
        """The report that carries *assignment*; earlier ones are dropped.

        :raises AssertionError: it does not come.
        """
        assert self.process is not None
        self.reports.settimeout(0.2)
        for _ in range(PATIENCE * 5):
            try:
                lines = self.reports.recv(4096).decode().split("\n")
            except TimeoutError:
                if self.process.poll() is not None:
                    raise AssertionError(f"the server has ended:\n{self.log.read_text()}") from None
                continue
            if assignment in lines:
                return lines
        raise AssertionError(f"no {assignment} from the server:\n{self.log.read_text()}")

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """What systemctl stop begins with."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """Stop it as systemctl stop does; the exit code."""
        self.signal()
        return self.wait()

    def restart(self) -> Running:
        """What systemctl restart does."""
        self.stop()
        return self.start().wait_until_ready()

    def close(self) -> None:
        """End it, whatever it does, and its kernels and terminals, whoever is their parent."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for control in self.runtime.glob("*/*/control"):
            _end_keeper(control)
        if self.kernel_socket is not None:
            self.kernel_socket.close()
            self.kernel_socket = None
        self.listening.close()
        self.reports.close()

    # -- what people do --------------------------------------------------------------------------

    def visitor(self, host: str = "box.test", address: str = "203.0.113.9") -> Browser:
        """Somebody with a browser, who has not logged in."""
        return Browser(self.address, f"https://{host}{self.settings['base_url']}", address)

    def owner(self) -> Browser:
        """The owner's browser, logged in."""
        browser = self.visitor()
        browser.login(PASSWORD)
        return browser

    def run_as_server(self, *argv: str) -> str:
        """Run a Python program with what the server would get, and return what it prints."""
        (self.top / "server.json").write_text(json.dumps(self.settings))
        done = subprocess.run(
            self.command(sys.executable, "-P", *argv),
            env={**self.environment, "LISTEN_FDS": "1"},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=(self.listening.fileno(),),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _end_keeper(control: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        try:
            connection.connect(str(control))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            connection.sendall(b'{"op": "end"}\n')
            while connection.recv(1 << 16):
                pass
        except TimeoutError:
            os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)
        except OSError:
            return  # it has gone already


def say(browser: Browser, lines: Sequence[str], body: bytes = b"") -> socket.socket:
    """Send a raw request and return its connection."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(browser.path))
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection
