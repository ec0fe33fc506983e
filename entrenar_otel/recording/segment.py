"""Segment: the append-only file that is also the write-ahead log, mapped into memory where that is safe.

One process owns a segment and holds its `flock`; a free lock says that the owner is dead, unless the
segment is detached or parked (`park`): then its process's lock says it. Header (16 kB): magic, `first_seq`,
`synced_to`, JSON length, checksum, JSON (whose run, where it goes, the clock), and in its second half two
addenda, each written once: which attempt the run turned out to be, and to what length the file was cut. Then
records (layout.py) up to the first zero word.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import adler32

import numpy as np
from numpy.typing import NDArray

from entrenar_otel.clock import Era
from entrenar_otel.recording.appended import Appended
from entrenar_otel.recording.file_systems import largest_file, writes_in_place
from entrenar_otel.recording.header import FORMAT, NewerFormat, SegmentError, check_format
from entrenar_otel.recording.layout import MAGIC
from entrenar_otel.recording.mapped import Mapped
from entrenar_otel.recording.parked import Parked
from entrenar_otel.recording.plain_file import open_plain
from entrenar_otel.recording.process.lock import OwnedFile, create_locked, let_go

SEGMENT_BYTES = 16 << 20
HEADER_BYTES = 16 << 10
#: What a disk that is nearly full is still asked for.
SMALLEST_BYTES = 256 << 10
_PAGE = 4096
#: What is read of a segment at once: it stays in the cache.
_PIECE = 256 << 10
_HEADER = struct.Struct("<8sqqII")  # magic, first_seq, synced_to, JSON length, JSON checksum
_SEQ = _SYNCED = struct.Struct("<q")
_SYNCED_AT = 16
_MAGIC = b"ENTRSEG1"
_ADDENDUM = struct.Struct("<8sII")  # magic, JSON length, JSON checksum
_ADDENDUM_MAGIC = b"ENTRADD1"
#: Where the addenda are; the header proper ends before them.
_CLAIM_AT, _CUT_AT = HEADER_BYTES // 2, HEADER_BYTES * 3 // 4
_ADDENDUM_BYTES = _CUT_AT - _CLAIM_AT
#: What a system says that maps no files, or cannot allocate their blocks beforehand.
_UNABLE = (errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EACCES)
#: By the device of a folder: whether its files may be mapped.
_in_place: dict[int, bool] = {}


def _checksum(first_seq: int, text: bytes) -> int:
    return adler32(text, adler32(_SEQ.pack(first_seq)))


def eras_of(header: Mapping[str, Any]) -> list[Era]:
    """The clock of a segment's owner, when the segment began."""
    later = [Era(int(since), int(anchor)) for since, anchor in header.get("clock_set", ())]
    return [Era(0, int(header["clock_ns"])), *later]


class Segment:
    """A segment as its owner sees it.

    `write` appends a record, whole or not at all; it raises ValueError, having kept nothing, when that does
    not fit. A signal handler may come in anywhere, record something itself, and raise: so each step may be
    done again by whoever needs it done.
    """

    def __init__(
        self, path: Path, file: OwnedFile, body: Mapped | Appended | Parked, header: dict[str, Any]
    ) -> None:
        self.path = path  # hidden until `install`
        self.body: Mapped | Appended | Parked = body
        self.size = body.size
        self.header = header
        self.write = body.write
        self._file = file
        self.first_seq = 0
        #: Records before this offset are counted, and how many they are: together, since they are set once.
        self.counted = (HEADER_BYTES, 0)
        self.notes = 0  # written by the owner, not counting what it begins with
        self.synced_to = HEADER_BYTES
        self.drained_to = HEADER_BYTES
        self.drained_rows = 0  # records before `drained_to`
        self.room = 0  # for records, behind what it begins with
        self.end: int | None = None  # where the records end, once sealed
        self._stopped_at: int | None = None
        self.is_parked = False
        self.opened_at = time.monotonic()

    @classmethod
    def create(cls, folder: Path, name: str, header: dict[str, Any], size: int = SEGMENT_BYTES) -> Segment:
        """Allocate and lock a new segment as `.NAME.new`; `install` makes it visible.

        A nearly full disk gets a smaller one, and keeps room for the Parquet file that frees it; so does a
        process whose files may not be that large. Raises OSError where even that does not fit.
        """
        if (limit := largest_file()) is not None and limit < size:
            if limit < min(size, SMALLEST_BYTES):
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(folder))
            size = limit // _PAGE * _PAGE
        while True:
            try:
                return cls._allocate(folder, name, header, size)
            except OSError as error:
                too_large = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                if not too_large or size <= SMALLEST_BYTES:
                    raise
                size = max(size // 4, SMALLEST_BYTES)

    @classmethod
    def _allocate(cls, folder: Path, name: str, header: dict[str, Any], size: int) -> Segment:
        disk = os.statvfs(folder)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < size + size // 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        path = folder / f".{name}.new"
        file = create_locked(path, passing=True)
        try:
            return cls(path, file, _body(folder, file, size), header)
        except BaseException:
            path.unlink(missing_ok=True)  # a failed allocation would leave the disk full
            let_go(file)
            raise

    def begin(self, number: int, first_seq: int, beginning: bytes = b"") -> None:
        """Write the header and the first records, while nobody sees the file.

        The last segment of a dead process must have the spans that were open.
        """
        self.header = {**self.header, "format": FORMAT, "number": number, "bytes": self.size}
        if self.body.grows:
            self.header["grows"] = True
        text = json.dumps(self.header).encode()
        if len(text) > _CLAIM_AT - _HEADER.size:
            raise SegmentError(f"a segment's header has {len(text)} bytes, at most {_CLAIM_AT} fit")
        self.first_seq = first_seq
        self.opened_at = time.monotonic()
        head = _HEADER.pack(_MAGIC, first_seq, HEADER_BYTES, len(text), _checksum(first_seq, text)) + text
        self.body.put(0, head.ljust(HEADER_BYTES, b"\0"))
        self.body.restart(HEADER_BYTES)
        self.write(beginning)
        self.room = self.size - HEADER_BYTES - len(beginning)

    def install(self, name: str) -> None:
        """Make the file visible as `NAME.seg`; done twice, it is done once.

        Names have numbers, which are given here and not at creation, so that those of a process have no gaps.
        Killed before it, the segment before this one is still the last.
        """
        visible = self.path.with_name(f"{name}.seg")
        try:
            self.path.rename(visible)
        except FileNotFoundError:
            if not visible.exists():
                raise
        self.path = visible

    @property
    def fd(self) -> int:
        """The descriptor that holds the lock."""
        return self._file.fileno()

    @property
    def count(self) -> int:
        """Records that are counted."""
        return self.counted[1]

    @property
    def is_unlinked(self) -> bool:
        """Whether the file was removed by somebody else: only this process has it yet."""
        return not self._file.closed and os.fstat(self.fd).st_nlink == 0

    @property
    def failure(self) -> OSError | None:
        """Why nothing can be written any more, where it is not that the segment is full."""
        return self.body.failure

    def prefault(self, start: int, length: int) -> None:
        """Have the kernel map these bytes before the loop touches them."""
        self.body.prefault(start, length)

    def claim(self, fields: dict[str, Any]) -> None:
        """State what was not known when the header was written: the attempt, and the lake by its own name."""
        self.header = {**self.header, **fields}
        if "number" in self.header:  # else `begin` writes the header
            self._add(_CLAIM_AT, fields)

    def _add(self, at: int, fields: dict[str, Any]) -> None:
        text = json.dumps(fields).encode()
        if len(text) > _ADDENDUM_BYTES - _ADDENDUM.size:
            raise SegmentError(f"an addendum has {len(text)} bytes, at most {_ADDENDUM_BYTES} fit")
        with self.path.open("rb+", buffering=0) as file:  # the text first: killed in between, there is none
            os.pwrite(file.fileno(), text, at + _ADDENDUM.size)
            os.pwrite(file.fileno(), _ADDENDUM.pack(_ADDENDUM_MAGIC, len(text), adler32(text)), at)

    @property
    def is_detached(self) -> bool:
        """Whether it takes neither descriptor nor memory."""
        return isinstance(self.body, Parked)

    def detach(self) -> None:
        """Close a sealed segment and wait for nothing: whoever needs its bytes reads the file.

        It is not cut, since somebody may be reading its mapping at this moment.
        """
        if self.is_unlinked:  # what is in it is nowhere else
            return
        if not self.is_detached:
            body, self.body = self.body, Parked(self.path, self.size)  # first: see `words`
            self.write = self.body.write
            body.close()
        let_go(self._file)

    def park(self) -> None:
        """Cut a sealed segment to what it holds and close it: it waits for a lake that is away."""
        if not self.is_parked:
            end = self.seal()
            self.sync()
            self._add(_CUT_AT, {"bytes": end})  # first: a file shorter than it says is damaged
            os.truncate(self.path, end)
            self.close()
            self.body = Parked(self.path, end)
            self.is_parked = True

    def words(self) -> NDArray[np.uint64]:
        """All 64-bit words, a view; release it before `close`. Of a detached or parked segment: a copy.

        Raises FileNotFoundError where such a one was recovered by somebody else.
        """
        body = self.body
        try:
            return body.words()
        except ValueError:
            if body is self.body:
                raise
            return self.body.words()  # it was detached just now

    def position(self) -> int:
        """Where the next record will be written, in bytes."""
        if self.end is not None:
            return self.end
        if self._stopped_at is not None:  # within `seal`
            return self._end_from(self._stopped_at)
        return self.body.position()

    def seal(self) -> int:
        """Refuse all further writes and return where the records end, in bytes.

        A thread may hold `write` and write between our look at the position and the end of writing: such a
        record is found behind the position.
        """
        if self.end is None:
            if self._stopped_at is None:
                self._stopped_at = self.body.position()
            self.body.stop()
            self.end = self._end_from(self._stopped_at)
        return self.end

    def _end_from(self, position: int) -> int:
        words = self.words()
        at = position // 8
        while at < len(words) and int(words[at]) >> 48 == MAGIC:
            at += int(words[at]) >> 32 & 0xFFFF
        return at * 8

    def sync(self) -> None:
        """Make everything durable against the death of the machine (does not hold the GIL)."""
        position = self.position()
        with self._opened() as fd:
            os.fdatasync(fd)
            self.synced_to = position
            with contextlib.suppress(OSError):  # it helps to tell what is lost, and a full disk may refuse it
                if self.is_detached:
                    os.pwrite(fd, _SYNCED.pack(position), _SYNCED_AT)
                else:
                    self.body.put(_SYNCED_AT, _SYNCED.pack(position))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the file, also where it is closed. Raises OSError, ValueError."""
        if not self.is_detached:
            yield self.fd
            return
        with self.path.open("rb+", buffering=0) as file:
            yield file.fileno()

    def close(self, *, unlink: bool = False) -> None:
        """Unmap and unlock; `unlink` also removes the file (its rows are in the lake)."""
        if unlink:
            self.path.unlink(missing_ok=True)
        self.body.close()
        let_go(self._file)


def _body(folder: Path, file: OwnedFile, size: int) -> Mapped | Appended:
    if _may_be_mapped(folder):
        try:
            return Mapped(file, size)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
    return Appended(file, size)


def _may_be_mapped(folder: Path) -> bool:
    device = os.stat(folder).st_dev
    if device not in _in_place:
        _in_place[device] = writes_in_place(folder)
    return _in_place[device]


def _addendum(head: bytes, at: int) -> dict[str, Any]:
    """What was stated there; nothing where it was not, or was not completed."""
    magic, length, checksum = _ADDENDUM.unpack_from(head, at)
    text = head[at + _ADDENDUM.size : at + _ADDENDUM.size + length]
    if magic != _ADDENDUM_MAGIC or length > _ADDENDUM_BYTES or adler32(text) != checksum:
        return {}
    fields = json.loads(text)
    return fields if isinstance(fields, dict) else {}


class Head(NamedTuple):
    """The beginning of a segment's file, and how long that is."""

    header: dict[str, Any]
    first_seq: int
    synced_to: int
    size: int
    page: bytes

    @classmethod
    def of(cls, file: io.RawIOBase, path: Path) -> Head:
        """Read it from an open file, which is behind it then. Raises OSError, SegmentError."""
        size = os.fstat(file.fileno()).st_size  # first: it may be parked meanwhile, and says so then
        head = file.read(HEADER_BYTES) or b""
        if len(head) < HEADER_BYTES:
            raise SegmentError(f"{path} has {len(head)} bytes, a segment at least {HEADER_BYTES}")
        magic, first_seq, synced_to, length, checksum = _HEADER.unpack_from(head)
        if magic != _MAGIC and magic[:-1] == _MAGIC[:-1] and magic[-1:].isdigit():
            raise NewerFormat(
                f"{path} was written by another version of entrenar-otel: it is left alone; "
                "update entrenar-otel to read it"
            )
        text = head[_HEADER.size : _HEADER.size + length]
        if magic != _MAGIC or _checksum(first_seq, text) != checksum:
            raise SegmentError(f"the header of {path} is damaged")
        try:
            header = check_format(path, json.loads(text))
            header = header | _addendum(head, _CLAIM_AT) | _addendum(head, _CUT_AT)
        except (ValueError, RecursionError):
            raise SegmentError(f"the header of {path} is no JSON") from None
        check_format(path, header)
        if first_seq < 0:
            raise SegmentError(f"the header of {path} has a negative number of its first record")
        return cls(header, first_seq, synced_to, size, head)


def _read_used(file: io.RawIOBase, data: NDArray[np.uint64]) -> int:
    """Read what is behind the header into `data`, which is zero; memory is taken only where the file is not.

    Returns how many bytes of `data` may be other than zero.
    """
    into, used, at = data.view(np.uint8), HEADER_BYTES, HEADER_BYTES
    piece, zeros = bytearray(_PIECE), bytes(_PIECE)
    while count := file.readinto(memoryview(piece)[: len(into) - at]):
        if piece[:count] != zeros[:count]:
            used = at + count
            into[at:used] = np.frombuffer(piece, np.uint8, count)
        at += count
    return -(-used // 8) * 8


@dataclass(frozen=True)
class Snapshot:
    """A segment as everybody else sees it: a copy of its bytes at one moment."""

    path: Path
    header: dict[str, Any]
    first_seq: int
    synced_to: int
    words: NDArray[np.uint64]
    cut_bytes: int  # bytes by which the file is shorter than it was made
    used: int  # bytes behind which all are zero, or more than that

    @classmethod
    def read(cls, path: Path, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> Snapshot | None:
        """Read a whole segment, or None where `wanted` refuses its header.

        A copy, since touching a mapped page of a file cut short is a SIGBUS. Raises
        FileNotFoundError (it was handed over), another OSError or SegmentError.
        """
        with open(open_plain(path), "rb", buffering=0) as file:
            head = Head.of(file, path)
            header, size = head.header, head.size
            if not wanted(header):
                return None
            whole = min(size, max(header["bytes"], HEADER_BYTES))  # more than it was made with is not ours
            data = np.zeros(whole // 8, dtype="<u8")
            data[: HEADER_BYTES // 8] = np.frombuffer(head.page, dtype="<u8")
            used = _read_used(file, data)
        cut_bytes = 0 if header.get("grows") else max(0, header["bytes"] - size)
        return cls(path, header, head.first_seq, head.synced_to, data, cut_bytes, used)

    @property
    def process(self) -> str:
        return str(self.header["process"])

    @property
    def number(self) -> int:
        return int(self.header["number"])
