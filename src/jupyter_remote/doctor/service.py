"""Settings, password and units: what has to be there before anybody can visit."""

from __future__ import annotations

import grp
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from .. import accounts, checks, password, paths, render, systemd
from ..run import Mistake, run
from .findings import Found, Trouble
from .patient import Patient

_WHY_DOWN = "Nobody can work: pages wait for it, then say that there is no Jupyter."

OWNER_WRONG = Trouble(
    "owner-wrong",
    "The owner cannot have a Jupyter. {what}",
    "Kernels run as this person and save to this home.",
    "{hint}",
)
NOTEBOOK_DIR_WRONG = Trouble(
    "notebook-dir-wrong",
    "The directory for notebooks cannot be used. {what}",
    "It is what the file browser shows and where notebooks are saved.",
    "{hint}",
)
NOT_APPLIED = Trouble(
    "not-applied",
    "Settings, or this machine's names, have changed and are not in use: {files}.",
    "The machine does not do what config.toml says.",
    mend="jupyter-remote apply",
    may_wait=True,
)
SETTINGS_OPEN = Trouble(
    "settings-open",
    "{path} can be changed by others than root ({mode}, {owner}).",
    "Who can change it decides as whom the server runs, and on what it listens.",
    mend="chown root: {path}; chmod {right} {path}",
)
HASH_OPEN = Trouble(
    "hash-open",
    "{path} can be read by others than root ({mode}, {owner}).",
    "With the hash the password can be guessed as fast as a computer can: others on this machine may have it.",
    mend="chown root: {path}; chmod 600 {path}",
)
HASH_WRONG = Trouble(
    "hash-wrong",
    "What is in {path} is no password hash that Jupyter understands.",
    "Nobody can log in with a password.",
    "sudo jupyter-remote password",
)
NO_PASSWORD = Trouble(
    "no-password",
    "No password is set.",
    "Only login links open it (sudo jupyter-remote url).",
    "sudo jupyter-remote password",
    may_wait=True,
)
UNIT_MASKED = Trouble("unit-masked", "{unit} is masked.", _WHY_DOWN, "sudo systemctl unmask --now {unit}")
UNIT_DISABLED = Trouble(
    "unit-disabled",
    "{unit} does not start at boot.",
    "After the next reboot there is no Jupyter.",
    "sudo systemctl enable {unit}",
    may_wait=True,
)
SERVER_DOWN = Trouble(
    "server-down",
    "The server is {state}. {words}",
    _WHY_DOWN,
    mend="systemctl reset-failed {unit}; systemctl restart {unit}",
)
SOCKET_DOWN = Trouble("socket-down", "{unit} is {state}.", _WHY_DOWN, mend="systemctl start {unit}")
KERNELS_DOWN = Trouble(
    "kernels-down",
    "{unit} is {state}, so no kernel can be started.",
    "Notebooks open, and no cell runs.",
    mend="systemctl start {unit}",
)
SOCKET_OPEN = Trouble(
    "socket-open",
    "{path} is {mode} {owner}; it must be {right} {rightful}.",
    "It is a door to the owner's account: nobody but Apache and the owner may open it, and they must be able to.",
    mend="systemctl stop {service}; systemctl restart {socket}; systemctl start {service}",
)
RUNS_AS_ANOTHER = Trouble(
    "runs-as-another",
    "{unit} runs as {runs_as}, and the settings say {user}.",
    "Somebody else's files are served.",
    mend="jupyter-remote apply",
)
CRASHES = Trouble(
    "crashes",
    "The server has crashed {times} times since it was last started by hand.",
    "Each time pages stop for some seconds; kernels go on.",
    "See why: sudo jupyter-remote logs -n 200",
    may_wait=True,
)
SECOND_JUPYTER = Trouble(
    "second-jupyter",
    "Another Jupyter listens on {where}: {command}",
    "It is as open as it was configured to be, by another door than the one that is guarded here.",
    "If nobody needs it: sudo kill {pid} — and take it out of what starts it (tmux, crontab)",
    may_wait=True,
)


def people(patient: Patient) -> Iterator[Found]:
    """The owner, and where they work."""
    try:
        owner = accounts.owner(patient.settings.user)
    except Mistake as mistake:
        yield OWNER_WRONG(what=mistake.what, hint=mistake.hint)
        return
    try:
        checks.notebook_dir(patient.settings, owner)
    except Mistake as mistake:
        yield NOTEBOOK_DIR_WRONG(what=mistake.what, hint=mistake.hint)


def files(patient: Patient) -> Iterator[Found]:
    """What lies in /etc/jupyter-remote and who may write it."""
    for path, right in ((paths.CONFIG_DIR, "755"), (paths.CONFIG, "644")):
        if not path.exists():
            continue  # nobody has installed it for anybody, which another check says
        info = path.stat()
        if info.st_uid or info.st_mode & 0o022:
            yield SETTINGS_OPEN(path=path, mode=_mode(info), owner=_who(info), right=right)
    for path in (paths.PASSWORD_HASH, paths.SECOND_FACTOR):
        if path.exists():
            info = path.stat()
            if info.st_uid or info.st_mode & 0o077:
                yield HASH_OPEN(path=path, mode=_mode(info), owner=_who(info))
    if not patient.is_root:
        return
    if password.is_locked():
        yield NO_PASSWORD()
        return
    try:
        password.checked_hash(paths.PASSWORD_HASH.read_text().strip())
    except Mistake:
        yield HASH_WRONG(path=paths.PASSWORD_HASH)


def applied(patient: Patient) -> Iterator[Found]:
    """Whether what is in use is what the settings say."""
    if not patient.is_root or not patient.owner:
        return
    wanted = render.render(patient.settings, patient.owner, patient.machine)
    differing = [path.name for path, text in wanted.items() if _text(path) != text]
    if differing:
        yield NOT_APPLIED(files=", ".join(differing))


def units(patient: Patient) -> Iterator[Found]:
    """Whether they are up, and come up."""
    if not systemd.running():
        return
    for unit in (paths.SERVICE, paths.SOCKET, paths.KERNEL_SOCKET_UNIT):
        if systemd.is_masked(unit):
            yield UNIT_MASKED(unit=unit)
        elif systemd.is_disabled(unit):
            yield UNIT_DISABLED(unit=unit)
    shown = systemd.properties(paths.SERVICE, "ActiveState", "LoadState", "NRestarts", "User")
    if shown["LoadState"] == "masked":
        return
    if not systemd.serves(paths.SERVICE, paths.SOCKET):
        words = systemd.last_words(paths.SERVICE, 1)
        yield SERVER_DOWN(unit=paths.SERVICE, state=shown["ActiveState"], words=words)
        # Its socket comes with it.
        doors = [(paths.KERNEL_SOCKET_UNIT, KERNELS_DOWN)]
    else:
        doors = [(paths.SOCKET, SOCKET_DOWN), (paths.KERNEL_SOCKET_UNIT, KERNELS_DOWN)]
        if shown["User"] and patient.owner and shown["User"] not in (patient.owner.name, str(patient.owner.uid)):
            yield RUNS_AS_ANOTHER(unit=paths.SERVICE, runs_as=shown["User"], user=patient.owner.name)
        elif shown["NRestarts"].isdigit() and int(shown["NRestarts"]) > 2:
            yield CRASHES(times=shown["NRestarts"])
    for unit, trouble in doors:
        state = systemd.properties(unit, "ActiveState")["ActiveState"]
        if state != "active" and not systemd.is_masked(unit):
            yield trouble(unit=unit, state=state)


def sockets(patient: Patient) -> Iterator[Found]:
    """Who may open the doors."""
    owner = patient.owner
    if not owner or not systemd.running():
        return
    rights = {paths.KERNEL_SOCKET: ("0600", owner.name, paths.KERNEL_SOCKET_UNIT)}
    if patient.settings.listen == "unix":
        rights[paths.HTTP_SOCKET] = ("0660", f"{owner.name}:www-data", paths.SOCKET)
    for path, (right, rightful, unit) in rights.items():
        if not systemd.is_active(unit) or not path.is_socket():
            continue
        info = path.stat()
        held_by = _who(info) if ":" in rightful else _who(info).partition(":")[0]
        if (_mode(info), held_by) != (right, rightful):
            yield SOCKET_OPEN(
                path=path,
                mode=_mode(info),
                owner=_who(info),
                right=right,
                rightful=rightful,
                socket=unit,
                service=paths.SERVICE,
            )


def others(patient: Patient) -> Iterator[Found]:
    """Servers that somebody has started by hand, as guides tell to."""
    if not patient.is_root:
        return
    for place, pid, argv in _listening():
        if any(
            Path(word).name.startswith("jupyter-") or word in ("notebook", "lab", "server") for word in argv
        ) and any("jupyter" in word for word in argv):
            yield SECOND_JUPYTER(where=place, command=" ".join(argv)[:100], pid=pid)


def _listening() -> Iterator[tuple[str, int, list[str]]]:
    """Who listens where on TCP: address, process id and command line."""
    for line in run("ss", "-H", "-ltnp", check=False).stdout.splitlines():
        place = line.split()[3]
        for pid in set(map(int, re.findall(r"pid=(\d+)", line))):
            yield place, pid, checks.command_line(pid)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _mode(info: os.stat_result) -> str:
    return f"{stat.S_IMODE(info.st_mode):04o}"


def _who(info: os.stat_result) -> str:
    user = accounts.name_of(info.st_uid)
    try:
        group = grp.getgrgid(info.st_gid).gr_name
    except KeyError:
        group = str(info.st_gid)
    return f"{user}:{group}"
