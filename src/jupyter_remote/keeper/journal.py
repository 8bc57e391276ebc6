"""What a kernel said, on disk, numbered; bounded, the oldest goes first.

A directory of segments, ``NNN…`` named by the number of their first record. A record is a header
(:data:`RECORD`) and a body: for each frame its length (``<I``) and its bytes. The frames are those of
Jupyter's wire protocol from the signature on: signature, header, parent header, metadata, content,
buffers. ``identity`` is whom it is for: empty for everybody (iopub), the session of a browser, or a
ZMQ client's. Nothing is synced: the journal outlives processes, not the machine.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: mark, number, channel, count of frames, bytes of the identity, bytes of the body without the identity
RECORD = struct.Struct("<4sQBHHI")
MARK = b"JRK1"

#: Channels by number. ``asked`` is what a client sent to the kernel on shell: a cell and what it is for.
CHANNELS = ("iopub", "shell", "control", "stdin", "asked")
IOPUB, SHELL, CONTROL, STDIN, ASKED = range(5)

#: Of these many segments the journal consists, at most.
SEGMENTS = 8

_LENGTH = struct.Struct("<I")


class Record(NamedTuple):
    """One message."""

    number: int
    channel: int
    identity: bytes
    frames: list[bytes]


class Journal:
    """The writer. One process writes; any number read, in any process of the same user.

    :param directory: made when it is not there.
    :param size: bytes of all segments together, at least 64 KiB.
    """

    def __init__(self, directory: str | os.PathLike[str], size: int) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.directory = directory
        self.number = 0
        self._limit = max(size, 1 << 16) // SEGMENTS
        self._segments: list[str] = []
        #: bytes of the current segment
        self._written = 0
        #: why the last record could not be written, for whoever wants to tell
        self.failed = ""
        self._file = -1
        self._begin_segment()

    def append(self, channel: int, identity: bytes, frames: Sequence[bytes]) -> int:
        """Write a record; returns its number. When the disk is full the record is lost and the number is not.

        A reader sees a record whole or not at all: what is not complete at a segment's end is not read.
        """
        self.number += 1
        body = b"".join([piece for frame in frames for piece in (_LENGTH.pack(len(frame)), frame)])
        record = RECORD.pack(MARK, self.number, channel, len(frames), len(identity), len(body)) + identity + body
        if self._written and self._written + len(record) > self._limit:
            self._begin_segment()
        if self._file < 0:
            return self.number
        try:
            written = os.write(self._file, record)
            while written < len(record):
                written += os.write(self._file, record[written:])
        except OSError as error:
            self.failed = str(error.strerror)
            # Half a record would hide all that comes after it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._written)
        else:
            self.failed = ""
            self._written += len(record)
        return self.number

    @property
    def first(self) -> int:
        """The number of the oldest record that may still be there."""
        return int(os.path.basename(self._segments[0])) if self._segments else self.number + 1

    def _begin_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        path = os.path.join(self.directory, f"{max(self.number, 1):020}")
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._file = -1
            self.failed = str(error.strerror)
            return
        self._written = 0
        self._segments.append(path)
        while len(self._segments) > SEGMENTS:
            with contextlib.suppress(OSError):
                os.unlink(self._segments.pop(0))

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Reader:
    """Reads a journal, also while it is written."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = directory
        self._file = -1
        self._segment = 0
        self._offset = 0
        #: the number of the record at the offset, at least
        self._next = 0
        #: the one before it: whoever stopped there may want it again
        self._last: Record | None = None

    def read(self, start: int) -> Iterator[Record]:
        """The records from number *start* on, up to the last that is complete now.

        Records that were dropped are left out: the first one's number says so. Going on where the last
        call ended costs nothing.
        """
        if self._last is not None and self._last.number == start:
            yield self._last
            start += 1
        if (self._file < 0 or start < self._next) and not self._open(self._segment_with(start)):
            return
        while True:
            found = self._one()
            if found is None and (later := self._segment_after()):
                # The writer has gone on to another segment; meanwhile it may have finished this one.
                found = self._one()
                if found is None:
                    if not self._open(later):
                        return
                    continue
            if found is None:
                return
            if found.number >= start:
                yield found

    def _one(self) -> Record | None:
        head = os.pread(self._file, RECORD.size, self._offset)
        if len(head) < RECORD.size:
            return None
        mark, number, channel, count, identity_size, size = RECORD.unpack(head)
        if mark != MARK:
            return None
        body = os.pread(self._file, identity_size + size, self._offset + RECORD.size)
        if len(body) < identity_size + size:
            return None
        self._offset += RECORD.size + len(body)
        self._next = number + 1
        frames, at = [], identity_size
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(body, at)
            at += _LENGTH.size
            frames.append(body[at : at + length])
            at += length
        self._last = Record(number, channel, body[:identity_size], frames)
        return self._last

    def _segments(self) -> list[int]:
        try:
            return sorted(int(name) for name in os.listdir(self.directory) if name.isdigit())
        except OSError:
            return []

    def _segment_with(self, number: int) -> int:
        """The segment that has the record, or the oldest one that is left; 0 without any."""
        segments = self._segments()
        return max((segment for segment in segments if segment <= number), default=segments[0] if segments else 0)

    def _segment_after(self) -> int:
        return next((segment for segment in self._segments() if segment > self._segment), 0)

    def _open(self, segment: int) -> bool:
        """Go to the beginning of a segment, or of the next one that is left."""
        while segment:
            with contextlib.suppress(OSError):
                file = os.open(os.path.join(self.directory, f"{segment:020}"), os.O_RDONLY | os.O_CLOEXEC)
                self.close()
                self._file, self._segment, self._offset, self._next = file, segment, 0, segment
                return True
            # It was dropped in this moment.
            segment = next((later for later in self._segments() if later > segment), 0)
        return False

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
