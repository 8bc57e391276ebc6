"""Where everything lies. These names are promises: units, Apache files and scripts repeat them.

The machine's owner has the plain names. Each further person (``jupyter-remote add-user``) has a set of their own, which
is the owner's with their name in it; a process is about one Jupyter, the owner's or a person's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

#: In the environment of a process that is about a further person's Jupyter: whose.
PERSON_VARIABLE = "JUPYTER_REMOTE_PERSON"


def _person() -> str:
    given = os.environ.get(PERSON_VARIABLE, "")
    # The alphabet of the setting "user": it becomes a part of paths.
    return given if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", given) else ""


#: What begins the names of a further person's units and of the directory with their sockets.
_INSTANCE = "jupyter-remote@{}"

#: Whose Jupyter this process is about: a further person's, or the owner's, who has no name here.
PERSON = _person()


def service_of(person: str) -> str:
    """The unit of a server; of the owner's, who has no name."""
    return f"{_INSTANCE.format(person)}.service" if person else "jupyter-remote.service"


def socket_of(person: str) -> str:
    """The unit that holds the door to it."""
    return f"{_INSTANCE.format(person)}.socket" if person else "jupyter-remote.socket"


def kernels_of(person: str) -> str:
    """A pattern of the units of kernels and terminals."""
    return f"jupyter-remote-kernel{person and '-' + person}@*.service"


# -- the machine's --------------------------------------------------------------------------------------

CONFIG_DIR = Path("/etc/jupyter-remote")
#: The owner's settings, among them those that are the whole machine's.
MACHINE_CONFIG = CONFIG_DIR / "config.toml"
#: A directory for each further person, with what the owner has in CONFIG_DIR itself.
PEOPLE_CONFIG = CONFIG_DIR / "users"

STATE_DIR = Path("/var/lib/jupyter-remote")
#: A directory for each further person, with what is rendered for them. Root's, as all but ``users/`` there.
PEOPLE = STATE_DIR / "people"
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
#: The hash of the password that was taken from a credential last, so that it is taken once.
CREDENTIAL = STATE_DIR / "credential"
#: There when conda was asked for at the installation and is not installed yet.
CONDA_WANTED = STATE_DIR / "conda-wanted"

RUN_DIR = Path("/run/jupyter-remote")
#: Not in /run/lock, where everybody could have made it before us, nor readable: who can open it can hold it.
LOCK = RUN_DIR / "lock"

#: Where the dashes of its name put each kernel's slice.
SLICE = "jupyter-remote.slice"
CONDA_SERVICE = "jupyter-remote-conda.service"
#: Watches for certificates that were renewed; takes them over.
CERTIFICATE_PATH = "jupyter-remote-certificate.path"
SYSTEM_UNITS = Path("/etc/systemd/system")
PACKAGED_UNITS = Path("/usr/lib/systemd/system")

# -- of the Jupyter that this process is about ----------------------------------------------------------

CONFIG = PEOPLE_CONFIG / PERSON / "config.toml" if PERSON else MACHINE_CONFIG
PASSWORD_HASH = CONFIG.with_name("password-hash")
SECOND_FACTOR = CONFIG.with_name("second-factor")

RENDERED = PEOPLE / PERSON if PERSON else STATE_DIR / "rendered"
SERVER_JSON = RENDERED / "server.json"
#: What Apache is told: how the location of this Jupyter differs from others'.
APACHE_DEFINES = RENDERED / "apache-defines.conf"
#: What Apache shows in place of a server that does not answer.
AWAY_PAGE = RENDERED / "away.html"
#: What is in use.
APPLIED = RENDERED / "applied.json" if PERSON else STATE_DIR / "applied.json"

#: Root's: nobody can put a socket of their own in the place of one of these.
DOOR_DIR = Path("/run", _INSTANCE.format(PERSON)) if PERSON else RUN_DIR
HTTP_SOCKET = DOOR_DIR / "http.sock"
KERNEL_SOCKET = DOOR_DIR / "kernel.sock"

SERVICE = service_of(PERSON)
SOCKET = socket_of(PERSON)
#: Every kernel and terminal that runs.
KERNELS = kernels_of(PERSON)
KERNEL_SERVICE = KERNELS.replace("@*", "@")
KERNEL_SOCKET_UNIT = KERNEL_SERVICE.replace("@.service", ".socket")
#: A dash in it would make one person's a part of another's.
KERNELS_SLICE = f"jupyter-remote-kernels{PERSON and ':' + PERSON.replace('-', ':')}.slice"

_DROPIN = "50-owner.conf"
SERVICE_DROPIN = SYSTEM_UNITS / f"{SERVICE}.d" / _DROPIN
SOCKET_DROPIN = SYSTEM_UNITS / f"{SOCKET}.d" / _DROPIN
KERNEL_SOCKET_DROPIN = SYSTEM_UNITS / f"{KERNEL_SOCKET_UNIT}.d" / _DROPIN
KERNEL_SERVICE_DROPIN = SYSTEM_UNITS / f"{KERNEL_SERVICE}.d" / _DROPIN
CERTIFICATE_DROPIN = SYSTEM_UNITS / f"{CERTIFICATE_PATH}.d" / "50-watched.conf"
DROPINS = (
    *(SERVICE_DROPIN, SOCKET_DROPIN, KERNEL_SOCKET_DROPIN, KERNEL_SERVICE_DROPIN),
    *(() if PERSON else (CERTIFICATE_DROPIN,)),
)
#: The units of a further person, each with the packaged one that it is made of; the owner's are the packaged ones.
OWN_UNITS = (
    {
        SYSTEM_UNITS / SERVICE: PACKAGED_UNITS / "jupyter-remote.service",
        SYSTEM_UNITS / SOCKET: PACKAGED_UNITS / "jupyter-remote.socket",
        SYSTEM_UNITS / KERNEL_SOCKET_UNIT: PACKAGED_UNITS / "jupyter-remote-kernel.socket",
        SYSTEM_UNITS / KERNEL_SERVICE: PACKAGED_UNITS / "jupyter-remote-kernel@.service",
    }
    if PERSON
    else {}
)


#: In a person's state directory, by name: the server knows the directory from systemd.
REFUSED_LOGINS = "refused-logins"


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
    def refused_logins(self) -> Path:
        """The last attempts to log in that were refused, a line each."""
        return self.state / REFUSED_LOGINS

    @property
    def login_links(self) -> Path:
        """One file per login link that has not been used yet."""
        return self.runtime / "login"
