"""Conda packages (the ``.conda`` format) and the index of the channel that they are in."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: modification time of what has none of its own, so that the same package is made each time
EPOCH = 1_790_000_000
#: stands in a package's text files for the prefix that it gets installed to
PLACEHOLDER = "/opt/" + "placehold_" * 8
SUBDIR = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[platform.machine()]
NOARCH = "noarch"


@dataclass(frozen=True)
class File:
    """A file of a package; *link* makes it a symbolic link to there."""

    data: bytes = b""
    mode: int = 0o644
    link: str = ""
    mtime: int = EPOCH

    @staticmethod
    def of(path: Path) -> File:
        """*path* as it is on disk, where it may be a symbolic link."""
        if path.is_symlink():
            return File(link=str(path.readlink()), mode=0o777)
        facts = path.stat()
        return File(path.read_bytes(), stat.S_IMODE(facts.st_mode), mtime=int(facts.st_mtime))

    @property
    def has_prefix(self) -> bool:
        """Whether the prefix has to be written into it when it is installed."""
        return PLACEHOLDER.encode() in self.data


@dataclass(frozen=True)
class Package:
    """A package to be. *files* are by their place below the prefix.

    In a package with *noarch* ``python`` the place ``site-packages/`` is that of whatever Python gets it,
    and *entry_points* (``conda = conda_standin:main``) become programs when it is installed.
    """

    name: str
    version: str
    files: Mapping[str, File]
    depends: tuple[str, ...] = ()
    build: str = "0"
    #: ``python`` or ``generic``; without it the package is for this machine's architecture only
    noarch: str = ""
    entry_points: tuple[str, ...] = ()
    licenses: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def subdir(self) -> str:
        return NOARCH if self.noarch else SUBDIR

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-{self.build}.conda"

    @property
    def index(self) -> dict[str, object]:
        """``info/index.json``: what the solver knows of it."""
        facts: dict[str, object] = {
            "name": self.name, "version": self.version, "build": self.build, "build_number": 0,
            "depends": list(self.depends), "subdir": self.subdir, "timestamp": EPOCH * 1000,
        }  # fmt: skip
        if self.noarch:
            return facts | {"noarch": self.noarch}
        return facts | {"arch": platform.machine(), "platform": "linux"}


def write(channel: Path, package: Package) -> Path:
    """Put *package* into the directory *channel*; :func:`index` tells clients of it.

    :raises subprocess.CalledProcessError: zstd, which is needed, failed.
    """
    path = channel / package.subdir / package.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.name.removesuffix(".conda")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"info-{stem}.tar.zst", _tar_zst(_info(package))),
            (f"pkg-{stem}.tar.zst", _tar_zst(package.files)),
        ):
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def index(channel: Path) -> None:
    """Write ``repodata.json`` for all packages in *channel*."""
    for subdir in (NOARCH, SUBDIR):
        (channel / subdir).mkdir(parents=True, exist_ok=True)
        found = {}
        for path in sorted((channel / subdir).glob("*.conda")):
            data = path.read_bytes()
            with zipfile.ZipFile(path) as archive:
                info = _untar_zst(archive.read(f"info-{path.stem}.tar.zst"), "info/index.json")
            found[path.name] = json.loads(info) | {
                "size": len(data),
                "sha256": _sha256(data),
                "md5": hashlib.md5(data).hexdigest(),
            }
        repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": found, "repodata_version": 1}
        (channel / subdir / "repodata.json").write_text(json.dumps(repodata))


def _info(package: Package) -> dict[str, File]:
    """The package's own description, as far as anybody reads it."""
    paths = []
    for place, file in sorted(package.files.items()):
        entry: dict[str, object] = {
            "_path": place, "path_type": "softlink" if file.link else "hardlink",
            "sha256": _sha256(file.data), "size_in_bytes": len(file.data),
        }  # fmt: skip
        if file.has_prefix:
            entry |= {"file_mode": "text", "prefix_placeholder": PLACEHOLDER}
        paths.append(entry)
    documents: dict[str, object] = {
        "index": package.index,
        "paths": {"paths": paths, "paths_version": 1},
        "about": {"summary": f"{package.name}, made into a package by the tests of jupyter-remote"},
    }
    if package.noarch == "python":
        link = {"noarch": {"type": "python", "entry_points": list(package.entry_points)}}
        documents["link"] = link | {"package_metadata_version": 1}
    info = {f"info/{name}.json": File(json.dumps(document).encode()) for name, document in documents.items()}
    info["info/files"] = File("".join(f"{place}\n" for place in sorted(package.files)).encode())
    return info | {f"info/licenses/{name}": File(text) for name, text in package.licenses.items()}


def _tar_zst(files: Mapping[str, File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for place, file in sorted(files.items()):
            member = tarfile.TarInfo(place)
            member.mtime, member.mode = file.mtime, file.mode
            if file.link:
                member.type, member.linkname = tarfile.SYMTYPE, file.link
            else:
                member.size = len(file.data)
            tar.addfile(member, io.BytesIO(file.data))
    # what is made once and unpacked often: more than the fastest, less than the smallest
    return _zstd(buffer.getvalue(), "-10", "--threads=0")


def _untar_zst(data: bytes, member: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(_zstd(data, "--decompress"))) as tar:
        found = tar.extractfile(member)
        assert found
        return found.read()


def _zstd(data: bytes, *options: str) -> bytes:
    # not run(): it is for text
    return subprocess.run(["zstd", "--quiet", "--stdout", *options], input=data, capture_output=True, check=True).stdout


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
