"""The channel and the installers, served in a box at ``http://127.0.0.1:PORT``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.box import Box

from tests.conda import channel, installer
from tests.conda.installer import ANACONDA, MINIFORGE, Distribution, Installer
from tests.conda.server import Request, State

PORT = 8765
UNIT = "conda-channel"
NAME = "conda-forge"
_FILES = "/srv/conda"
_STATE = "/srv/conda-state"


@dataclass(frozen=True)
class Served:
    """A channel in a box. ``conda -c conda-forge`` in the box reaches it, through ``/etc/conda/.condarc``."""

    box: Box

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{PORT}"

    @property
    def url(self) -> str:
        """Of the channel."""
        return f"{self.base_url}/{NAME}"

    @property
    def installer_url(self) -> str:
        """Of Miniforge's installer."""
        return self.url_of(MINIFORGE)

    @property
    def installer(self) -> str:
        """Miniforge's installer, as a file in the box that anybody may read."""
        return f"{_FILES}/{_installer(MINIFORGE).path.name}"

    @property
    def sha256(self) -> str:
        """Of Miniforge's installer."""
        return _installer(MINIFORGE).sha256

    @property
    def size(self) -> int:
        """Of Miniforge's installer, in bytes."""
        return _installer(MINIFORGE).size

    def url_of(self, distribution: Distribution) -> str:
        """Of another installer, which is put into the box then."""
        name = _installer(distribution).path.name
        self._put(_installer(distribution).path, f"{_FILES}/{name}")
        return f"{self.base_url}/{name}"

    def install_anaconda(self, person: str = "alice", prefix: str = "~/anaconda3") -> None:
        """Give somebody a base environment that takes packages from Anaconda's channels."""
        name = self.url_of(ANACONDA).rpartition("/")[2]
        self.box.as_user(person).sh(f"bash {_FILES}/{name} -b -p {prefix}")

    # -- what goes wrong ---------------------------------------------------------------------------

    def fault(self, path: str, **what: Any) -> None:
        """From now on this goes wrong with requests for *path*: ``fault("*/repodata.json", status=404)``.

        :param path: what follows the host in the URL, or a whole URL; a pattern as the shell's.
        :param what: see :class:`tests.conda.server.Fault`.
        """
        self._state.fault(path.removeprefix(self.base_url), **what)

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self._state.mend()

    def requests(self) -> list[Request]:
        """What the server was asked so far."""
        return self._state.requests()

    def forget(self) -> None:
        """:meth:`requests` begins anew."""
        self._state.forget()

    def stop(self) -> None:
        """Connections are refused."""
        self.box.sh(f"systemctl stop {UNIT}")

    def start(self) -> None:
        """Serve, also again after :meth:`stop` and after a reboot; what is served stays."""
        self.box.sh(
            f"systemd-run --quiet --collect --unit={UNIT} python3 {_FILES}/server.py {PORT} {_FILES} {_STATE}\n"
            f"until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {PORT}))' 2>&-; do"
            f" systemctl is-active --quiet {UNIT} || exit 1; done"
        )

    # -- making it ---------------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        return State(self.box.path(_STATE))

    def _put(self, path: Path, inside: str) -> None:
        target = self.box.path(str(Path(inside).parent)) / Path(inside).name
        if not target.exists():
            shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)


def set_up(box: Box) -> Served:
    """Put the channel and Miniforge's installer into *box*, which needs python3, and serve them there."""
    served = Served(box)
    for directory in (_FILES, _STATE):
        box.path("/srv").joinpath(Path(directory).name).mkdir()
    served._put(channel.ensure().directory, f"{_FILES}/{NAME}")
    served._put(_installer(MINIFORGE).path, served.installer)
    served._put(Path(__file__).with_name("server.py"), f"{_FILES}/server.py")
    box.write("/etc/conda/.condarc", f"channel_alias: {served.base_url}\n")
    served.start()
    return served


def _installer(distribution: Distribution) -> Installer:
    return installer.ensure(distribution)
