"""Segment: the append-only memory-mapped file that is also the write-ahead log.

One process owns a segment and holds its `flock`; a free lock says that the owner is dead. Header
(16 kB): magic, `first_seq`, `synced_to`, JSON length, checksum, JSON (whose run, where it goes, the
clock). Then records (layout.py) up to the first zero word.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import adler32

import numpy as np
from numpy.typing import NDArray

from entrenar_otel.clock import Era
from entrenar_otel.recording.layout import MAGIC
from entrenar_otel.recording.lock import create_locked, let_go

SEGMENT_BYTES = 16 << 20
HEADER_BYTES = 16 << 10
#: What a disk that is nearly full is still asked for.
SMALLEST_BYTES = 256 << 10
_HEADER = struct.Struct("<8sqqII")  # magic, first_seq, synced_to, JSON length, JSON checksum
_SEQ = _SYNCED = struct.Struct("<q")
_SYNCED_AT = 16
_MAGIC = b"ENTRSEG1"
_MADV_POPULATE_WRITE = 23
_PREFAULT_CHUNK = 1 << 20


class SegmentError(Exception):
    """A file that is no (whole) segment; the message says what is wrong with it."""


def _checksum(first_seq: int, text: bytes) -> int:
    return adler32(text, adler32(_SEQ.pack(first_seq)))


def eras_of(header: Mapping[str, Any]) -> list[Era]:
    """The clock of a segment's owner, when the segment began."""
    later = [Era(int(since), int(anchor)) for since, anchor in header.get("clock_set", ())]
    return [Era(0, int(header["clock_ns"])), *later]


class Segment:
    """A segment as its owner sees it.

    `write` is the mmap's own method: one C call that checks the room, copies and advances, all
    under the GIL; it raises ValueError, having written nothing, when the record does not fit.
    """

    def __init__(self, path: Path, fd: int, size: int, header: dict[str, Any]) -> None:
        self.path = path  # hidden until `install`
        self.fd = fd
        self.size = size
        self.header = header
        # mmap keeps a duplicate of its descriptor until the last view of it dies. One that shared
        # the lock could keep it in a forked child, and the parent would seem to live for ever.
        map_fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.map = mmap.mmap(map_fd, size)
        finally:
            os.close(map_fd)
        self.write = self.map.write
        self.first_seq = 0
        self.counted_to = HEADER_BYTES  # records before this offset are in `count`
        self.count = 0
        self.notes = 0  # written by the owner, not counting what it begins with
        self.drained_to = HEADER_BYTES
        self.drained_rows = 0  # records before `drained_to`
        self.end: int | None = None  # where the records end, once sealed
        self.opened_at = time.monotonic()

    @classmethod
    def create(cls, folder: Path, name: str, header: dict[str, Any], size: int = SEGMENT_BYTES) -> Segment:
        """Allocate and lock a new segment as `.NAME.new`; `install` makes it visible.

        The blocks are allocated before they are mapped: writing to a sparse mapping on a full
        disk is a SIGBUS, which would kill the training. A nearly full disk gets a smaller one, and
        keeps room for the Parquet file that frees it. Raises OSError where even that does not fit.
        """
        while True:
            try:
                return cls._allocate(folder, name, header, size)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or size <= SMALLEST_BYTES:
                    raise
                size = max(size // 4, SMALLEST_BYTES)

    @classmethod
    def _allocate(cls, folder: Path, name: str, header: dict[str, Any], size: int) -> Segment:
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < size + size // 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        path = folder / f".{name}.new"
        fd = create_locked(path)
        try:
            os.posix_fallocate(fd, 0, size)
            return cls(path, fd, size, header)
        except BaseException:
            path.unlink(missing_ok=True)  # a failed allocation would leave the disk full
            let_go(fd)
            raise

    def install(self, name: str, number: int, first_seq: int, beginning: bytes = b"") -> None:
        """Write the header and the first records, then make the file visible as `NAME.seg`.

        In this order: the last segment of a dead process must have the spans that were open, and
        killed in between, the one before it is still the last. Numbers are given here, not at
        creation, so that those of a process have no gaps.
        """
        self.header = {**self.header, "number": number, "bytes": self.size}
        text = json.dumps(self.header).encode()
        if len(text) > HEADER_BYTES - _HEADER.size:
            raise SegmentError(f"a segment's header has {len(text)} bytes, at most {HEADER_BYTES} fit")
        self.first_seq = first_seq
        self.opened_at = time.monotonic()
        self.map[: _HEADER.size + len(text)] = (
            _HEADER.pack(_MAGIC, first_seq, HEADER_BYTES, len(text), _checksum(first_seq, text)) + text
        )
        self.map.seek(HEADER_BYTES)
        self.write(beginning)
        visible = self.path.with_name(f"{name}.seg")
        self.path.rename(visible)
        self.path = visible

    def prefault(self, start: int, length: int) -> None:
        """Have the kernel map these bytes before the loop touches them (1 ms of faults per 4 MB).

        In pieces, since Python holds the GIL meanwhile.
        """
        at, stop = start // mmap.PAGESIZE * mmap.PAGESIZE, min(start + length, self.size)
        while at < stop:
            try:
                self.map.madvise(_MADV_POPULATE_WRITE, at, min(_PREFAULT_CHUNK, stop - at))
            except (OSError, ValueError):  # a kernel before 5.14 faults page by page; or just closed
                return
            at += _PREFAULT_CHUNK
            time.sleep(0)

    def words(self) -> NDArray[np.uint64]:
        """All 64-bit words, a view; release it before `close`."""
        return np.frombuffer(self.map, dtype="<u8")

    def position(self) -> int:
        """Where the next record will be written, in bytes."""
        return self.end if self.end is not None else self.map.tell()

    def seal(self) -> int:
        """Refuse all further writes and return where the records end, in bytes.

        A thread may hold `write` and write between our `tell` and `seek`: such a record is
        found behind the position. After the seek every write raises.
        """
        if self.end is None:
            end = self.map.tell()
            self.map.seek(self.size)
            words = self.words()
            at = end // 8
            while at < len(words) and int(words[at]) >> 48 == MAGIC:
                at += int(words[at]) >> 32 & 0xFFFF
            self.end = at * 8
        return self.end

    def sync(self) -> None:
        """Make everything durable against the death of the machine (does not hold the GIL)."""
        position = self.position()
        os.fdatasync(self.fd)
        _SYNCED.pack_into(self.map, _SYNCED_AT, position)

    def close(self, *, unlink: bool = False) -> None:
        """Unmap and unlock; `unlink` also removes the file (its rows are in the lake)."""
        if unlink:
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(BufferError):  # a view is still alive: freed with it
            self.map.close()
        if self.fd >= 0:
            let_go(self.fd)
            self.fd = -1


@dataclass(frozen=True)
class Snapshot:
    """A segment as everybody else sees it: a copy of its bytes at one moment."""

    path: Path
    header: dict[str, Any]
    first_seq: int
    synced_to: int
    words: NDArray[np.uint64]
    cut_bytes: int  # bytes by which the file is shorter than it was made

    @classmethod
    def read(cls, path: Path, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> Snapshot | None:
        """Read a whole segment, or None where `wanted` refuses its header.

        A copy, since touching a mapped page of a file cut short is a SIGBUS. Raises
        FileNotFoundError (it was handed over) or SegmentError.
        """
        with path.open("rb", buffering=0) as file:
            head = file.read(HEADER_BYTES)
            if len(head) < HEADER_BYTES:
                raise SegmentError(f"{path} has {len(head)} bytes, a segment at least {HEADER_BYTES}")
            magic, first_seq, synced_to, length, checksum = _HEADER.unpack_from(head)
            text = head[_HEADER.size : _HEADER.size + length]
            if magic != _MAGIC or _checksum(first_seq, text) != checksum:
                raise SegmentError(f"the header of {path} is damaged")
            header = json.loads(text)
            if not wanted(header):
                return None
            size = os.fstat(file.fileno()).st_size
            data = np.zeros(size // 8, dtype="<u8")
            data[: HEADER_BYTES // 8] = np.frombuffer(head, dtype="<u8")
            file.readinto(data[HEADER_BYTES // 8 :].data.cast("B"))
        return cls(path, header, first_seq, synced_to, data, max(0, header["bytes"] - size))

    @property
    def process(self) -> str:
        return str(self.header["process"])

    @property
    def number(self) -> int:
        return int(self.header["number"])
