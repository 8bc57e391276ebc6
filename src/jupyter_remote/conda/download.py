"""Fetching one big file: with progress, a digest, room on the disk, and a sentence for each way to fail."""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from jupyter_remote.run import (
    EX_CANTCREAT,
    EX_DATAERR,
    EX_IOERR,
    EX_NOHOST,
    EX_PROTOCOL,
    EX_UNAVAILABLE,
    die,
    say,
)

#: seconds without a byte after which a transfer has stalled
PATIENCE = 60
#: how often a transfer that breaks off is taken up again where it ended
ATTEMPTS = 3
_PIECE = 1 << 18

AGAIN = "Nothing was left behind; the same command tries again."


class _BrokenOff(Exception):
    """The transfer ended early; the text says how."""


def fetch(url: str, target: Path, sha256: str, *, room: int = 1) -> None:
    """Download *url* into the file *target* and check its digest.

    :param sha256: hexadecimal digest that the file must have.
    :param room: how many times its size must be free on the disk.
    :raises Mistake: each way to fail has an exit code of its own: 65 wrong digest, 68 no network, 69 the
        server does not have it, 73 no room, 74 it breaks off again and again, 76 a page and no installer,
        or a certificate that nobody vouches for.
    """
    say(f"Downloading {url}")
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _transfer(url, target, room)
                break
            except _BrokenOff as broken:
                if attempt == ATTEMPTS:
                    die(
                        f"The transfer of {url} breaks off: {broken}.",
                        hint=f"Is the network stable? {AGAIN}",
                        code=EX_IOERR,
                    )
                say(f"  {broken}; going on from there")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _no_room(target.parent, "")
        raise
    _check(url, target, sha256)


def _transfer(url: str, target: Path, room: int) -> None:
    """Fetch what is missing of *target*.

    :raises _BrokenOff: less came than there is; what came is kept.
    """
    have = target.stat().st_size if target.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return  # all of it had come before the connection broke
        _refused(url, error)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        _unreachable(url, error)
    with answer:
        going_on = have > 0 and getattr(answer, "status", 200) == 206
        length = answer.headers.get("Content-Length")
        missing = int(length) if length and length.isdigit() else None
        if "html" in (answer.headers.get("Content-Type") or ""):
            _a_page(url)
        if missing is not None and shutil.disk_usage(target.parent).free < missing * room:
            _no_room(target.parent, f" The download and what comes of it need {missing * room / 1e6:.0f} MB.")
        if not going_on:
            have = 0
        with target.open("ab" if going_on else "wb") as file:
            _copy(answer, file, have, None if missing is None else have + missing)


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, have: int, whole: int | None) -> None:
    progress = Progress(have, whole)
    while True:
        try:
            piece = answer.read(_PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOff(_reason(error)) from None
        if not piece:
            break
        file.write(piece)
        progress.add(len(piece))
    progress.end()
    if whole is not None and progress.done < whole:
        raise _BrokenOff(f"only {progress.done / 1e6:.1f} of {whole / 1e6:.1f} MB came")


def _check(url: str, target: Path, sha256: str) -> None:
    with target.open("rb") as file:
        if file.read(2) != b"#!":
            _a_page(url)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        die(
            f"What came from {url} is not what was expected: its SHA-256 is {digest}, not {sha256}.",
            hint="It was not run. If this is a mirror's own file, compare with its publisher's digest, and say "
            "which it must have: --sha256 DIGEST",
            code=EX_DATAERR,
        )


def _refused(url: str, error: urllib.error.HTTPError) -> NoReturn:
    hints = {
        404: "The version may have been withdrawn. Name another place: --installer-url URL --sha256 DIGEST",
        407: "Your proxy wants a login: export https_proxy=http://USER:PASSWORD@HOST:PORT",
    }
    die(
        f"{url} cannot be had: the server says {error.code} {error.reason}.",
        hint=hints.get(error.code, f"Try again later, or name another place with --installer-url. {AGAIN}"),
        code=EX_UNAVAILABLE,
    )


def _unreachable(url: str, error: Exception) -> NoReturn:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        die(
            f"The certificate of {url} is not trusted: {reason.verify_message}.",
            hint="Is the clock right (date)? Behind a company's proxy its CA must be known to this machine: "
            "/usr/local/share/ca-certificates, then sudo update-ca-certificates",
            code=EX_PROTOCOL,
        )
    if isinstance(reason, FileNotFoundError):
        die(f"{url} is not there.", hint="Name a file that is: --installer-url", code=EX_UNAVAILABLE)
    die(
        f"There is no way to {url}: {_reason(reason)}.",
        hint="Is this machine on the network (ping -c1 1.1.1.1), and does it need a proxy "
        f"(export https_proxy=http://HOST:PORT)? {AGAIN}",
        code=EX_NOHOST,
    )


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {PATIENCE} s"
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _a_page(url: str) -> NoReturn:
    die(
        f"{url} answers with a page and not with an installer.",
        hint="A hotel's or company's network may put its login page in front: open the address in a browser. "
        "Or name another place: --installer-url",
        code=EX_PROTOCOL,
    )


def _no_room(directory: Path, need: str) -> NoReturn:
    free = shutil.disk_usage(directory).free
    die(
        f"The disk with {directory} is full: {free / 1e6:.0f} MB are left.{need}",
        hint="Free some space (du -xh ~ | sort -h | tail), or choose another disk: --prefix /PATH/miniforge3",
        code=EX_CANTCREAT,
    )


@dataclass
class Progress:
    """How far a transfer is, on a terminal in one line that changes, elsewhere in a line for each tenth.

    *done* and *whole* are bytes; *whole* is None when nobody said.
    """

    done: int
    whole: int | None
    _started: float = field(default_factory=time.monotonic)
    _begun_at: int = 0
    _shown: float = 0.0

    def __post_init__(self) -> None:
        self._begun_at = self.done

    def add(self, size: int) -> None:
        """*size* more bytes have come."""
        self.done += size
        if sys.stderr.isatty():
            if time.monotonic() - self._shown > 0.2:
                self._shown = time.monotonic()
                print(f"\r  {self}\x1b[K", end="", file=sys.stderr, flush=True)
        elif self.whole and int(self.done * 10 / self.whole) > int((self.done - size) * 10 / self.whole):
            say(f"  {self}")

    def end(self) -> None:
        """No more comes."""
        if sys.stderr.isatty():
            print(f"\r  {self}\x1b[K", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        speed = (self.done - self._begun_at) / max(time.monotonic() - self._started, 1e-3)
        of = f" of {self.whole / 1e6:.1f} MB ({100 * self.done / self.whole:.0f} %)" if self.whole else " MB"
        return f"{self.done / 1e6:.1f}{of}, {speed / 1e6:.1f} MB/s"
