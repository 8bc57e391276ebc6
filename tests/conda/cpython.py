"""Debian 12's Python as a conda package, which runs on any Debian from 12 on: of the system it needs glibc only."""

from __future__ import annotations

import platform
import re
import tempfile
from pathlib import Path

from lab import host
from lab.scratch import scratch

from jupyter_remote.run import run
from tests.conda.package import PLACEHOLDER, File, Package

#: the oldest release that we support: what runs on its glibc runs on later ones
SUITE = "bookworm"
VERSION = "3.11"
SITE_PACKAGES = f"lib/python{VERSION}/site-packages"

_LIBRARIES = Path("usr/lib") / f"{platform.machine()}-linux-gnu"
#: part of libc6 and libgcc-s1, which no Debian is without
_OF_GLIBC = re.compile(r"(libc|libm|libdl|libpthread|librt|libutil|libgcc_s|ld-linux-[\w-]+)\.so\.\d+")
#: what nobody needs in an environment, and what is Debian's own
_LEFT_OUT = re.compile(
    r"(^|/)(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|site-packages)(/|$)"
    r"|lib-dynload/(_test|_ctypes_test|_xx|xx|_dbm|nis|ossaudiodev|_tkinter)"
    r"|(^|/)(sitecustomize|_distutils_system_mod|turtle)\.|^EXTERNALLY-MANAGED$"
)
# Debian looks for packages in dist-packages. Its site.py is frozen into the program, so this undoes it at each start.
_SITECUSTOMIZE = f'''\
import os
import site
import sys

if sys.prefix == sys.base_prefix:
    _packages = os.path.join(sys.prefix, "{SITE_PACKAGES}")
    site.getsitepackages = lambda prefixes=None: [_packages]
    site.addsitedir(_packages)
'''


def package() -> Package:
    """The package ``python``.

    :raises Mistake: we are not root, which a scratch root needs, or a program is missing.
    :raises ProcessFailed: patchelf does not like what it gets.
    """
    host.require("patchelf")
    with scratch(SUITE, "box") as root, tempfile.TemporaryDirectory() as directory:
        library = root.root / f"usr/lib/python{VERSION}"
        version = root.run(f"python{VERSION}", "-c", "import platform; print(platform.python_version())").stdout.strip()
        files = _standard_library(library)
        binaries = {f"bin/python{VERSION}": root.root / f"usr/bin/python{VERSION}"}
        binaries |= {place: library.parent.parent / place for place in files if place.endswith(".so")}
        for name in _needed(root.root, list(binaries.values())):
            binaries[f"lib/{name}"] = (root.root / _LIBRARIES / name).resolve()
        for place, path in binaries.items():
            files[place] = _relocatable(path, place, Path(directory))
        licenses = {"LICENSE.txt": (library / "LICENSE.txt").resolve().read_bytes()}
    for name in ("python", "python3"):
        files[f"bin/{name}"] = File(link=f"python{VERSION}", mode=0o777)
    return Package("python", version, files, ("__glibc >=2.36",), "h0_0_cpython", licenses=licenses)


def program(module: str, function: str) -> File:
    """What starts ``module.function`` in the environment that it is installed in."""
    text = f"#!{PLACEHOLDER}/bin/python{VERSION}\nimport sys\nfrom {module} import {function.partition('.')[0]}\n"
    return File(f"{text}sys.exit({function}())\n".encode(), 0o755)


def _standard_library(library: Path) -> dict[str, File]:
    files = {}
    for path in sorted(library.rglob("*")):
        inside = str(path.relative_to(library))
        if _LEFT_OUT.search(inside) or (path.is_dir() and not path.is_symlink()):
            continue
        # Debian has some of them in /etc
        if not (path.is_symlink() and str(path.readlink()).startswith("/")):
            files[f"lib/python{VERSION}/{inside}"] = File.of(path)
    files[f"lib/python{VERSION}/sitecustomize.py"] = File(_SITECUSTOMIZE.encode())
    # pip asks this one where to put things
    place = f"lib/python{VERSION}/sysconfig.py"
    text, count = re.subn(r"'prefix': prefix_scheme,", "'prefix': 'posix_prefix',", files[place].data.decode())
    assert count == 1, "Debian has another sysconfig.py now"
    files[place] = File(text.encode())
    del files[f"lib/python{VERSION}/__pycache__/sysconfig.cpython-{VERSION.replace('.', '')}.pyc"]
    return files


def _needed(root: Path, binaries: list[Path]) -> list[str]:
    """The libraries that *binaries* are linked with, and these with: all but what each Debian has."""
    found: set[str] = set()
    todo = list(binaries)
    while todo:
        for name in run("patchelf", "--print-needed", todo.pop()).stdout.split():
            if name not in found and not _OF_GLIBC.fullmatch(name):
                found.add(name)
                todo.append(_library(root, name))
    return sorted(found)


def _library(root: Path, name: str) -> Path:
    for directory in (_LIBRARIES, Path(*_LIBRARIES.parts[1:])):
        if (root / directory / name).exists():
            return (root / directory / name).resolve()
    raise FileNotFoundError(name)


def _relocatable(path: Path, place: str, directory: Path) -> File:
    """The binary *path* as a file of the package at *place*: it looks for its libraries in ``lib`` of the package."""
    copy = directory / "binary"
    copy.write_bytes(path.read_bytes())
    above = "/".join([".."] * (len(Path(place).parts) - 1))
    run("patchelf", "--set-rpath", f"$ORIGIN/{above}/lib", copy)
    return File(copy.read_bytes(), 0o755 if place.startswith("bin/") else 0o644)
