"""What the lab needs from the machine it runs on."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from jupyter_remote.run import EX_NOPERM, EX_UNAVAILABLE, ProcessFailed, die, run, say

#: program -> the package that has it, by the same name in Debian and Ubuntu
PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ip": "iproute2",
    "mount": "mount",
    "git": "git",
    # tools/repository
    "gpg": "gpg",
    "openssl": "openssl",
    "certutil": "libnss3-tools",
    "chromium": "chromium",
    # tests/steps.c, and bench/compare
    "gcc": "gcc",
    # JupyterLab's test kit, and bench/compare
    "npm": "npm",
    # what a package leaves behind
    "piuparts": "piuparts",
    # conda packages for tests
    "patchelf": "patchelf",
    "strip": "binutils",
    "zstd": "zstd",
    # virtual machines
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
}
#: file -> the package that has it, for what is not a program
FILES = {
    "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf": "fonts-dejavu-core",
    "/usr/share/distro-info/debian.csv": "distro-info-data",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    "/usr/include/stdio.h": "libc6-dev",
}
LOCAL_CERTIFICATES = Path("/usr/local/share/ca-certificates")


def require(*needed: str) -> None:
    """Install the programs (or absolute paths of files) that are missing, with apt-get.

    :param needed: keys of :data:`PACKAGES` or :data:`FILES`.
    :raises Mistake: something is missing and we are not root, or apt-get cannot install it.
    """
    missing = {
        FILES[name] if name in FILES else PACKAGES[name]
        for name in needed
        if not (Path(name).exists() if name in FILES else shutil.which(name))
    }
    if not missing:
        return
    if os.geteuid() != 0:
        die(
            f"missing on this machine: {' '.join(sorted(missing))}",
            hint=f"sudo apt-get install {' '.join(sorted(missing))}",
            code=EX_NOPERM,
        )
    say(f"installing {' '.join(sorted(missing))} on this machine")
    apt_install(*sorted(missing))


def apt_install(*packages: str) -> None:
    """Install *packages* on this machine; fetches the package lists when the first try fails.

    :raises Mistake: apt-get cannot install them.
    """
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    install = (
        "apt-get",
        "-qq",
        "-o",
        "DPkg::Lock::Timeout=600",
        "install",
        "--yes",
        "--no-install-recommends",
    )
    with Path("/run/lock/jupyter-remote-apt").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if run(*install, *packages, env=quiet, check=False).returncode == 0:
            return
        try:
            run("apt-get", "-qq", "update")
            run(*install, *packages, env=quiet)
        except ProcessFailed as failed:
            die(f"cannot install {' '.join(packages)}:\n{failed}", code=EX_UNAVAILABLE)


def require_root(what: str) -> None:
    """:raises Mistake: we are not root, which *what* needs."""
    if os.geteuid() != 0:
        die(f"{what} needs root", hint="run it with sudo", code=EX_NOPERM)


def os_release() -> dict[str, str]:
    """This machine's /etc/os-release."""
    lines = (line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {key: value.strip('"') for key, value in lines}


def local_certificates() -> list[Path]:
    """The CA certificates that this machine's administrator added to the distribution's."""
    return sorted(LOCAL_CERTIFICATES.rglob("*.crt"))
