"""Where everything lies. These names are promises: units, Apache files and scripts repeat them.

A person (today: the owner) has a place of their own below ``users/`` and ``/run/jupyter-remote``;
a second person will be a second place, not a second design.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONFIG_DIR = Path("/etc/jupyter-remote")
CONFIG = CONFIG_DIR / "config.toml"
PASSWORD_HASH = CONFIG_DIR / "password-hash"
SECOND_FACTOR = CONFIG_DIR / "second-factor"

STATE_DIR = Path("/var/lib/jupyter-remote")
RENDERED = STATE_DIR / "rendered"
SERVER_JSON = RENDERED / "server.json"
APACHE_DEFINES = RENDERED / "apache-defines.conf"
#: What Apache shows in place of a server that does not answer.
AWAY_PAGE = RENDERED / "away.html"
TLS_DIR = STATE_DIR / "tls"
#: Readable by everybody: it is what a browser is told to trust.
CA_CERTIFICATE = STATE_DIR / "ca.crt"
#: Names that Apache has been told to get certificates for, one a line: a purge takes these away and no others.
ACME_NAMES = STATE_DIR / "acme-names"
#: Where Apache's mod_md keeps certificates. Each group in it has a directory for each certificate; "staging" is
#: written by Apache's workers, the others by root.
MD_STORE = Path("/etc/apache2/md")
#: Apache modules that we enabled, one a line: only these may be disabled again.
ENABLED_MODULES = STATE_DIR / "apache-modules"
#: What debconf answered last time, so that only a *changed* answer overrules config.toml.
ANSWERS = STATE_DIR / "debconf-answers.json"
#: There when conda was asked for at the installation and is not installed yet.
CONDA_WANTED = STATE_DIR / "conda-wanted"

RUN_DIR = Path("/run/jupyter-remote")
HTTP_SOCKET = RUN_DIR / "http.sock"
KERNEL_SOCKET = RUN_DIR / "kernel.sock"
#: Not in /run/lock, where everybody could have made it before us, nor readable: who can open it can hold it.
LOCK = RUN_DIR / "lock"

SERVICE = "jupyter-remote.service"
SOCKET = "jupyter-remote.socket"
KERNEL_SOCKET_UNIT = "jupyter-remote-kernel.socket"
KERNEL_SERVICE = "jupyter-remote-kernel@.service"
#: Every kernel and terminal that runs.
KERNELS = "jupyter-remote-kernel@*.service"
KERNELS_SLICE = "jupyter-remote-kernels.slice"
#: Where the dashes of that name put it.
SLICE = "jupyter-remote.slice"
CONDA_SERVICE = "jupyter-remote-conda.service"
#: Watches for certificates that were renewed; takes them over.
CERTIFICATE_PATH = "jupyter-remote-certificate.path"
SYSTEM_UNITS = Path("/etc/systemd/system")
SERVICE_DROPIN = SYSTEM_UNITS / f"{SERVICE}.d" / "50-owner.conf"
SOCKET_DROPIN = SYSTEM_UNITS / f"{SOCKET}.d" / "50-owner.conf"
KERNEL_SOCKET_DROPIN = SYSTEM_UNITS / f"{KERNEL_SOCKET_UNIT}.d" / "50-owner.conf"
KERNEL_SERVICE_DROPIN = SYSTEM_UNITS / f"{KERNEL_SERVICE}.d" / "50-owner.conf"
CERTIFICATE_DROPIN = SYSTEM_UNITS / f"{CERTIFICATE_PATH}.d" / "50-watched.conf"
DROPINS = (SERVICE_DROPIN, SOCKET_DROPIN, KERNEL_SOCKET_DROPIN, KERNEL_SERVICE_DROPIN, CERTIFICATE_DROPIN)


@dataclass(frozen=True)
class Place:
    """One person's directories, relative to systemd's StateDirectory= and RuntimeDirectory= roots."""

    user: str

    @property
    def state_name(self) -> str:
        """For StateDirectory=."""
        return f"jupyter-remote/users/{self.user}"

    @property
    def runtime_name(self) -> str:
        """For RuntimeDirectory=."""
        return f"jupyter-remote/{self.user}"

    @property
    def state(self) -> Path:
        return Path("/var/lib") / self.state_name

    @property
    def runtime(self) -> Path:
        return Path("/run") / self.runtime_name

    @property
    def sessions(self) -> Path:
        """The server's database of notebooks and their kernels."""
        return self.state / "sessions.sqlite"

    @property
    def logins(self) -> Path:
        """One file per browser that has logged in."""
        return self.state / "logins"

    @property
    def tokens(self) -> Path:
        """One file per token of a program."""
        return self.state / "tokens"

    @property
    def login_links(self) -> Path:
        """One file per login link that has not been used yet."""
        return self.runtime / "login"
