"""Wheels, pinned in requirements/, as conda packages."""

from __future__ import annotations

import configparser
import hashlib
import platform
import re
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from lab import cache
from lab.box import Box
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jupyter_remote.run import run, say
from tests.conda import cpython
from tests.conda.package import PLACEHOLDER, File, Package

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
PINNED = ("kernel", "channel")
#: where a box has what was downloaded, for :func:`offer`
INSIDE = "/opt/wheels"

#: what the Python of the package `python` says of itself
ENVIRONMENT = {
    "implementation_name": "cpython", "os_name": "posix", "platform_machine": platform.machine(),
    "platform_python_implementation": "CPython", "platform_system": "Linux", "sys_platform": "linux",
    "python_version": cpython.VERSION, "python_full_version": f"{cpython.VERSION}.2", "extra": "",
}  # fmt: skip
#: More than half of the files of an environment with a kernel are what jedi knows of other packages.
LEFT_OUT = re.compile(r"jedi/third_party/(django-stubs|typeshed/stubs)/|(^|/)tests?/|\.dist-info/RECORD$")
#: manylinux_2_N: the oldest that anybody builds for, and what our Python's system has
_GLIBC_MINOR = range(5, 37)


def download(directory: Path, pinned: tuple[str, ...] = PINNED, python: str = cpython.VERSION) -> list[Path]:
    """All pinned wheels that a Python of our machines can use; downloaded once and kept below *directory*.

    :param pinned: files in requirements/.
    :param python: its version; without it, that of the package ``python``.
    :raises ProcessFailed: pip cannot get them.
    """
    pins = "".join((REQUIREMENTS / f"{name}.txt").read_text() for name in pinned)
    environment = {**ENVIRONMENT, "python_version": python, "python_full_version": f"{python}.2"}
    key = hashlib.sha256(repr([pins, environment]).encode()).hexdigest()[:12]

    def fetch(partial: Path) -> None:
        say(f"downloading the wheels of {' and '.join(pinned)}")
        chosen = partial / "requirements.txt"
        chosen.write_text("".join(_for_our_python(pins, environment)))
        platforms = [f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in reversed(_GLIBC_MINOR)]
        run(
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--require-hashes", "--only-binary=:all:", f"--python-version={python}", *platforms,
            f"--dest={partial}", f"--requirement={chosen}",
        )  # fmt: skip

    return sorted(cache.build_once(directory / f"wheels-{key}", fetch).glob("*.whl"))


def offer(box: Box) -> None:
    """Have alice's pip find what lies in :data:`INSIDE` of a box, and nothing else."""
    box.as_user("alice").sh("mkdir -p .config/pip")
    found = f"[global]\nno-index = true\nfind-links = {INSIDE}\n"
    box.write("/home/alice/.config/pip/pip.conf", found, owner="alice")


def package(wheel: Path) -> Package:
    """The conda package of a wheel: for any Python where the wheel is, else for the package ``python``."""
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        metadata = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
        pure = BytesParser().parsebytes(archive.read(f"{info}/WHEEL"))["Root-Is-Purelib"].lower() == "true"
        site_packages = "site-packages" if pure else cpython.SITE_PACKAGES
        files = dict(_files(archive, site_packages))
        scripts = _console_scripts(archive, f"{info}/entry_points.txt")
    files[f"{site_packages}/{info}/INSTALLER"] = File(b"conda\n")
    name, version = str(canonicalize_name(metadata["Name"])), metadata["Version"]
    depends = tuple(_depends(metadata))
    if pure:
        entry_points = tuple(f"{name} = {module}:{function}" for name, (module, function) in scripts.items())
        build = "pyhd8ed1ab_0"
        return Package(name, version, files, ("python >=3.9", *depends), build, "python", entry_points)
    files |= {f"bin/{program}": cpython.program(*where) for program, where in scripts.items()}
    build = f"py{cpython.VERSION.replace('.', '')}_0"
    return Package(name, version, files, (f"python {cpython.VERSION}.*", *depends), build)


def _for_our_python(pins: str, environment: dict[str, str]) -> Iterator[str]:
    """The blocks of requirements/*.txt that apply to our Python, which pip must not judge by the one it runs on."""
    for block in re.split(r"^(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", pins, flags=re.M), flags=re.M):
        first, newline, hashes = block.partition("\n")
        name, _, marker = first.removesuffix(" \\").partition(" ; ")
        if name and (not marker or Marker(marker).evaluate(environment)):
            yield f"{name} \\{newline}{hashes}"


def _files(archive: zipfile.ZipFile, site_packages: str) -> Iterator[tuple[str, File]]:
    for member in archive.infolist():
        if member.is_dir() or LEFT_OUT.search(member.filename):
            continue
        data = archive.read(member)
        spread = re.match(r"[^/]+\.data/(purelib|platlib|scripts|data)/(.*)", member.filename)
        if not spread:
            yield f"{site_packages}/{member.filename}", File(data)
        elif spread[1] == "data":
            yield spread[2], File(_with_this_python(data) if spread[2].endswith("/kernel.json") else data)
        elif spread[1] == "scripts":
            shebang = f"#!{PLACEHOLDER}/bin/python{cpython.VERSION}\n".encode()
            yield f"bin/{spread[2]}", File(re.sub(rb"\A#!python.*\n", shebang, data), 0o755)
        else:
            yield f"{site_packages}/{spread[2]}", File(data)


def _with_this_python(kernelspec: bytes) -> bytes:
    """A kernelspec as conda-forge packages it: it names its environment's own Python, wherever that is."""
    return kernelspec.replace(b'"python"', f'"{PLACEHOLDER}/bin/python"'.encode(), 1)


def _console_scripts(archive: zipfile.ZipFile, member: str) -> dict[str, tuple[str, str]]:
    """Program -> (module, function)."""
    if member not in archive.namelist():
        return {}
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(archive.read(member).decode())
    if not parser.has_section("console_scripts"):
        return {}
    pairs = {name: where.partition(":") for name, where in parser.items("console_scripts")}
    return {name: (module.strip(), function.strip()) for name, (module, _, function) in pairs.items()}


def _depends(metadata: Message) -> Iterator[str]:
    for line in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        if not requirement.marker or requirement.marker.evaluate(ENVIRONMENT):
            yield f"{canonicalize_name(requirement.name)} {requirement.specifier}".strip()
