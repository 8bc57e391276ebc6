"""The machine under it: disks, memory, clock, and what waits for a restart."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from .. import __file__ as _ours
from .. import machine, paths, render, systemd
from ..kernels import size
from ..run import run
from .findings import Found, Trouble
from .patient import Patient

_WHY_SPACE = "Notebooks cannot be saved, nobody can log in, and a save that breaks off can leave an empty file."
_SEE_LARGE = "See what is large: sudo du -xh {place} | sort -h | tail"

DISK_FULL = Trouble("disk-full", "The disk with {place} is full: {free} are left.", _WHY_SPACE, _SEE_LARGE)
DISK_LOW = Trouble(
    "disk-low", "The disk with {place} is nearly full: {free} are left.", _WHY_SPACE, _SEE_LARGE, may_wait=True
)
NO_INODES = Trouble(
    "no-inodes",
    "The disk with {place} has room, but takes no more files: {free} inodes are left.",
    _WHY_SPACE,
    "See where most files are: sudo du -x --inodes {place} | sort -n | tail",
)
READ_ONLY = Trouble(
    "read-only",
    "The disk with {place} is read-only.",
    "Nothing can be saved. Linux does this by itself when a disk begins to fail.",
    "See why: sudo dmesg | grep -i -e error -e remount — then: sudo mount -o remount,rw {mount}",
)
MEMORY_LOW = Trouble(
    "memory-low",
    "{free} of memory are left of {total}.",
    "When there is none, Linux ends what has most: a kernel, with all of its variables.",
    "See who has it: jupyter-remote kernels — and stop what you do not need: jupyter-remote kernels stop ID",
    may_wait=True,
)
NO_SWAP = Trouble(
    "no-swap",
    "The machine has {total} of memory and no swap.",
    "One notebook that wants a little more than there is loses its kernel at once.",
    "sudo fallocate -l 2G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
    " — and for good: echo '/swapfile none swap sw 0 0' | sudo tee -a /etc/fstab",
    may_wait=True,
)
CLOCK_WRONG = Trouble(
    "clock-wrong",
    "The machine's clock says {now}, which is before this package was made.",
    "Certificates are not valid yet, logins end at the wrong time, and saved notebooks look older than they are.",
    "sudo timedatectl set-ntp true — or by hand: sudo timedatectl set-time 'YYYY-MM-DD HH:MM:SS'",
)
JOURNAL_BIG = Trouble(
    "journal-big",
    "The system's journal takes {used} of the disk.",
    "That is room for notebooks and data.",
    "sudo journalctl --vacuum-size=500M",
    may_wait=True,
)
OLD_SERVER = Trouble(
    "old-server",
    "The server runs a Python that has been replaced since it started.",
    "What was repaired in it (a security update) is not in use yet. Kernels go on through a restart.",
    mend="systemctl restart jupyter-remote",
    may_wait=True,
)
REBOOT_WANTED = Trouble(
    "reboot-wanted",
    "An update waits for a reboot.",
    "What it repairs is not in use yet. A reboot ends all kernels: save what they have first.",
    "When nothing runs (jupyter-remote kernels): sudo reboot",
    may_wait=True,
)
UPGRADE_WAITS = Trouble(
    "upgrade-waits",
    "There is a newer jupyter-remote: {candidate}; {installed} is installed.",
    "Repairs and security updates come with it. Kernels go on through an upgrade.",
    "sudo apt install jupyter-remote",
    may_wait=True,
)

#: bytes; what an error is, and what a warning
_FULL, _LOW = 64 << 20, 1 << 30


def disks(patient: Patient) -> Iterator[Found]:
    """Each file system that something of ours is written to, once."""
    places = [paths.STATE_DIR, Path("/var/log"), Path("/tmp"), paths.CONFIG_DIR]
    if patient.owner:
        places += [patient.owner.home, render.notebook_dir(patient.settings, patient.owner)]
    for disk in machine.file_systems(places):
        # In a terminal of our own /etc is read-only (ProtectSystem=), whatever the disk is.
        if disk.read_only and (patient.is_root or disk.place != paths.CONFIG_DIR):
            yield READ_ONLY(place=disk.place, mount=_mount_point(disk.place))
        elif disk.free < _FULL:
            yield DISK_FULL(place=disk.place, free=size(disk.free))
        elif disk.free < min(_LOW, disk.total // 20):
            yield DISK_LOW(place=disk.place, free=size(disk.free))
        if disk.inodes is not None and disk.inodes < 100:
            yield NO_INODES(place=disk.place, free=disk.inodes)


def memory(patient: Patient) -> Iterator[Found]:
    del patient
    found = machine.memory()
    if found.free < found.total // 20:
        yield MEMORY_LOW(free=size(found.free), total=size(found.total))
    if not found.swap and 0 < found.total < 2 << 30:
        yield NO_SWAP(total=size(found.total))


def clock(patient: Patient) -> Iterator[Found]:
    del patient
    if time.time() < Path(_ours).stat().st_mtime - 86400:
        yield CLOCK_WRONG(now=time.strftime("%Y-%m-%d %H:%M"))


def journal(patient: Patient) -> Iterator[Found]:
    del patient
    said = run("journalctl", "--disk-usage", check=False).stdout
    if match := re.search(r"take up ([\d.]+)([KMGT]?)", said):
        used = float(match[1]) * 1024 ** " KMGT".index(match[2] or " ")
        if used > 4 << 30:
            yield JOURNAL_BIG(used=size(int(used)))


def updates(patient: Patient) -> Iterator[Found]:
    if Path("/run/reboot-required").exists():
        yield REBOOT_WANTED()
    policy = run("apt-cache", "policy", "jupyter-remote", check=False).stdout
    versions = dict(re.findall(r"^\s+(Installed|Candidate): (\S+)", policy, re.MULTILINE))
    if versions.get("Candidate") not in (None, "(none)", versions.get("Installed")):
        yield UPGRADE_WAITS(candidate=versions["Candidate"], installed=versions.get("Installed"))
    if patient.is_root and systemd.running():
        pid = systemd.properties(paths.SERVICE, "MainPID")["MainPID"]
        try:
            program = str(Path(f"/proc/{pid}/exe").readlink())
        except OSError:
            return  # it does not run
        if program.endswith(" (deleted)"):
            yield OLD_SERVER()


def _mount_point(place: Path) -> Path:
    while not place.is_mount():
        place = place.parent
    return place
